# SPDX-License-Identifier: Apache-2.0
"""The SPIFFE bundle document, as an endpoint serves it: a JWK Set to a bundle, and back.

Rules:
    1. UTF-8 JSON only, each key of an object once; what is malformed spoils the whole document.
    2. An authority that says it is of another trust domain spoils it too: the endpoint answers for
       somebody else.
    3. Entries of an unknown `use` or `kty` are ignored, and counted, so that somebody can be told.

Spec: SPIFFE Trust Domain and Bundle §4; X509-SVID §6.2; RFC 7517 §4; RFC 7518 §6; RFC 8037 §2.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kubetls_sdk._profile import find_extension
from kubetls_sdk.bundle import TrustBundle, has_known_key
from kubetls_sdk.exceptions import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("MAX_DOCUMENT_BYTES", "BundleDocument", "parse_bundle", "parse_document", "to_jwks")

MAX_DOCUMENT_BYTES = 1024 * 1024
"""Of a document; a bundle of a hundred authorities is a tenth of it."""
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True, slots=True)
class BundleDocument:
    """What a document says.

    Attributes:
        bundle: The usable part.
        ignored: How many entries have an unknown `use` or `kty`, or lack one.
    """

    bundle: TrustBundle
    ignored: int


def parse_document(trust_domain: TrustDomain, text: bytes) -> BundleDocument:
    """Parse a document of a trust domain that is known from elsewhere.

    Raises:
        BundleError: Malformed, or an authority claims to be of another trust domain.
    """
    try:
        plain = text.decode("utf-8")
    except UnicodeDecodeError:
        raise BundleError("expected a bundle document in UTF-8") from None
    if "\0" in plain:
        raise BundleError("expected a bundle document in UTF-8, got NUL characters")
    bundle = TrustBundle.from_jwks(trust_domain, text)
    _check_claims(bundle)
    entries = json.loads(plain.removeprefix("\ufeff"))["keys"]
    return BundleDocument(bundle, sum(not _is_known(entry) for entry in entries))


def parse_bundle(trust_domain: TrustDomain, text: bytes) -> TrustBundle:
    """Parse a bundle file: PEM, or a document.

    Raises:
        BundleError: Malformed, or an authority claims to be of another trust domain.
    """
    if text.lstrip()[:1] == b"{":
        return parse_document(trust_domain, text).bundle
    bundle = TrustBundle.from_pem(trust_domain, text)
    _check_claims(bundle)
    return bundle


def to_jwks(bundle: TrustBundle, *, sequence: int | None, refresh_hint: int | None) -> bytes:
    """Write a bundle as a document; the same bundle is always the same bytes.

    Args:
        bundle: The authorities, and the keys of JWT-SVIDs if it has some.
        sequence: `spiffe_sequence`; None leaves it out.
        refresh_hint: `spiffe_refresh_hint` in seconds; None leaves it out.

    Raises:
        BundleError: An authority has a key that JWK has no form for.
    """
    document: dict[str, Any] = {"keys": [_entry(each) for each in bundle.authorities]}
    for kid in sorted(bundle.jwt_authorities):
        document["keys"].append(dict(bundle.jwt_authorities[kid]))
    if sequence is not None:
        document["spiffe_sequence"] = sequence
    if refresh_hint is not None:
        document["spiffe_refresh_hint"] = refresh_hint
    return json.dumps(document, indent=2).encode() + b"\n"


def _is_known(entry: Any) -> bool:
    if not isinstance(entry, dict) or not has_known_key(entry):
        return False
    use = entry.get("use")
    return use == "x509-svid" or (use == "jwt-svid" and isinstance(entry.get("kid"), str))


def _check_claims(bundle: TrustBundle) -> None:
    """An authority that has a SPIFFE ID has that of its trust domain (X509-SVID §3.2)."""
    allowed = f"spiffe://{bundle.trust_domain}"
    for authority in bundle.authorities:
        names = find_extension(authority.extensions, x509.SubjectAlternativeName)
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else []
        for uri in uris:
            if uri.startswith("spiffe:") and uri.removesuffix("/") != allowed:
                raise BundleError(f"expected authorities of {allowed!r}, got one of {uri[:200]!r}")


def _entry(authority: x509.Certificate) -> dict[str, Any]:
    der = base64.b64encode(authority.public_bytes(Encoding.DER)).decode()
    return {"use": "x509-svid", **_key_parameters(authority), "x5c": [der]}


def _key_parameters(authority: x509.Certificate) -> Mapping[str, str]:
    key = authority.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        point, size = key.public_numbers(), (key.key_size + 7) // 8
        curve = _CURVES[key.curve.name]
        return {
            "kty": "EC",
            "crv": curve,
            "x": _integer(point.x, size),
            "y": _integer(point.y, size),
        }
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(raw)}
    raise BundleError("expected authorities with EC, RSA or Ed25519 keys")


def _integer(value: int, size: int | None = None) -> str:
    return _base64url(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
