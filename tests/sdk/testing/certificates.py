# SPDX-License-Identifier: Apache-2.0
"""Assertions about the role of a certificate: every bit and its criticality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from collections.abc import Iterable

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


def extension(certificate: x509.Certificate, kind: type) -> tuple[object, bool]:
    found = certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


def usages(certificate: x509.Certificate) -> set[str]:
    value, _ = extension(certificate, x509.KeyUsage)
    return {name for name in USAGES if getattr(value, name)}


def uris(certificate: x509.Certificate) -> list[str]:
    names, _ = extension(certificate, x509.SubjectAlternativeName)
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def assert_is_svid_leaf(certificate: x509.Certificate, spiffe_id: str, dns: Iterable[str]) -> None:
    assert extension(certificate, x509.BasicConstraints) == (
        x509.BasicConstraints(False, None),
        True,
    )
    assert usages(certificate) == {"digital_signature"}
    assert extension(certificate, x509.KeyUsage)[1] is True
    roles = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert set(extension(certificate, x509.ExtendedKeyUsage)[0]) == roles
    assert uris(certificate) == [spiffe_id]
    names, _ = extension(certificate, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == list(dns)
    assert len(list(names)) == 1 + len(list(dns))
    assert extension(certificate, x509.AuthorityKeyIdentifier)[1] is False


def assert_is_authority(certificate: x509.Certificate, spiffe_id: str) -> None:
    value, critical = extension(certificate, x509.BasicConstraints)
    assert (value.ca, critical) == (True, True)
    assert usages(certificate) == {"key_cert_sign", "crl_sign"}
    assert extension(certificate, x509.KeyUsage)[1] is True
    assert uris(certificate) == [spiffe_id]
    assert extension(certificate, x509.SubjectKeyIdentifier)[1] is False
    assert extension(certificate, x509.AuthorityKeyIdentifier)[1] is False
