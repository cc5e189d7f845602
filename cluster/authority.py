# SPDX-License-Identifier: Apache-2.0
"""The certificate authorities of a cluster itself: API server, components, users and etcd.

They have nothing to do with the authorities that sign workloads.

Rules:
1. Keys are P-256 and stay in the cluster's private folder, files with mode 0600.
2. Certificates live for 30 days, as a development cluster may.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_LIFETIME = timedelta(days=30)
_SKEW = timedelta(minutes=5)
_SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class Files(NamedTuple):
    """Where a certificate and its key were written."""

    certificate: Path
    private_key: Path


class Authority:
    """One authority that lives in files of a folder.

    Args:
        name: Its common name; also the name of its files.
        folder: Private folder for all that it issues.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        certificate = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.files = _write(folder, name, certificate, self._key)
        self.certificate_pem = self.files.certificate.read_bytes()

    def issue_server(self, name: str, addresses: Sequence[str] = ("127.0.0.1",)) -> Files:
        """A server's certificate for loopback names and `addresses`, good as a client's too."""
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in _SERVER_NAMES]
        names += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(name), self._name, key).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        return self._finish(name, builder, key)

    def issue_client(self, user: str, groups: Iterable[str] = ()) -> Files:
        """A client's certificate: the common name is the user, organizations are the groups."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(user, groups), self._name, key)
        return self._finish(file_name(user), builder, key)

    def _finish(
        self, name: str, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey
    ) -> Files:
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            builder.add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _write(self._folder, name, certificate, key)


def file_name(user: str) -> str:
    """A file name for any user name: different for each, and never a component's."""
    return "user-" + "".join(c if c.isalnum() or c in "-." else f"_{ord(c):x}_" for c in user)


def write_private(path: Path, content: bytes) -> Path:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def write_signing_key(folder: Path) -> Files:
    """A key pair for service account tokens: public key file and private key file."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = folder / "service-account.pub"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return Files(public, write_private(folder / "service-account.key", _key_pem(key)))


def _write(
    folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> Files:
    path = folder / f"{name}.crt"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Files(path, write_private(folder / f"{name}.key", _key_pem(key)))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _subject(user: str, groups: Iterable[str] = ()) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
