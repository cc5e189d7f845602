# SPDX-License-Identifier: Apache-2.0
"""The injector's own certificate from a mounted Secret, and whose certificates it asks for.

Rules:
    1. Certificate, key and client authorities are loaded together into a context of their own; a
       set that cannot be used keeps the last good one.
    2. No session tickets: each connection shows its certificate, under the authorities of now.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from cryptography import x509

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.public_certificate import PublicCertificate

if TYPE_CHECKING:
    from collections.abc import Mapping, Set
    from datetime import datetime
    from pathlib import Path

__all__ = ("ServingCertificate", "client_name_of")


class ServingCertificate(PublicCertificate):
    """`tls.crt` and `tls.key` of a folder.

    Args:
        folder: A mounted Secret of type kubernetes.io/tls.
        client_authorities: PEM file of the authorities that sign the API server's client
            certificate; None: no client certificate is asked for.

    Attributes:
        not_after: When the leaf in force expires.

    Raises:
        ConfigurationError: The files cannot be used.
    """

    not_after: datetime

    def __init__(self, folder: Path, *, client_authorities: Path | None = None) -> None:
        self._client_authorities = client_authorities
        certificate, key = str(folder / "tls.crt"), str(folder / "tls.key")
        super().__init__(certificate, key, alpn_protocols=["http/1.1"])

    @property
    def is_faulty(self) -> bool:
        """Whether the files that are there now cannot be used."""
        return bool(self._complaint)

    def _read(self) -> tuple[bytes, ...]:
        content = super()._read()
        path = self._client_authorities
        if path is None:
            return content
        try:
            return (*content, path.read_bytes())
        except OSError as err:
            raise ConfigurationError(
                f"expected readable client authorities, got {err.filename}: {err.strerror}"
            ) from err

    def _build(self, content: tuple[bytes, ...]) -> ssl.SSLContext:
        context = super()._build(content)
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        if self._client_authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(cafile=self._client_authorities)
            except (ssl.SSLError, OSError) as err:
                raise ConfigurationError(
                    f"expected client authorities in PEM, got {str(self._client_authorities)!r}"
                ) from err
        self.not_after = _not_after(content[0])
        return context


def _not_after(chain: bytes) -> datetime:
    try:
        return x509.load_pem_x509_certificate(chain).not_valid_after_utc
    except ValueError as err:
        raise ConfigurationError(
            f"expected a certificate, got one that is malformed: {err}"
        ) from err


def client_name_of(connection: ssl.SSLObject, names: Set[str]) -> str | None:
    """The name of the client that is one of those expected; None: it is somebody else."""
    certificate: Mapping[str, Any] = connection.getpeercert() or {}
    presented = [value for part in certificate.get("subject", ()) for key, value in part]
    presented += [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return next((name for name in presented if name in names), None)
