# SPDX-License-Identifier: Apache-2.0
"""Name constraints: which names the CAs of a path may vouch for.

Rules:
    1. Every CA of the path counts, the anchor too; they bind all certificates below, but for
       self-issued CAs. The leaf is always bound.
    2. Matching is OpenSSL's. A name or constraint in a syntax that it would not understand, or
       that two implementations read differently, is refused, never skipped.
    3. The work is bounded: names times constraints may not exceed `MAX_COMPARISONS`.

Spec: RFC 5280 §4.2.1.10, §6.1.3 (b)(c), §6.1.4 (g); X509-SVID §4.2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from kubetls_sdk._distinguished_name import canonical, lower
from kubetls_sdk._issuer import PathError, describe, is_self_issued
from kubetls_sdk._profile import MALFORMED, find_extension

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("MAX_COMPARISONS", "check_names")

MAX_COMPARISONS = 2**14
"""Bound of the comparisons on one path; OpenSSL's is 2**20 for each pair of certificates."""

_URI_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9._-]+)(?::[0-9]+)?(?:/[^:]*)?")
_HOST_LIKE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")
_SMTP_UTF8_MAILBOX = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")


class _UnsupportedError(ValueError):
    """A name or a constraint cannot be compared with certainty."""


def check_names(path: Sequence[x509.Certificate]) -> None:
    """Check all names on a path, leaf first, against the constraints of the CAs above them.

    Raises:
        PathError: A name is excluded, not permitted, or not comparable.
    """
    budget = MAX_COMPARISONS
    for depth, authority in enumerate(path[1:], start=1):
        constraints = _constraints(authority)
        if constraints is None:
            continue
        subtrees = [*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())]
        for below, certificate in enumerate(path[:depth]):
            if below and is_self_issued(certificate):
                continue
            names = _names(certificate, is_leaf=below == 0)
            budget -= len(names) * len(subtrees)
            if budget < 0:
                raise PathError("too many names and name constraints on the path")
            for name in names:
                _check_name(name, constraints, authority)


def _constraints(authority: x509.Certificate) -> x509.NameConstraints | None:
    extension = find_extension(authority.extensions, x509.NameConstraints)
    if extension is None:
        return None
    # The parser drops `minimum` and `maximum` (RFC 5280 demands their defaults): what it has read
    # must be all that was written.
    if extension.value.public_bytes() not in authority.tbs_certificate_bytes:
        raise PathError(f"{describe(authority)} has name constraints with minimum or maximum")
    return extension.value


def _names(certificate: x509.Certificate, *, is_leaf: bool) -> list[x509.GeneralName]:
    try:
        alternatives = find_extension(certificate.extensions, x509.SubjectAlternativeName)
        names: list[x509.GeneralName] = [*alternatives.value] if alternatives is not None else []
        has_dns = any(isinstance(name, x509.DNSName) for name in names)
        if certificate.subject.rdns:
            names.append(x509.DirectoryName(certificate.subject))
            names.extend(_subject_mailboxes(certificate.subject))
        if is_leaf and not has_dns:
            names.extend(_subject_hosts(certificate.subject))
    except MALFORMED as err:
        raise PathError(f"{describe(certificate)} has a malformed name: {err}") from err
    return names


def _subject_mailboxes(subject: x509.Name) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        plain = x509.NameAttribute(NameOID.EMAIL_ADDRESS, str(attribute.value))  # an IA5String
        if x509.Name([plain]).public_bytes() != x509.Name([attribute]).public_bytes():
            raise _UnsupportedError("emailAddress is not an IA5String")
        found.append(x509.RFC822Name(str(attribute.value)))
    return found


def _subject_hosts(subject: x509.Name) -> list[x509.GeneralName]:
    """Common names that look like host names: OpenSSL holds them to DNS constraints."""
    found: list[x509.GeneralName] = []
    for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        value = str(attribute.value).rstrip("\0")
        if "\0" in value:
            raise _UnsupportedError("common name with NUL")
        if _HOST_LIKE.fullmatch(value):
            found.append(x509.DNSName(value))
    return found


def _check_name(
    name: x509.GeneralName, constraints: x509.NameConstraints, authority: x509.Certificate
) -> None:
    shown = _shown(name)
    try:
        permitted = _matches(name, constraints.permitted_subtrees)
        excluded = _matches(name, constraints.excluded_subtrees)
    except _UnsupportedError as err:
        raise PathError(f"name constraint of {describe(authority)}: {shown}: {err}") from err
    if permitted and not any(permitted):
        raise PathError(f"name constraint of {describe(authority)} does not permit {shown}")
    if any(excluded):
        raise PathError(f"name constraint of {describe(authority)} excludes {shown}")


def _shown(name: x509.GeneralName) -> str:
    value = name.value
    text = value.rfc4514_string() if isinstance(value, x509.Name) else str(value)
    return repr(text if len(text) <= 120 else f"{text[:120]}...")


def _matches(name: x509.GeneralName, subtrees: Sequence[x509.GeneralName] | None) -> list[bool]:
    """Compare a name with each constraint of its kind."""
    of_kind = [subtree for subtree in subtrees or () if _is_same_kind(name, subtree)]
    if not of_kind:
        return []
    match = _MATCHERS.get(type(name))
    if match is None:
        raise _UnsupportedError(f"constraints on {type(name).__name__} are not supported")
    return [match(name.value, subtree.value) for subtree in of_kind]


def _is_same_kind(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    if isinstance(name, x509.OtherName):
        if isinstance(subtree, x509.OtherName):
            return name.type_id == subtree.type_id
        # RFC 8398 §6: a mailbox in UTF-8 falls under email constraints, which we cannot apply.
        return isinstance(subtree, x509.RFC822Name) and name.type_id == _SMTP_UTF8_MAILBOX
    return type(name) is type(subtree)


def _is_dns_match(name: str, base: str) -> bool:
    if name.endswith(".") or base.endswith("."):
        raise _UnsupportedError("a DNS name with a trailing dot")
    name, base = lower(name), lower(base)
    if not base or name == base:
        return True
    return name.endswith(base if base.startswith(".") else f".{base}")


def _is_uri_match(uri: str, base: str) -> bool:
    found = _URI_HOST.fullmatch(uri)
    if found is None or not base:
        raise _UnsupportedError("a URI constraint needs a plain host on both sides")
    host, base = lower(found[1]), lower(base)
    if base.startswith("."):
        return len(host) > len(base) and host.endswith(base)
    return host == base


def _is_email_match(mailbox: str, base: str) -> bool:
    local, at, host = mailbox.rpartition("@")
    if not at or not base:
        raise _UnsupportedError("an email constraint needs a mailbox with a host")
    base_local, base_at, base_host = base.rpartition("@")
    if not base_at and base.startswith("."):
        return len(mailbox) > len(base) and lower(mailbox).endswith(lower(base))
    if base_local and base_local != local:
        return False
    return lower(host) == lower(base_host)


def _is_ip_match(address: Any, network: Any) -> bool:
    return bool(address.version == network.version and address in network)


def _is_directory_match(name: x509.Name, base: x509.Name) -> bool:
    wanted = canonical(base)
    return canonical(name)[: len(wanted)] == wanted


_MATCHERS: dict[type, Callable[[Any, Any], bool]] = {
    x509.DNSName: _is_dns_match,
    x509.UniformResourceIdentifier: _is_uri_match,
    x509.RFC822Name: _is_email_match,
    x509.IPAddress: _is_ip_match,
    x509.DirectoryName: _is_directory_match,
}
