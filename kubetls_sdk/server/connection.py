# SPDX-License-Identifier: Apache-2.0
"""One TLS connection and who is on its other end: made once, asked at each request.

Rules:
    1. Nothing is parsed for a request: what a request needs is computed when the connection is
       made.
    2. What was verified in the handshake is checked again at each request: against the clock, and
       against the bundles whenever there is a new generation.
    3. A connection that is refused once is never served again.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import metrics
from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.exceptions import CredentialError, PeerVerificationError
from kubetls_sdk.server.caller import Caller
from kubetls_sdk.server.refusal_log import log_refusal
from kubetls_sdk.verification import recheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from kubetls_sdk.server._quick_record import Ends
    from kubetls_sdk.source import Snapshot, Source
    from kubetls_sdk.verification import VerifiedPeer

__all__ = ("EXTENSION", "PeerConnection", "tls_extension", "with_connection")

EXTENSION = "kubetls"
"""The key of the `PeerConnection` in `scope["extensions"]`."""

_ENCODING_PEM = 1
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_FOREVER = float("inf")
_MAX_SHARED = 1024
_MAX_SHARED_LENGTH = 8192


class PeerConnection:
    """A TLS connection after its handshake.

    Args:
        source: Whom we trust, asked at each request.
        peer: Who the handshake proved the peer to be; None for an anonymous client.
        snapshot: The generation that the peer was verified under.
        address: Of the peer, for the log.

    Attributes:
        source: As given.
        snapshot: The generation that the peer was last verified under.
        expires_at: Seconds since the epoch, infinite for an anonymous client.
        refused: Why the peer is not served any more, or None.
        caller: The peer, as applications see it.
        spiffe_id: Of the peer; None for an anonymous client.
        identity: The same as text, one object for all connections of a peer.
        end: Ends the transport when the peer is refused, set by the server; called with whether
            WebSockets say goodbye by themselves.
        requests: Tells the HTTP requests under way and how to end each, None when that cannot be
            told now; set by a server that can tell.
        websockets: How to close each open WebSocket of this connection.
        is_ended: `terminate` was called.
        trace: What the lines of the audit log about this connection begin and end with, of the
            quick way alone; see `_quick_record`.
    """

    __slots__ = (
        "__weakref__",
        "address",
        "caller",
        "end",
        "expires_at",
        "identity",
        "is_ended",
        "peer",
        "refused",
        "requests",
        "snapshot",
        "source",
        "spiffe_id",
        "trace",
        "websockets",
    )

    def __init__(
        self, source: Source, peer: VerifiedPeer | None, snapshot: Snapshot, *, address: str
    ) -> None:
        self.source = source
        self.snapshot = snapshot
        self.expires_at = _FOREVER if peer is None else peer.expires_at.timestamp()
        self.refused: str | None = None
        self.peer = peer
        self.caller = Caller.of(peer)
        self.spiffe_id = self.caller.spiffe_id
        self.identity = None if peer is None else _shared(str(peer.spiffe_id))
        self.address = address
        self.end: Callable[[bool], None] | None = None
        self.requests: Callable[[], list[tuple[Any, Callable[[], None]]] | None] | None = None
        self.websockets: set[Callable[[str], None]] = set()
        self.is_ended = False
        self.trace: Ends | None = None

    @property
    def generation(self) -> int:
        """The generation of the source that the peer was last verified under."""
        return self.snapshot.generation

    def refusal(self, now: float | None = None) -> str | None:
        """Say why this connection may not be served any more, or None.

        Args:
            now: Seconds since the epoch; the clock by default.
        """
        moment = time() if now is None else now
        try:
            if self.source.snapshot is self.snapshot and moment <= self.expires_at:
                return self.refused
        except CredentialError as err:
            return f"our own credentials are not available: {err}"
        return self._recheck(moment)

    def terminate(self, reason: str) -> None:
        """End the connection and what runs on it, because its peer is refused. Once is enough."""
        if self.is_ended:
            return
        self.is_ended = True
        log_refusal("connection", reason, address=self.address, spiffe_id=self.spiffe_id)
        metrics.increment(metrics.CONNECTIONS_ENDED, side="server", reason="refused")
        open_websockets = list(self.websockets)
        for close in open_websockets:
            close(reason)
        if self.end is not None:
            self.end(bool(open_websockets))

    def _recheck(self, now: float) -> str | None:
        if self.refused is None and self.peer is not None:
            current = self.source.snapshot
            try:
                recheck(self.peer, bundles=current.bundles, now=datetime.fromtimestamp(now, UTC))
            except PeerVerificationError as err:
                self.refused = err.reason
            else:
                self.snapshot = current
        elif self.peer is None:
            self.snapshot = self.source.snapshot
        return self.refused


def with_connection(
    app: Callable[..., Any], tls: dict[str, Any], peer: PeerConnection
) -> Callable[..., Any]:
    """Wrap an application so that each scope of one connection carries it.

    No coroutine of ours lies between server and application: the application's own is returned.

    Args:
        app: ASGI; a `KubeTLSMiddleware` is bound to the connection. A subclass of it, or a wrapper
            that passes attributes on, is not: it may ask more than the class itself.
        tls: The connection's `tls` extension.
        peer: The connection.
    """
    bind: Callable[..., Callable[..., Any]] | None = vars(type(app)).get("for_connection")
    if bind is not None:
        return bind(app, tls, peer)

    def connected(scope: dict[str, Any], receive: Any, send: Any, *rest: Any) -> Any:
        """Call the application with the connection in `extensions`."""
        extensions = scope.get("extensions")
        if extensions is None:
            scope["extensions"] = {"tls": tls, EXTENSION: peer}
        else:
            scope["extensions"] = {**extensions, "tls": tls, EXTENSION: peer}
        return app(scope, receive, send, *rest)

    return connected


def tls_extension(connection: Any) -> dict[str, Any]:
    """Make the ASGI `tls` extension of a connection.

    Args:
        connection: An `ssl.SSLObject` or `SSLSocket` after its handshake. One that is not of a
            `ReloadingContext` has no peer.

    Returns:
        All keys of version 0.2. The chain is what the client sent, leaf first.

    Spec: ASGI TLS Extension 0.2.
    """
    peer: VerifiedPeer | None = getattr(connection, "verified_peer", None)
    snapshot: Snapshot | None = getattr(connection, "snapshot", None)
    return {
        "server_cert": _server_certificate(snapshot) if snapshot is not None else None,
        "client_cert_chain": _sent_chain(connection) if peer is not None else (),
        "client_cert_name": _subject(peer.leaf) if peer is not None else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version()),
        "cipher_suite": _cipher_suite(connection.cipher()),
    }


def _sent_chain(connection: Any) -> tuple[str, ...]:
    # Public since Python 3.13, as DER; the inner object has PEM on all versions.
    sent = connection._sslobj.get_unverified_chain() or ()  # noqa: SLF001
    return tuple([_shared(certificate.public_bytes(_ENCODING_PEM)) for certificate in sent])


@lru_cache(maxsize=256)  # The connections of a peer share one parsed certificate.
def _subject(leaf: x509.Certificate) -> str | None:
    """The subject by RFC 4514; None for one that cannot be read, which proves nothing anyway."""
    try:
        return _shared(leaf.subject.rfc4514_string())
    except MALFORMED:
        return None


_texts: dict[str, str] = {}


def _shared(text: str) -> str:
    """One object for equal texts, so that all connections of a peer share them.

    Not `sys.intern`: Python 3.12 never frees what was interned, and peers rotate.
    """
    if len(text) > _MAX_SHARED_LENGTH:  # of a chain with padding; such peers would fill the memory
        return text
    if len(_texts) >= _MAX_SHARED:
        _texts.clear()
    return _texts.setdefault(text, text)


_last_certificate: tuple[Snapshot, str] | None = None


def _server_certificate(snapshot: Snapshot) -> str:
    """PEM of our own leaf; kept for the current snapshot, since each connection asks."""
    global _last_certificate  # noqa: PLW0603 - one reference, replaced as a whole
    last = _last_certificate
    if last is None or last[0] is not snapshot:
        pem = snapshot.svid.leaf.public_bytes(Encoding.PEM).decode("ascii")
        last = _last_certificate = (snapshot, pem)
    return last[1]


_CIPHER_SUITES = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
}


def _cipher_suite(cipher: tuple[str, str, int] | None) -> int | None:
    """The IANA number of a cipher suite by OpenSSL's name for it, None when it is not known."""
    if cipher is None:
        return None
    return _CIPHER_SUITES.get(cipher[0]) or _tls12_suites().get(cipher[0])


def _tls12_suites() -> dict[str, int]:
    """The names of all suites of this OpenSSL; their low 16 bits are the IANA number."""
    if len(_CIPHER_SUITES) == 3:  # not extended yet
        for suite in ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers():
            _CIPHER_SUITES.setdefault(suite["name"], suite["id"] & 0xFFFF)
    return _CIPHER_SUITES
