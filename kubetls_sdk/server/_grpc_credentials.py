# SPDX-License-Identifier: Apache-2.0
"""gRPC's server credentials, following a source.

Rules:
    1. Each handshake uses the snapshot of its moment: a removed root is gone with the next one.
    2. A client certificate is always required.
    3. An SVID that gRPC cannot use keeps the last good one, and is logged once.
    4. gRPC builds paths in the union of all bundles, ours first and without authorities of others
       that would hide it; who the peer is, is decided for each call.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk._nobody import nobody_pem
from kubetls_sdk._trust_store import trusted_authorities
from kubetls_sdk.exceptions import CredentialError, SvidError
from kubetls_sdk.server.refusal_log import log

if TYPE_CHECKING:
    from kubetls_sdk.source import Snapshot, Source

__all__ = ("port_credentials", "server_credentials")


def server_credentials(source: Source) -> grpc.ServerCredentials:
    """Make the credentials of a `grpc.Server` or `grpc.aio.Server`, for any number of its ports.

    They encrypt and require a certificate of somebody in our bundles. That is not authentication:
    the call has to pass an `AuthInterceptor` or `AioAuthInterceptor` as well.

    Args:
        source: Our SVID and whom we trust; asked at each handshake.

    Raises:
        NotReadyError: The source has nothing yet.
        SvidError: gRPC cannot use the SVID.
    """
    return _credentials(_Settings(source, repeats=True))


def port_credentials(source: Source) -> grpc.ServerCredentials:
    """Make the credentials of a single port, which are told of each generation only once."""
    return _credentials(_Settings(source, repeats=False))


def _credentials(settings: _Settings) -> grpc.ServerCredentials:
    fetch: Any = settings.fetch  # gRPC's stubs do not know that it may return None
    return grpc.dynamic_ssl_server_credentials(
        settings.first(), fetch, require_client_authentication=True
    )


class _Settings:
    """Certificate and roots as gRPC wants them, built once for each generation.

    Args:
        source: Asked at each handshake.
        repeats: Hand out a generation again and again: each port keeps its own copy, and nobody
            says which port asks.
    """

    def __init__(self, source: Source, *, repeats: bool) -> None:
        self._source = source
        self._repeats = repeats
        self._building = threading.Lock()
        self._built: tuple[Snapshot, grpc.ServerCertificateConfiguration] | None = None
        self._refused: Snapshot | None = None

    def first(self) -> grpc.ServerCertificateConfiguration:
        snapshot = self._source.snapshot
        self._built = (snapshot, configuration(snapshot))
        return self._built[1]

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Answer gRPC before a handshake; None lets the last answer stand."""
        try:
            snapshot = self._source.snapshot
        except CredentialError:
            return None  # Every call is refused while there is no snapshot.
        with self._building:
            built = self._built
            if built is None or (built[0] is not snapshot and self._refused is not snapshot):
                return self._rebuild(snapshot)
            return built[1] if self._repeats else None

    def _rebuild(self, snapshot: Snapshot) -> grpc.ServerCertificateConfiguration | None:
        try:
            self._built = (snapshot, configuration(snapshot))
        except CredentialError as err:
            self._refused = snapshot
            log.error("gRPC keeps its last SVID, not generation %d: %s", snapshot.generation, err)
            return None
        return self._built[1]


def configuration(snapshot: Snapshot) -> grpc.ServerCertificateConfiguration:
    """Translate a snapshot.

    Raises:
        SvidError: gRPC cannot use the SVID.
    """
    svid = snapshot.svid
    if isinstance(svid.private_key, ed25519.Ed25519PrivateKey):
        raise SvidError("expected an EC or RSA key, got Ed25519, which gRPC cannot use")
    trusted = trusted_authorities(snapshot)
    roots = b"".join(authority.public_bytes(Encoding.PEM) for authority in trusted)
    return grpc.ssl_server_certificate_configuration(
        [(svid.private_key_pem(), svid.certificates_pem())],
        root_certificates=roots or nobody_pem(),
    )
