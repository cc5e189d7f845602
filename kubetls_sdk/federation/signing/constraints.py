# SPDX-License-Identifier: Apache-2.0
"""What a partner's CA may vouch for under a certificate of ours: as X.509, and in words.

Rules:
    1. URIs: of the partner's trust domain and nothing else.
    2. DNS names and subjects: those that are given and below; without any, none. IP and e-mail
       addresses: none.
    3. A name that verifiers read differently is refused here, since it would not constrain.
    4. The words are made from the same values as the extension.

A kind of name is excluded as a whole by the subtree that everything is in: the empty DNS name, the
empty directory name, both address families. There is none for e-mail addresses, so the only one
that is permitted is one that cannot exist (RFC 2606).

Spec: RFC 5280 §4.2.1.10; X509-SVID §4.2.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("PartnerConstraints",)

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_MAX_HOST = 253
_NO_MAILBOX = "nobody@partner.invalid"
_EVERY_ADDRESS = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_CLUSTER_NAMES = ("svc", "cluster.local")
_MAX_PATH_LENGTH = 5


@dataclass(frozen=True, kw_only=True)
class PartnerConstraints:
    """The constraints.

    Attributes:
        trust_domain: The partner's.
        dns_names: Each permits itself and all below it.
        subjects: Each permits the subjects that begin with it; None leaves subjects alone, which
            is for partners whose leaves have subjects of any form, and for verifiers in Go, which
            refuse constraints on them.
        path_length: How many CAs may be below the partner's.

    Raises:
        ConfigurationError: A name cannot be constrained.
    """

    trust_domain: TrustDomain
    dns_names: tuple[str, ...] = ()
    subjects: tuple[x509.Name, ...] | None = ()
    path_length: int = 0

    def __post_init__(self) -> None:
        _check_host(str(self.trust_domain), "trust domain")
        for name in self.dns_names:
            _check_dns_name(name)
        for subject in self.subjects or ():
            if not subject.rdns:
                raise ConfigurationError("expected a subject to permit, got an empty one")
        if not 0 <= self.path_length <= _MAX_PATH_LENGTH:
            raise ConfigurationError(f"expected a path length of at most {_MAX_PATH_LENGTH}")

    def extension(self) -> x509.NameConstraints:
        """The name constraints; to be critical."""
        permitted: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(str(self.trust_domain)),
            x509.RFC822Name(_NO_MAILBOX),
            *map(x509.DNSName, self.dns_names),
            *map(x509.DirectoryName, self.subjects or ()),
        ]
        excluded: list[x509.GeneralName] = [x509.IPAddress(each) for each in _EVERY_ADDRESS]
        if not self.dns_names:
            excluded.append(x509.DNSName(""))
        if self.subjects == ():
            excluded.append(x509.DirectoryName(x509.Name([])))
        return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=excluded)

    def words(self) -> Iterator[str]:
        """What is allowed, a line for each kind of name."""
        yield f"SPIFFE IDs: spiffe://{self.trust_domain}/..., and of no other trust domain"
        yield f"DNS names: {_listed(self.dns_names, 'and all names below')}"
        if self.subjects is None:
            yield "subjects: any (they are left alone; nothing should decide by them)"
        else:
            given = [each.rfc4514_string() for each in self.subjects]
            none = "none: certificates with a subject are refused"
            yield f"subjects: {_listed(given, 'and what begins with them', none)}"
        yield "IP addresses: none"
        yield "e-mail addresses: none"
        yield f"intermediate CAs below the partner's: {self.path_length or 'none'}"


def _listed(names: object, more: str, none: str = "none") -> str:
    given = [repr(each) for each in names] if isinstance(names, list | tuple) else []
    return f"{', '.join(given)} {more}" if given else none


def _check_host(name: str, what: str) -> None:
    if len(name) > _MAX_HOST or not _HOST.fullmatch(name):
        raise ConfigurationError(
            f"expected a {what} that name constraints can express, such as partner.example:"
            f" labels of a-z, 0-9, '-' and '_' with single dots between; got {name!r}"
        )
    if name.rpartition(".")[2].isdigit():
        raise ConfigurationError(
            f"expected a {what} that is no IP address, which URI constraints do not cover;"
            f" got {name!r}"
        )


def _check_dns_name(name: str) -> None:
    _check_host(name, "DNS name")
    if "." not in name:
        raise ConfigurationError(f"expected a DNS name of two labels or more, got {name!r}")
    for ours in _CLUSTER_NAMES:
        if name == ours or name.endswith(f".{ours}"):
            raise ConfigurationError(
                f"expected no DNS name of services in the cluster, which are ours; got {name!r}"
            )
