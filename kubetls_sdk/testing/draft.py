# SPDX-License-Identifier: Apache-2.0
"""A certificate before it is signed: a value that faults are put into.

Rules:
    1. A fresh draft is right by every rule of the profile; what is wrong was put in by name.
    2. Times are whole seconds of UTC, as a certificate holds them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.testing.keys import signing_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kubetls_sdk.svid import PrivateKey

__all__ = ("MAX_COMMON_NAME", "Draft", "key_usage", "name_constraints", "names", "subject")

MAX_COMMON_NAME = 64
"""The upper bound of a common name in characters (RFC 5280, appendix A.1, ub-common-name)."""

_Extension = tuple[x509.ExtensionType, bool]


@dataclass(frozen=True, slots=True, repr=False)
class Draft:
    """What will be signed.

    Attributes:
        subject: The name of the holder.
        key: The holder's private key; only its public half goes into the certificate.
        not_before: Aware UTC time; cut to whole seconds.
        not_after: Aware UTC time; cut to whole seconds.
        extensions: Pairs of value and criticality, one of each kind.
    """

    subject: x509.Name
    key: PrivateKey
    not_before: datetime
    not_after: datetime
    extensions: tuple[_Extension, ...] = ()

    def having(self, value: x509.ExtensionType, *, critical: bool) -> Draft:
        """A copy with this extension, in place of one of the same kind."""
        return replace(self, extensions=(*self.lacking(value.oid).extensions, (value, critical)))

    def lacking(self, oid: x509.ObjectIdentifier) -> Draft:
        """A copy without the extension of this kind."""
        kept = tuple(pair for pair in self.extensions if pair[0].oid != oid)
        return replace(self, extensions=kept)

    @property
    def names(self) -> x509.SubjectAlternativeName:
        """The subject alternative name of a draft that has one."""
        return next(v for v, _ in self.extensions if isinstance(v, x509.SubjectAlternativeName))

    @property
    def uri(self) -> str:
        """The first URI SAN of a draft that has one."""
        return self.names.get_values_for_type(x509.UniformResourceIdentifier)[0]

    def signed_by(self, issuer: x509.Name, key: PrivateKey) -> x509.Certificate:
        """The certificate, with a fresh random serial number."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before.replace(microsecond=0))
            .not_valid_after(self.not_after.replace(microsecond=0))
        )
        for value, critical in self.extensions:
            builder = builder.add_extension(value, critical)
        return builder.sign(key, signing_digest(key))

    def with_leaf_profile(self, uri: str, dns_names: Sequence[str]) -> Draft:
        """A copy with the extensions of a leaf: one SPIFFE ID, both roles, no CA.

        Spec: X509-SVID §2, §4.1, §4.3, §4.4.
        """
        return (
            self.having(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .having(key_usage(digital_signature=True), critical=True)
            .having(x509.ExtendedKeyUsage(list(_BOTH_ROLES)), critical=False)
            .having(names([uri], dns_names), critical=not list(self.subject))
            .having(self._key_identifier(), critical=False)
        )

    def with_authority_profile(self, uri: str, path_length: int | None) -> Draft:
        """A copy with the extensions of a CA, as `X509_V_FLAG_X509_STRICT` wants them.

        Spec: X509-SVID §3.2, §4.1, §4.3; RFC 5280 §4.2.1.2, §4.2.1.3, §4.2.1.9.
        """
        return (
            self.having(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .having(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .having(names([uri]), critical=False)
            .having(self._key_identifier(), critical=False)
        )

    def _key_identifier(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())

    def __repr__(self) -> str:
        return f"<Draft {self.subject.rfc4514_string()}>"


_BOTH_ROLES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def subject(common_name: str) -> x509.Name:
    """The subject of a certificate of ours.

    Raises:
        ConfigurationError: The name is empty or longer than 64 characters.
    """
    if not 1 <= len(common_name) <= MAX_COMMON_NAME:
        raise ConfigurationError(
            f"expected a common name of 1 to {MAX_COMMON_NAME} characters, got {common_name!r}"
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """A key usage with only the named bits."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def names(uris: Sequence[str], dns_names: Sequence[str] = ()) -> x509.SubjectAlternativeName:
    """A subject alternative name; the texts go in as they are, however wrong.

    Raises:
        ConfigurationError: A text is not ASCII, which a certificate cannot hold.
    """
    for text in (*uris, *dns_names):
        if not text.isascii():
            raise ConfigurationError(f"expected a name in ASCII, got {text!r}")
    return x509.SubjectAlternativeName(
        [
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
            *(x509.DNSName(dns_name) for dns_name in dns_names),
        ]
    )


def name_constraints(
    *,
    permitted_uris: Sequence[str] = (),
    excluded_uris: Sequence[str] = (),
    permitted_dns: Sequence[str] = (),
    excluded_dns: Sequence[str] = (),
) -> x509.NameConstraints:
    """Name constraints of a CA; URI constraints are host names, with a leading dot for all below.

    Spec: RFC 5280 §4.2.1.10; X509-SVID §4.2.
    """

    def subtrees(uris: Sequence[str], dns_names: Sequence[str]) -> list[x509.GeneralName] | None:
        return list(names(uris, dns_names)) or None

    return x509.NameConstraints(
        permitted_subtrees=subtrees(permitted_uris, permitted_dns),
        excluded_subtrees=subtrees(excluded_uris, excluded_dns),
    )
