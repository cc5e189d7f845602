# SPDX-License-Identifier: Apache-2.0
"""The faults that a certificate or chain can be issued with, by name.

Rules:
    1. One fault, one deviation: apart from it the chain is right, so only that check can refuse it.
    2. `FAULTS` says of each fault in one clause what is wrong.
    3. A verifier of X.509-SVIDs refuses every fault but `no_aki`; OpenSSL alone takes most of them.

Spec: X509-SVID §2, §4, §5.2; SPIFFE-ID §2; RFC 5280 §4.2, §6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.testing.authority import Authority, IssuedChain
from kubetls_sdk.testing.draft import Draft, key_usage, names
from kubetls_sdk.testing.keys import new_key

__all__ = ("FAULTS", "faulty_chain")

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_UNKNOWN = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1.1")

_LeafFault = Callable[[Draft], Draft]
_ChainFault = Callable[[IssuedChain, Draft, Authority], IssuedChain]


def faulty_chain(fault: str, draft: Draft, issuer: Authority) -> IssuedChain:
    """Issue a right draft with one named fault.

    Raises:
        ConfigurationError: The fault is unknown.
    """
    if fault in _LEAF_FAULTS:
        return issuer.sign(_LEAF_FAULTS[fault].put_in(draft))
    if fault in _CHAIN_FAULTS:
        return _CHAIN_FAULTS[fault].put_in(issuer.sign(draft), draft, issuer)
    raise ConfigurationError(f"expected a fault of {', '.join(sorted(FAULTS))}; got {fault!r}")


class _InLeaf(NamedTuple):
    meaning: str
    put_in: _LeafFault


class _InChain(NamedTuple):
    meaning: str
    put_in: _ChainFault


def _san(draft: Draft) -> x509.SubjectAlternativeName:
    return next(v for v, _ in draft.extensions if isinstance(v, x509.SubjectAlternativeName))


def _uri(draft: Draft) -> str:
    return _san(draft).get_values_for_type(x509.UniformResourceIdentifier)[0]


def _with_uris(draft: Draft, *uris: str) -> Draft:
    dns_names = _san(draft).get_values_for_type(x509.DNSName)
    return draft.having(names(uris, dns_names), critical=False)


def _upper_case_domain(draft: Draft) -> Draft:
    domain, slash, path = _uri(draft).removeprefix("spiffe://").partition("/")
    return _with_uris(draft, f"spiffe://{domain.upper()}{slash}{path}")


def _root_path_id(draft: Draft) -> Draft:
    domain = _uri(draft).removeprefix("spiffe://").partition("/")[0]
    return _with_uris(draft, f"spiffe://{domain}")


def _too_long_uri(draft: Draft) -> Draft:
    return _with_uris(draft, _uri(draft).ljust(2049, "a"))


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
        "a second SPIFFE ID as URI SAN", lambda d: _with_uris(d, _uri(d), _uri(d) + "-admin")
    ),
    "not_spiffe_scheme": _InLeaf(
        "an https URI in place of the SPIFFE ID",
        lambda d: _with_uris(d, _uri(d).replace("spiffe://", "https://", 1)),
    ),
    "root_path_id": _InLeaf("the SPIFFE ID of a trust domain, without a path", _root_path_id),
    "upper_case_domain": _InLeaf("the trust domain in upper case", _upper_case_domain),
    "trailing_slash": _InLeaf(
        "a slash at the end of the SPIFFE ID", lambda d: _with_uris(d, _uri(d) + "/")
    ),
    "trailing_newline": _InLeaf(
        "a line feed at the end of the SPIFFE ID", lambda d: _with_uris(d, _uri(d) + "\n")
    ),
    "nul_in_uri": _InLeaf(
        "a NUL and more text after the SPIFFE ID", lambda d: _with_uris(d, _uri(d) + "\0evil")
    ),
    "dot_segment": _InLeaf(
        "a '..' segment in the SPIFFE ID", lambda d: _with_uris(d, _uri(d) + "/../admin")
    ),
    "percent_encoding": _InLeaf(
        "a percent-encoded character in the SPIFFE ID", lambda d: _with_uris(d, _uri(d) + "%41")
    ),
    "query_in_uri": _InLeaf(
        "a query after the SPIFFE ID", lambda d: _with_uris(d, _uri(d) + "?admin=1")
    ),
    "port_in_uri": _InLeaf(
        "a port after the trust domain",
        lambda d: _with_uris(d, _uri(d).replace("/ns/", ":8443/ns/", 1)),
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


def _untrusted_root(_chain: IssuedChain, draft: Draft, issuer: Authority) -> IssuedChain:
    key = new_key("p256")
    root = replace(draft, subject=issuer.certificate.subject, key=key)
    uri = f"spiffe://{_uri(draft).removeprefix('spiffe://').partition('/')[0]}"
    impostor = Authority.self_signed(replace(root, extensions=()).with_authority_profile(uri, None))
    return impostor.sign(draft.having(impostor.key_identifier(), critical=False))


def _bad_signature(chain: IssuedChain, _draft: Draft, _issuer: Authority) -> IssuedChain:
    der = bytearray(chain.leaf.public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_certificate(bytes(der))
    return replace(chain, certificates=(broken, *chain.certificates[1:]))


def _missing_intermediate(_chain: IssuedChain, draft: Draft, issuer: Authority) -> IssuedChain:
    between = _authority_below(issuer, draft)
    whole = between.sign(_under(draft, between))
    return replace(whole, certificates=whole.certificates[:1])


def _leaf_as_issuer(chain: IssuedChain, draft: Draft, _issuer: Authority) -> IssuedChain:
    stolen = Authority(chain.leaf, chain.private_key, above=chain.certificates[1:])
    below = replace(draft, key=new_key("p256"))
    return stolen.sign(_under(below, stolen))


def _wrong_key(chain: IssuedChain, _draft: Draft, _issuer: Authority) -> IssuedChain:
    return replace(chain, private_key=new_key("p256"))


def _long_chain(_chain: IssuedChain, draft: Draft, issuer: Authority) -> IssuedChain:
    for _ in range(99):
        issuer = _authority_below(issuer, draft)
    return issuer.sign(_under(draft, issuer))


def _under(draft: Draft, issuer: Authority) -> Draft:
    return draft.having(issuer.key_identifier(), critical=False)


def _authority_below(issuer: Authority, draft: Draft) -> Authority:
    key = new_key("p256")
    uri = f"spiffe://{_uri(draft).removeprefix('spiffe://').partition('/')[0]}"
    below = replace(draft, key=key, extensions=()).with_authority_profile(uri, None)
    signed = issuer.sign(_under(below, issuer))
    return Authority(signed.leaf, key, above=signed.certificates[1:])


_CHAIN_FAULTS: dict[str, _InChain] = {
    "untrusted_root": _InChain(
        "signed by a root with the name of ours, which is not in the bundle", _untrusted_root
    ),
    "bad_signature": _InChain("one bit of the leaf's signature is wrong", _bad_signature),
    "missing_intermediate": _InChain("the intermediate is not presented", _missing_intermediate),
    "leaf_as_issuer": _InChain("signed with the key of another leaf", _leaf_as_issuer),
    "wrong_key": _InChain("the private key is not that of the leaf", _wrong_key),
    "long_chain": _InChain("a chain of 100 certificates", _long_chain),
}

FAULTS: Mapping[str, str] = MappingProxyType(
    {name: fault.meaning for name, fault in _LEAF_FAULTS.items()}
    | {name: fault.meaning for name, fault in _CHAIN_FAULTS.items()}
)
"""The name of each fault, and what is wrong in one clause."""
