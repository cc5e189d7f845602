# SPDX-License-Identifier: Apache-2.0
"""A certificate authority that signs: its key, and the way from it up to its anchor.

Rules:
    1. An instance is consistent: the key is the signing certificate's, and each certificate up to
       the anchor may sign the one before and did.
    2. The anchor is what peers trust; it is never sent with a leaf.
    3. Whether it is valid now is asked when it signs.
    4. The private key appears in no `repr`, error or log line.

Spec: X509-SVID §3.2, §4.1, §4.3; RFC 5280 §4.2.1.1, §6.1.4.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import _pem
from kubetls_sdk._issuer import (
    PathError,
    check_certificate,
    check_issuer,
    check_signature,
    is_self_issued,
    key_identifiers_agree,
)
from kubetls_sdk._profile import MALFORMED, find_extension
from kubetls_sdk.exceptions import CredentialError
from webhook.issuance import leaf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kubetls_sdk.svid import PrivateKey

__all__ = ("MAX_AUTHORITY_CHAIN", "Authority", "signature_digest")

MAX_AUTHORITY_CHAIN = 8
"""Signing certificate and intermediates; with leaf and anchor, the SDK follows ten."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Authority:
    """Who signs.

    Attributes:
        certificates: The signing certificate, then its issuers without the anchor. When the
            signing certificate is the anchor, it alone.
        private_key: Of the signing certificate.
        anchor: The authority that peers have in their trust bundle.
        name: Fingerprint of the signing certificate: 20 hexadecimal digits of its SHA-256.
        chain_pem: What follows a leaf; empty when the signing certificate is the anchor.
        not_before: Aware UTC time from which the whole path is valid.
        not_after: Aware UTC time until which the whole path is valid.
        digest: That it signs with; None for Ed25519.
        template: The extensions that all of its leaves have in common.

    Raises:
        CredentialError: Key and certificates do not fit together, or are no authority's.
    """

    certificates: tuple[x509.Certificate, ...]
    private_key: PrivateKey
    anchor: x509.Certificate
    name: str = field(init=False)
    chain_pem: bytes = field(init=False)
    not_before: datetime = field(init=False)
    not_after: datetime = field(init=False)
    digest: hashes.HashAlgorithm | None = field(init=False)
    template: tuple[leaf.Extension, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.certificates) <= MAX_AUTHORITY_CHAIN:
            raise CredentialError(
                f"expected 1 to {MAX_AUTHORITY_CHAIN} certificates of an authority,"
                f" got {len(self.certificates)}"
            )
        path = self._path()
        _check_path(path)
        _check_key(path[0], self.private_key)
        is_anchor = len(path) == 1
        sent = () if is_anchor else self.certificates
        set_once = object.__setattr__
        set_once(self, "name", _fingerprint(path[0]))
        set_once(self, "chain_pem", b"".join(each.public_bytes(Encoding.PEM) for each in sent))
        set_once(self, "not_before", max(each.not_valid_before_utc for each in path))
        set_once(self, "not_after", min(each.not_valid_after_utc for each in path))
        set_once(self, "digest", signature_digest(self.private_key))
        set_once(self, "template", leaf.template(path[0]))

    @classmethod
    def from_pem(
        cls, certificate_pem: bytes, key_pem: bytes, anchor_pem: bytes | None = None
    ) -> Authority:
        """Read an authority from PEM.

        Args:
            certificate_pem: The signing certificate, then its issuers; the anchor may be the last.
            key_pem: Its key, unencrypted: PKCS#8, SEC1 or PKCS#1.
            anchor_pem: What peers trust; may be left out where `certificate_pem` ends in it
                self-signed.

        Raises:
            CredentialError: Malformed, or not one authority.
        """
        certificates = _load_certificates(certificate_pem, "certificate")
        if anchor_pem is not None:
            anchors = _load_certificates(anchor_pem, "anchor")
            if len(anchors) != 1:
                raise CredentialError(f"expected one anchor certificate, got {len(anchors)}")
            anchor = anchors[0]
        else:
            anchor = certificates[-1]
            if anchor.issuer != anchor.subject:
                raise CredentialError("expected the anchor of an authority that is no root")
        if len(certificates) > 1 and certificates[-1] == anchor:
            certificates = certificates[:-1]
        return cls(certificates, _load_key(key_pem), anchor)

    @property
    def certificate(self) -> x509.Certificate:
        """The signing certificate."""
        return self.certificates[0]

    def private_key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM. Secret: only for the Secret of the pool."""
        return self.private_key.private_bytes(
            Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def certificates_pem(self) -> bytes:
        """The signing certificate and its issuers, without the anchor when that is another one."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.certificates)

    def _path(self) -> tuple[x509.Certificate, ...]:
        if self.certificates[0] == self.anchor:
            if len(self.certificates) > 1:
                raise CredentialError("expected nothing above an anchor that signs")
            return self.certificates
        if self.anchor in self.certificates:
            raise CredentialError("expected the anchor apart from the certificates below it")
        return (*self.certificates, self.anchor)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Authority):
            return NotImplemented
        return self._path() == other._path()  # The certificate fixes the key.

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Authority {self.name} not_after={self.not_after:%Y-%m-%dT%H:%M:%SZ}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("expected no pickling of an Authority: it holds a private key")


def _check_path(path: Sequence[x509.Certificate]) -> None:
    try:
        for number, issuer in enumerate(path):
            # Validity is for whoever signs: any time within it will do here.
            check_certificate(issuer, now=issuer.not_valid_before_utc)
            below = sum(not is_self_issued(each) for each in path[:number])
            check_issuer(issuer, intermediates_below=below)
            if number:
                _check_step(path[number - 1], issuer)
    except PathError as err:
        raise CredentialError(f"not an authority: {err}") from err
    usage = find_extension(path[0].extensions, x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        raise CredentialError("expected KeyUsage keyCertSign in the certificate that signs")


def _check_step(child: x509.Certificate, issuer: x509.Certificate) -> None:
    if not key_identifiers_agree(child, issuer):
        raise PathError("the authority key identifier names another issuer than the next one")
    check_signature(child, issuer)


def _check_key(certificate: x509.Certificate, key: PrivateKey) -> None:
    if not isinstance(
        key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    ):
        raise CredentialError("expected an EC, RSA or Ed25519 key of an authority")
    if key.public_key() != certificate.public_key():
        raise CredentialError("expected the private key of the signing certificate, got another")


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()[:20]


def signature_digest(key: PrivateKey) -> hashes.HashAlgorithm | None:
    """The digest that a key signs with; None for Ed25519."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None  # It brings its own.
    if isinstance(key, ec.EllipticCurvePrivateKey):
        strengths = {"secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
        return strengths.get(key.curve.name, hashes.SHA256())
    return hashes.SHA256()


def _load_certificates(text: bytes, what: str) -> tuple[x509.Certificate, ...]:
    try:
        found = _pem.blocks(text)
        if not found or any(block.label != "CERTIFICATE" for block in found):
            raise CredentialError(f"expected PEM CERTIFICATE blocks as {what}")
        certificates = tuple(x509.load_der_x509_certificate(block.der) for block in found)
        _ = [(each.subject, each.issuer, each.extensions) for each in certificates]  # Readable?
    except (_pem.PemSyntaxError, *MALFORMED) as err:
        raise CredentialError(f"{what} PEM: {err}") from err
    return certificates


def _load_key(text: bytes) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, *MALFORMED):
        # The parser's own message may describe the key.
        raise CredentialError("expected one unencrypted private key in PEM") from None
    return key  # type: ignore[return-value]  # Its kind is checked with the certificate.
