# SPDX-License-Identifier: Apache-2.0
"""Our own identity document: an X.509-SVID with its private key.

Rules:
    1. An instance is consistent: the key belongs to the leaf and the chain is in order.
    2. Expiry is not part of it: an expired SVID is still a value; who uses it asks `is_valid_at`.
    3. The private key appears in no `repr`, error or log line.

Spec: X509-SVID §2, §3, §4.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kubetls_sdk import _pem
from kubetls_sdk._profile import MALFORMED, ProfileViolation, is_authority, leaf_spiffe_id
from kubetls_sdk.exceptions import SvidError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("MAX_CHAIN", "PrivateKey", "X509Svid")

MAX_CHAIN = 10
"""The longest chain that we present or follow, leaf and anchor included."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_KEY_LABELS = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"})
_MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class X509Svid:
    """A certificate chain and the private key that together prove one SPIFFE ID.

    Attributes:
        spiffe_id: The single URI SAN of the leaf.
        chain: Leaf first, then intermediates; 1 to `MAX_CHAIN` certificates.
        private_key: P-256, P-384 or P-521, Ed25519, or RSA of at least 2048 bits.

    Raises:
        SvidError: The key does not fit, the chain is out of order, or the profile is broken.
    """

    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey
    spiffe_id: SpiffeId = field(init=False)

    def __post_init__(self) -> None:
        _check_chain(self.chain)
        try:
            object.__setattr__(self, "spiffe_id", leaf_spiffe_id(self.chain[0]))
        except ProfileViolation as err:
            raise SvidError(f"certificate is not an X.509-SVID: {err}") from err
        _check_key(self.private_key)
        if self.private_key.public_key() != _public_key(self.chain[0]):
            raise SvidError("expected the private key of the leaf certificate, got another key")

    @classmethod
    def from_pem(cls, *, certificates: bytes, private_key: bytes) -> X509Svid:
        """Read an SVID from PEM: the chain leaf first, the key as PKCS#8, SEC1 or PKCS#1.

        The two may be the same text (a credential bundle, `PRIVATE KEY` then `CERTIFICATE`s).

        Raises:
            SvidError: Either text is malformed, the key is encrypted, or the two do not fit.
        """
        return cls(_load_chain(certificates), _load_key(private_key))

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that carries the SPIFFE ID."""
        return self.chain[0]

    @property
    def not_before(self) -> datetime:
        """Aware UTC time from which every certificate of the chain is valid."""
        return max(certificate.not_valid_before_utc for certificate in self.chain)

    @property
    def not_after(self) -> datetime:
        """Aware UTC time until which every certificate of the chain is valid."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)

    @property
    def dns_names(self) -> tuple[str, ...]:
        """The DNS SANs of the leaf, as the signer wrote them."""
        names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(names.get_values_for_type(x509.DNSName))

    def is_valid_at(self, now: datetime) -> bool:
        """Tell whether `now` (aware) lies within the validity of the whole chain."""
        return self.not_before <= now <= self.not_after

    def certificates_pem(self) -> bytes:
        """The chain as PEM, leaf first."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    def private_key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM. Secret: only for a TLS stack."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, X509Svid):
            return NotImplemented
        return self.chain == other.chain  # The leaf fixes the key.

    def __hash__(self) -> int:
        return hash(self.chain)

    def __repr__(self) -> str:
        return (
            f"<X509Svid {self.spiffe_id} serial={self.leaf.serial_number:x}"
            f" not_after={self.not_after:%Y-%m-%dT%H:%M:%SZ}>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("expected no pickling of an X509Svid: it holds a private key")


def _load_chain(text: bytes) -> tuple[x509.Certificate, ...]:
    try:
        found = [block.der for block in _pem.blocks(text) if block.label == "CERTIFICATE"]
    except _pem.PemSyntaxError as err:
        raise SvidError(f"certificate PEM: {err}") from err
    if not found:
        raise SvidError("expected a PEM CERTIFICATE block, got none")
    if len(found) > MAX_CHAIN:
        raise SvidError(f"expected at most {MAX_CHAIN} certificates, got {len(found)}")
    try:
        return tuple(x509.load_der_x509_certificate(der) for der in found)
    except MALFORMED as err:
        raise SvidError(f"certificate PEM: expected X.509 certificates: {err}") from err


def _load_key(text: bytes) -> PrivateKey:
    try:
        found = [block for block in _pem.blocks(text) if block.label.endswith("PRIVATE KEY")]
    except _pem.PemSyntaxError as err:
        raise SvidError(f"private key PEM: {err}") from err
    if len(found) != 1:
        raise SvidError(f"expected exactly one PEM private key block, got {len(found)}")
    label = found[0].label
    if label == "ENCRYPTED PRIVATE KEY":
        raise SvidError("expected an unencrypted private key, got an encrypted one")
    if label not in _KEY_LABELS:
        raise SvidError(f"expected a PKCS#8, SEC1 or PKCS#1 private key, got a {label!r} block")
    try:
        key = serialization.load_pem_private_key(_pem.encode(label, found[0].der), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The parser's own message may describe the key; the block's name is enough.
        raise SvidError(f"the {label!r} block does not hold a usable private key") from None
    return _check_key(key)


def _public_key(leaf: x509.Certificate) -> object:
    try:
        return leaf.public_key()
    except MALFORMED as err:
        raise SvidError(f"certificate has an unusable public key: {err}") from err


def _check_key(key: object) -> PrivateKey:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name in ("secp256r1", "secp384r1", "secp521r1"):
            return key
        raise SvidError(f"expected an EC key on P-256, P-384 or P-521, got {key.curve.name!r}")
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size >= _MIN_RSA_BITS:
            return key
        raise SvidError(f"expected an RSA key of at least 2048 bits, got {key.key_size}")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise SvidError("expected an EC, Ed25519 or RSA private key, got another algorithm")


def _check_chain(chain: Sequence[x509.Certificate]) -> None:
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise SvidError(f"expected 1 to {MAX_CHAIN} certificates, got {len(chain)}")
    for number, (child, issuer) in enumerate(itertools.pairwise(chain), start=2):
        try:
            if not is_authority(issuer):
                raise SvidError(
                    f"expected certificate {number} to be an intermediate CA, got a leaf"
                )
            child.verify_directly_issued_by(issuer)
        except (*MALFORMED, InvalidSignature) as err:
            raise SvidError(
                f"expected leaf-first order, but certificate {number} did not sign the one before"
            ) from err
