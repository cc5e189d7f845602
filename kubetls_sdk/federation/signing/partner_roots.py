# SPDX-License-Identifier: Apache-2.0
"""Certificates of ours for single workloads of partners, in a trust domain of their own.

Rules:
    1. The trust domain is `partners.<ours>`: no rule for our own trust domain ever matches.
    2. Each partner has a root of its own, which signs only for `/<partner>/...`; removing the root
       from the bundle ends everything of that partner.
    3. The workload keeps its key: only a CSR is signed, and only its key is taken from it.
    4. Keys are in files of mode 0600 in directories of mode 0700. The bundle file is replaced by
       rename; when no partner is left it is empty, which trusts nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubetls_sdk import _pem
from kubetls_sdk._issuer import PathError, check_certificate
from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import ConfigurationError, SpiffeIdError
from kubetls_sdk.federation.output_file import write_file
from kubetls_sdk.federation.signing.authority import SigningAuthority
from kubetls_sdk.federation.signing.constraints import PartnerConstraints
from kubetls_sdk.federation.signing.content import Content, authority_key_usage, leaf_key_usage
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

__all__ = ("MAX_TTL", "PartnerRoots")

MAX_TTL = timedelta(days=7)
_ROOT_TTL = timedelta(days=365)
_BACKDATE = timedelta(minutes=5)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", re.ASCII)
_CERTIFICATE, _KEY = "root.pem", "root.key.pem"


class PartnerRoots:
    """The roots of all partners, in a directory.

    Args:
        directory: Made when it is not there.
        own: Our own trust domain.

    Attributes:
        trust_domain: That of the partners' workloads.
        bundle_file: The bundle of that domain, for the volumes of our workloads.

    Raises:
        SpiffeIdError: The name of the partners' trust domain would be too long.
    """

    def __init__(self, directory: Path, own: TrustDomain) -> None:
        self.trust_domain = TrustDomain(f"partners.{own}")
        self.bundle_file = directory / f"{self.trust_domain}.trust-bundle.pem"
        self._directory = directory

    def issue(
        self, partner: str, path: str, csr: bytes, *, now: datetime, ttl: timedelta
    ) -> x509.Certificate:
        """Issue a certificate for a workload of a partner; the first one makes its root.

        Args:
            partner: A short name: lower-case letters, digits and dashes.
            path: Of the workload, below the partner's: `/orders` becomes `/<partner>/orders`.
            csr: PEM; only its key counts.
            now: Aware UTC time.
            ttl: At most `MAX_TTL`.

        Returns:
            The leaf; the root is its issuer, so nothing else has to be presented.

        Raises:
            ConfigurationError: The name, the CSR or the lifetime cannot be used.
            SpiffeIdError: The path is not one of a SPIFFE ID.
            OSError: A file cannot be read or written.
        """
        _check_name(partner)
        if not timedelta(0) < ttl <= MAX_TTL:
            raise ConfigurationError(f"expected a lifetime of at most {MAX_TTL.days} days")
        if not path.startswith("/"):  # It must not go on with the partner's name.
            raise SpiffeIdError(path, "expected a path that starts with '/'")
        spiffe_id = SpiffeId(self.trust_domain, f"/{partner}{path}")
        key = _key_of(csr)
        with self._locked():
            root = self._root(partner, now)
            self._write_bundle()
        root.check(now=now, intermediates_below=0)
        end = min(now + ttl, root.certificate.not_valid_after_utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, partner)])
        extensions = _leaf_extensions(spiffe_id, key)
        leaf = root.sign(Content(subject, key, now - _BACKDATE, end, extensions))
        try:
            check_certificate(leaf, now=now)  # The strength of its key.
        except PathError as err:
            raise ConfigurationError(f"the partner's CSR: {err}") from err
        return leaf

    def revoke(self, partner: str) -> None:
        """Take a partner's root away: everything that it signed is refused from then on.

        Raises:
            ConfigurationError: There is no such partner.
            OSError: A file cannot be removed.
        """
        _check_name(partner)
        place = self._directory / partner
        if not place.is_dir():
            known = ", ".join(
                sorted(each.parent.name for each in self._directory.glob(f"*/{_CERTIFICATE}"))
            )
            expected = f"{self._directory}: expected one of its partners ({known or 'none'})"
            raise ConfigurationError(f"{expected}, got {partner!r}")
        with self._locked():
            for file in (_CERTIFICATE, _KEY):
                (place / file).unlink(missing_ok=True)
            place.rmdir()
            self._write_bundle()

    def bundle(self) -> TrustBundle:
        """The roots of all partners.

        Raises:
            BundleError: A file holds something else.
        """
        found = sorted(self._directory.glob(f"*/{_CERTIFICATE}"))
        text = b"".join(file.read_bytes() for file in found)
        return TrustBundle.from_pem(self.trust_domain, text)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at once must not make two roots, or forget one."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _root(self, partner: str, now: datetime) -> SigningAuthority:
        place = self._directory / partner
        if (place / _CERTIFICATE).exists():
            return SigningAuthority.load(
                (place / _CERTIFICATE).read_bytes(), (place / _KEY).read_bytes()
            )
        place.mkdir(mode=0o700, exist_ok=True)
        root = _new_root(partner, self.trust_domain, now)
        key = root.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_file(place / _KEY, key, is_secret=True)
        write_file(place / _CERTIFICATE, root.certificate.public_bytes(Encoding.PEM))
        return root

    def _write_bundle(self) -> None:
        write_file(self.bundle_file, self.bundle().to_pem())


def _check_name(partner: str) -> None:
    if not _NAME.fullmatch(partner):
        raise ConfigurationError(
            f"expected a partner's name of a-z, 0-9 and '-', at most 42, got {partner!r}"
        )


def _key_of(csr: bytes) -> CertificatePublicKeyTypes:
    try:
        blocks = _pem.blocks(csr)
    except _pem.PemSyntaxError as err:
        raise ConfigurationError(f"the partner's CSR: {err}") from err
    if [block.label.removeprefix("NEW ") for block in blocks] != ["CERTIFICATE REQUEST"]:
        raise ConfigurationError("expected one CSR as PEM")
    try:
        request = x509.load_der_x509_csr(blocks[0].der)
        is_signed = request.is_signature_valid
        key = request.public_key()
    except MALFORMED as err:
        raise ConfigurationError(f"expected a CSR as PEM: {err}") from err
    if not is_signed:
        raise ConfigurationError("expected a CSR that is signed with its own key")
    return key


def _new_root(partner: str, trust_domain: TrustDomain, now: datetime) -> SigningAuthority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"root {os.urandom(4).hex()} of {partner}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    own_name = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
    constraints = PartnerConstraints(trust_domain=trust_domain, subjects=None)
    unsigned = (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (authority_key_usage(), True),
        (constraints.extension(), True),
        (x509.SubjectAlternativeName([own_name]), False),
        (identifier, False),
    )
    content = Content(subject, key.public_key(), now - _BACKDATE, now + _ROOT_TTL, unsigned)
    return SigningAuthority.self_signed(content, key)


def _leaf_extensions(
    spiffe_id: SpiffeId, key: CertificatePublicKeyTypes
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    name = x509.UniformResourceIdentifier(str(spiffe_id))
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (leaf_key_usage(), True),
        (x509.ExtendedKeyUsage(purposes), False),
        (x509.SubjectAlternativeName([name]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
    )
