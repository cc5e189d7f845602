# SPDX-License-Identifier: Apache-2.0
"""The outside: certificates of an ordinary CA, as the web's, for host names.

Rules:
    1. The key of this CA is in memory alone: whoever trusts it trusts nobody after the demo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("CertificateFiles", "PublicCertificates", "WebCertificate")

_HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A server's certificate, as public listeners take it.

    Attributes:
        certificate: PEM chain.
        key: PEM.
    """

    certificate: Path
    key: Path


class WebCertificate:
    """A certificate and its key, to present to somebody."""

    def __init__(self, issued: trustme.LeafCert) -> None:
        self._issued = issued

    def certificates_pem(self) -> bytes:
        """The chain, leaf first."""
        return b"".join(pem.bytes() for pem in self._issued.cert_chain_pems)

    def private_key_pem(self) -> bytes:
        """The key of the leaf."""
        return self._issued.private_key_pem.bytes()


class PublicCertificates:
    """The CA of the outside, and the servers that it vouches for.

    Args:
        directory: For their files.

    Attributes:
        roots: PEM file of the CA.
        edge: Of the external API's outside face.
        login: Of the login service.
    """

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA(organization_name="KubeTLS demo, outside")
        self.roots = directory / "public-roots.pem"
        self.roots.write_bytes(self._ca.cert_pem.bytes())
        self.edge = self._files(directory / "edge")
        self.login = self._files(directory / "login")

    def of_visitor(self) -> WebCertificate:
        """A client certificate of the outside's CA, in the name of a host of ours."""
        return WebCertificate(self._ca.issue_cert("internal-api.shop.svc"))

    def _files(self, place: Path) -> CertificateFiles:
        issued = WebCertificate(self._ca.issue_cert(*_HOSTS))
        files = CertificateFiles(place.with_suffix(".crt"), place.with_suffix(".key"))
        files.certificate.write_bytes(issued.certificates_pem())
        files.key.touch(mode=0o600)
        files.key.write_bytes(issued.private_key_pem())
        return files
