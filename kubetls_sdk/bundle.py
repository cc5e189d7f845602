# SPDX-License-Identifier: Apache-2.0
"""Trust bundles: the authorities of a trust domain, and the set of all domains that we trust.

Rules:
    1. A bundle belongs to exactly one trust domain; bundles of two domains are never merged.
    2. It is a set: order and duplicates mean nothing (the kubelet shuffles the file on purpose).
    3. An empty bundle is a legal value that trusts nobody.
    4. Only CA certificates are authorities: a leaf in a bundle would vouch for itself.

Spec: SPIFFE Trust Domain and Bundle §3, §4; X509-SVID §6.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import _pem
from kubetls_sdk._openssl import check_authorities
from kubetls_sdk._profile import MALFORMED, is_authority
from kubetls_sdk.exceptions import BundleError
from kubetls_sdk.spiffe_id import TrustDomain

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("TrustBundle", "TrustBundleSet")

_KEY_TYPES = frozenset({"EC", "OKP", "RSA"})
_MAX_INTEGER = 2**64 - 1  # the standard asks for 64 bits at least; SPIRE and go-spiffe use them all


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class TrustBundle:
    """The authorities of one trust domain.

    Attributes:
        trust_domain: The domain that these authorities may vouch for.
        authorities: CA certificates without duplicates, in a stable order; may be empty.
        sequence: `spiffe_sequence` of a JWKS document, or None.
        refresh_hint: `spiffe_refresh_hint` in seconds, or None.
        jwt_authorities: `kid` to JWK of the keys that sign JWT-SVIDs of this domain.

    Raises:
        BundleError: A certificate is not a CA, or OpenSSL does not take it.
    """

    trust_domain: TrustDomain
    authorities: tuple[x509.Certificate, ...]
    sequence: int | None = None
    refresh_hint: int | None = None
    jwt_authorities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _by_der: Mapping[bytes, x509.Certificate] = field(init=False)

    def __post_init__(self) -> None:
        by_der = {authority.public_bytes(Encoding.DER): authority for authority in self.authorities}
        for authority in by_der.values():
            _check_authority(authority, self.trust_domain)
        check_authorities(by_der.values())
        ordered = dict(sorted(by_der.items(), key=lambda item: hashlib.sha256(item[0]).digest()))
        object.__setattr__(self, "authorities", tuple(ordered.values()))
        object.__setattr__(self, "_by_der", MappingProxyType(ordered))
        object.__setattr__(self, "jwt_authorities", MappingProxyType(dict(self.jwt_authorities)))

    @classmethod
    def parse(cls, trust_domain: TrustDomain, text: bytes) -> TrustBundle:
        """Read a bundle that is either PEM or a SPIFFE JWKS document, told apart by content.

        Raises:
            BundleError: The text is neither, or malformed. An empty text is an empty bundle.
        """
        if text.lstrip()[:1] == b"{":
            return cls.from_jwks(trust_domain, text)
        return cls.from_pem(trust_domain, text)

    @classmethod
    def from_pem(cls, trust_domain: TrustDomain, text: bytes) -> TrustBundle:
        """Read PEM `CERTIFICATE` blocks; an empty or blank text is an empty bundle.

        Raises:
            BundleError: A block is malformed, not a certificate, or not a CA; or there is text
                without any block.
        """
        try:
            found = _pem.blocks(text)
        except _pem.PemSyntaxError as err:
            raise BundleError(f"trust bundle PEM: {err}") from err
        if not found and text.strip():
            raise BundleError("expected PEM CERTIFICATE blocks or an empty file, got other text")
        for number, block in enumerate(found, start=1):
            if block.label != "CERTIFICATE":
                raise BundleError(f"expected a CERTIFICATE as block {number}, got {block.label!r}")
        return cls(trust_domain, tuple(_load(block.der) for block in found))

    @classmethod
    def from_jwks(cls, trust_domain: TrustDomain, text: bytes) -> TrustBundle:
        """Read a SPIFFE bundle document (a JWK Set with the SPIFFE parameters).

        Entries with an unknown or missing `use` or `kty` are ignored, as the standard asks.

        Raises:
            BundleError: Not JSON, duplicate keys, no `keys`, or a malformed X.509 entry.

        Spec: SPIFFE Trust Domain and Bundle §4.1, §4.2; X509-SVID §6.2.
        """
        document = _load_json(text)
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise BundleError("expected a JWK Set with a 'keys' array")
        entries = [each for each in keys if isinstance(each, dict) and has_known_key(each)]
        return cls(
            trust_domain,
            tuple(_x509_authority(e) for e in entries if e.get("use") == "x509-svid"),
            sequence=_integer(document, "spiffe_sequence"),
            refresh_hint=_integer(document, "spiffe_refresh_hint"),
            jwt_authorities={
                entry["kid"]: entry
                for entry in entries
                if entry.get("use") == "jwt-svid" and isinstance(entry.get("kid"), str)
            },
        )

    def to_pem(self) -> bytes:
        """The authorities as PEM; empty bytes for an empty bundle."""
        return b"".join(authority.public_bytes(Encoding.PEM) for authority in self.authorities)

    def authority(self, der: bytes) -> x509.Certificate | None:
        """Return the authority with exactly this DER encoding, or None."""
        return self._by_der.get(der)

    def __contains__(self, der: object) -> bool:
        return der in self._by_der

    def __len__(self) -> int:
        return len(self.authorities)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrustBundle):
            return NotImplemented
        return (
            self.trust_domain == other.trust_domain
            and self._by_der.keys() == other._by_der.keys()
            and self.jwt_authorities == other.jwt_authorities
            and self.sequence == other.sequence
            and self.refresh_hint == other.refresh_hint
        )

    def __hash__(self) -> int:
        return hash((self.trust_domain, frozenset(self._by_der)))

    def __repr__(self) -> str:
        return f"<TrustBundle {self.trust_domain} authorities={len(self.authorities)}>"


class TrustBundleSet(Mapping[TrustDomain, TrustBundle]):
    """All trust bundles that a workload has, one per trust domain; immutable.

    Args:
        bundles: One bundle for each domain.

    Raises:
        BundleError: Two bundles are of one trust domain: they are never merged.
    """

    __slots__ = ("_bundles",)

    def __init__(self, bundles: Iterable[TrustBundle] = ()) -> None:
        found: dict[TrustDomain, TrustBundle] = {}
        for bundle in bundles:
            if bundle.trust_domain in found:
                raise BundleError(f"expected one bundle of {str(bundle.trust_domain)!r}, got two")
            found[bundle.trust_domain] = bundle
        self._bundles = found

    def __getitem__(self, trust_domain: TrustDomain) -> TrustBundle:
        return self._bundles[trust_domain]

    def __iter__(self) -> Iterator[TrustDomain]:
        return iter(self._bundles)

    def __len__(self) -> int:
        return len(self._bundles)

    def anchor(self, trust_domain: TrustDomain, der: bytes) -> x509.Certificate | None:
        """Return the authority with this DER in the bundle *of that domain*, or None."""
        bundle = self._bundles.get(trust_domain)
        return None if bundle is None else bundle.authority(der)

    def authorities(self) -> Iterator[x509.Certificate]:
        """All authorities of all domains, for the union store that OpenSSL builds paths in."""
        for bundle in self._bundles.values():
            yield from bundle.authorities

    def __repr__(self) -> str:
        return f"<TrustBundleSet {', '.join(sorted(map(str, self._bundles)))}>"


def has_known_key(entry: Mapping[str, Any]) -> bool:
    """Tell whether the `kty` of an entry of a JWK Set is one that we know (§4.2.1)."""
    kind = entry.get("kty")
    return isinstance(kind, str) and kind in _KEY_TYPES


def _check_authority(authority: x509.Certificate, trust_domain: TrustDomain) -> None:
    try:
        subject = authority.subject.rfc4514_string()
        is_ca = is_authority(authority)
    except MALFORMED as err:
        raise BundleError(f"an authority of {trust_domain} is malformed: {err}") from err
    if not is_ca:
        raise BundleError(f"expected a CA as authority of {trust_domain}, got {subject!r}")


def _load(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except MALFORMED as err:
        raise BundleError(f"expected an X.509 certificate: {err}") from err


def _load_json(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as err:
        raise BundleError(f"expected a JSON document: {err}") from err
    if not isinstance(document, dict):
        raise BundleError("expected a JSON object")
    return document


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key in a JSON object")
    return found


def _x509_authority(entry: dict[str, Any]) -> x509.Certificate:
    values = entry.get("x5c")
    if not isinstance(values, list) or not values or not isinstance(values[0], str):
        raise BundleError("expected one certificate in 'x5c' of an x509-svid entry")
    try:
        return _load(base64.b64decode(values[0], validate=True))
    except ValueError as err:
        raise BundleError("expected base64 DER in 'x5c' of an x509-svid entry") from err


def _integer(document: dict[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_INTEGER:
        raise BundleError(f"expected a non-negative integer in {name!r}, got {value!r}")
    return value
