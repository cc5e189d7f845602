# SPDX-License-Identifier: Apache-2.0
"""One CA certificate with its key, and the chains that it signs.

Rules:
    1. An authority knows its way up: what a peer must be shown beside the leaf.
    2. The private key appears in no `repr`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from kubetls_sdk.svid import PrivateKey
    from kubetls_sdk.testing.draft import Draft

__all__ = ("Authority", "IssuedChain")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class IssuedChain:
    """A chain and its key, unchecked: what an attacker would present.

    Attributes:
        certificates: Leaf first, then intermediates; the root is not part of it.
        private_key: The key of the first certificate, if no fault says otherwise.
    """

    certificates: tuple[x509.Certificate, ...]
    private_key: PrivateKey

    @property
    def leaf(self) -> x509.Certificate:
        """The first certificate."""
        return self.certificates[0]

    def certificates_pem(self) -> bytes:
        """The chain as PEM, leaf first."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.certificates)

    def private_key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"<IssuedChain certificates={len(self.certificates)}>"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Authority:
    """A root or an intermediate that signs.

    Attributes:
        certificate: The CA certificate.
        private_key: Its key.
        above: The certificates between this one and the root: its issuer first, the root excluded.
        is_root: True for a self-signed one.
    """

    certificate: x509.Certificate
    private_key: PrivateKey
    above: tuple[x509.Certificate, ...] = ()
    is_root: bool = False

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What is presented after a leaf of this authority; empty for a root."""
        return () if self.is_root else (self.certificate, *self.above)

    @classmethod
    def self_signed(cls, draft: Draft) -> Authority:
        """Make a root of a draft."""
        identifier = x509.SubjectKeyIdentifier.from_public_key(draft.key.public_key())
        aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        certificate = draft.having(aki, critical=False).signed_by(draft.subject, draft.key)
        return cls(certificate, draft.key, is_root=True)

    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """The authority key identifier of what this authority signs."""
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private_key.public_key())

    def sign(self, draft: Draft) -> IssuedChain:
        """Sign a draft as it is."""
        certificate = draft.signed_by(self.certificate.subject, self.private_key)
        return IssuedChain((certificate, *self.chain), draft.key)

    def __repr__(self) -> str:
        kind = "root" if self.is_root else "intermediate"
        return f"<Authority {kind} {self.certificate.subject.rfc4514_string()}>"
