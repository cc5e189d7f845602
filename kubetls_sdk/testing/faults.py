# SPDX-License-Identifier: Apache-2.0
"""The faults that a certificate or chain can be issued with, by name.

Rules:
    1. One fault, one deviation: apart from it the chain is right, so only that check can refuse it.
    2. `FAULTS` says of each fault in one clause what is wrong.
    3. A verifier of X.509-SVIDs refuses every fault but `no_aki`; OpenSSL alone takes most of them.

Spec: X509-SVID §2, §4, §5.2; SPIFFE-ID §2; RFC 5280 §4.2, §6.1.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.testing.chain_faults import CHAIN_FAULTS
from kubetls_sdk.testing.draft import Draft, key_usage, names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kubetls_sdk.testing.authority import Authority, IssuedChain

__all__ = ("FAULTS", "faulty_chain")

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_UNKNOWN = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1.1")


def faulty_chain(fault: str, draft: Draft, issuer: Authority) -> IssuedChain:
    """Issue a right draft with one named fault.

    Raises:
        ConfigurationError: The fault is unknown.
    """
    if fault in _LEAF_FAULTS:
        return issuer.sign(_LEAF_FAULTS[fault].put_in(draft))
    if fault in CHAIN_FAULTS:
        return CHAIN_FAULTS[fault].put_in(draft, issuer)
    raise ConfigurationError(f"expected a fault of {', '.join(sorted(FAULTS))}; got {fault!r}")


class _InLeaf(NamedTuple):
    meaning: str
    put_in: Callable[[Draft], Draft]


def _with_uris(draft: Draft, *uris: str) -> Draft:
    dns_names = draft.names.get_values_for_type(x509.DNSName)
    return draft.having(names(uris, dns_names), critical=False)


def _upper_case_domain(draft: Draft) -> Draft:
    domain, slash, path = draft.uri.removeprefix("spiffe://").partition("/")
    return _with_uris(draft, f"spiffe://{domain.upper()}{slash}{path}")


def _root_path_id(draft: Draft) -> Draft:
    domain = draft.uri.removeprefix("spiffe://").partition("/")[0]
    return _with_uris(draft, f"spiffe://{domain}")


def _too_long_uri(draft: Draft) -> Draft:
    return _with_uris(draft, draft.uri.ljust(2049, "a"))


def _with_usage(draft: Draft, usage: x509.KeyUsage, *, critical: bool = True) -> Draft:
    return draft.having(usage, critical=critical)


def _with_roles(draft: Draft, role: x509.ObjectIdentifier) -> Draft:
    return draft.having(x509.ExtendedKeyUsage([role]), critical=False)


def _valid_from(draft: Draft, offset: timedelta) -> Draft:
    return replace(draft, not_before=draft.not_before + offset, not_after=draft.not_after + offset)


def _expired(draft: Draft) -> Draft:
    lifetime = draft.not_after - draft.not_before
    return _valid_from(draft, -lifetime - _HOUR)


_LEAF_FAULTS: dict[str, _InLeaf] = {
    "no_san": _InLeaf(
        "no subject alternative name at all",
        lambda d: d.lacking(ExtensionOID.SUBJECT_ALTERNATIVE_NAME),
    ),
    "dns_only": _InLeaf(
        "a DNS SAN and no URI SAN",
        lambda d: d.having(names([], ["web.shop.svc"]), critical=False),
    ),
    "two_uris": _InLeaf(
        "a second SPIFFE ID as URI SAN", lambda d: _with_uris(d, d.uri, d.uri + "-admin")
    ),
    "not_spiffe_scheme": _InLeaf(
        "an https URI in place of the SPIFFE ID",
        lambda d: _with_uris(d, d.uri.replace("spiffe://", "https://", 1)),
    ),
    "root_path_id": _InLeaf("the SPIFFE ID of a trust domain, without a path", _root_path_id),
    "upper_case_domain": _InLeaf("the trust domain in upper case", _upper_case_domain),
    "trailing_slash": _InLeaf(
        "a slash at the end of the SPIFFE ID", lambda d: _with_uris(d, d.uri + "/")
    ),
    "trailing_newline": _InLeaf(
        "a line feed at the end of the SPIFFE ID", lambda d: _with_uris(d, d.uri + "\n")
    ),
    "nul_in_uri": _InLeaf(
        "a NUL and more text after the SPIFFE ID", lambda d: _with_uris(d, d.uri + "\0evil")
    ),
    "dot_segment": _InLeaf(
        "a '..' segment in the SPIFFE ID", lambda d: _with_uris(d, d.uri + "/../admin")
    ),
    "percent_encoding": _InLeaf(
        "a percent-encoded character in the SPIFFE ID", lambda d: _with_uris(d, d.uri + "%41")
    ),
    "query_in_uri": _InLeaf(
        "a query after the SPIFFE ID", lambda d: _with_uris(d, d.uri + "?admin=1")
    ),
    "port_in_uri": _InLeaf(
        "a port after the trust domain",
        lambda d: _with_uris(d, d.uri.replace("/ns/", ":8443/ns/", 1)),
    ),
    "uri_too_long": _InLeaf("a SPIFFE ID of 2,049 bytes", _too_long_uri),
    "ca_leaf": _InLeaf(
        "basicConstraints cA=true",
        lambda d: d.having(x509.BasicConstraints(ca=True, path_length=None), critical=True),
    ),
    "key_cert_sign": _InLeaf(
        "key usage with keyCertSign",
        lambda d: _with_usage(d, key_usage(digital_signature=True, key_cert_sign=True)),
    ),
    "crl_sign": _InLeaf(
        "key usage with cRLSign",
        lambda d: _with_usage(d, key_usage(digital_signature=True, crl_sign=True)),
    ),
    "no_key_usage": _InLeaf("no key usage", lambda d: d.lacking(ExtensionOID.KEY_USAGE)),
    "key_usage_not_critical": _InLeaf(
        "key usage that is not critical",
        lambda d: _with_usage(d, key_usage(digital_signature=True), critical=False),
    ),
    "no_digital_signature": _InLeaf(
        "key usage without digitalSignature",
        lambda d: _with_usage(d, _key_agreement_only()),
    ),
    "server_only_eku": _InLeaf(
        "extended key usage with serverAuth only",
        lambda d: _with_roles(d, ExtendedKeyUsageOID.SERVER_AUTH),
    ),
    "client_only_eku": _InLeaf(
        "extended key usage with clientAuth only",
        lambda d: _with_roles(d, ExtendedKeyUsageOID.CLIENT_AUTH),
    ),
    "expired": _InLeaf("not_after an hour ago or more", _expired),
    "not_yet_valid": _InLeaf("not_before a day from now", lambda d: _valid_from(d, _DAY)),
    "unknown_critical_extension": _InLeaf(
        "a critical extension that nobody knows",
        lambda d: d.having(x509.UnrecognizedExtension(_UNKNOWN, b"\x05\x00"), critical=True),
    ),
    "no_aki": _InLeaf(
        "no authority key identifier, which strict validators (X509_STRICT) refuse",
        lambda d: d.lacking(ExtensionOID.AUTHORITY_KEY_IDENTIFIER),
    ),
}


def _key_agreement_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        key_cert_sign=False,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=True,
        encipher_only=False,
        decipher_only=False,
    )


FAULTS: Mapping[str, str] = MappingProxyType(
    {name: fault.meaning for name, fault in _LEAF_FAULTS.items()}
    | {name: fault.meaning for name, fault in CHAIN_FAULTS.items()}
)
"""The name of each fault, and what is wrong in one clause."""
