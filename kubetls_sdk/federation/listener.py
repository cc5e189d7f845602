# SPDX-License-Identifier: Apache-2.0
"""A listener of its own for bundle endpoints of ours, of either profile.

    listener = BundleListener(source, port=8443)                            # https_spiffe
    listener = BundleListener(source, port=443, certificate=..., key=...)   # https_web
    listener = EndpointListener(publications.get, source=source, port=443)  # several paths

Rules:
    1. Its TLS context is its own: it asks for no client certificate (§5.2.1.3) and loads no trust
       bundle. With `https_spiffe` it presents our SVID and follows its rotation; with `https_web`
       an ordinary certificate, followed as well, and nothing of the inside.
    2. It answers one request for each connection, within bounds, and never calls an application.

Spec: SPIFFE Federation §5.2.1.3, §5.2.2.3.
"""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from kubetls_sdk._openssl import load_svid
from kubetls_sdk.exceptions import ConfigurationError, CredentialError
from kubetls_sdk.federation.partner import Profile
from kubetls_sdk.federation.publication import Answer, Publication
from kubetls_sdk.server._gate import Gate
from kubetls_sdk.server._handshakes import Handshakes
from kubetls_sdk.server._one_answer import Connections, OneAnswer
from kubetls_sdk.server.bind import bind
from kubetls_sdk.server.public_certificate import PublicCertificate

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from kubetls_sdk.source import Source
    from kubetls_sdk.svid import X509Svid

__all__ = ("BundleListener", "EndpointListener")

_MAX_CONNECTIONS = 128
_SECONDS = 10.0
_HANDSHAKE_SECONDS = 5.0
_POLL_SECONDS = 5.0
_PRESENTED = ("host", "certificate", "key")
_PHRASES = {
    200: "OK",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class EndpointListener:
    """A listener whose paths are looked up for each request.

    Args:
        publication_at: From a path to what is published there; None: nothing is.
        port: Its own; 0 takes a free one.
        host: Where to listen.
        source: Whose SVID is presented with `https_spiffe`; not asked with `https_web`.
        certificate: PEM chain for `https_web`, leaf first; None for `https_spiffe`.
        key: Its PEM key, not encrypted.

    Raises:
        ConfigurationError: One of certificate and key is missing, they cannot be used, or nothing
            is there to present.
    """

    def __init__(
        self,
        publication_at: Callable[[str], Publication | None],
        *,
        port: int,
        host: str = "0.0.0.0",  # noqa: S104 - partners come from outside
        source: Source | None = None,
        certificate: str | None = None,
        key: str | None = None,
    ) -> None:
        if (certificate is None) != (key is None):
            raise ConfigurationError("expected a certificate and its key, or neither")
        if certificate is None and source is None:
            raise ConfigurationError("expected a certificate and its key, or the source of an SVID")
        self._publication_at = publication_at
        self._source = source
        self._place = (host, port)
        self._public = (
            PublicCertificate(certificate, key, alpn_protocols=["http/1.1"])
            if certificate is not None and key is not None
            else None
        )
        self._svid: tuple[X509Svid, ssl.SSLContext] | None = None
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._following: asyncio.Task[None] | None = None
        self._connections = Connections(_MAX_CONNECTIONS, _SECONDS, self.response)
        self._handshakes = Handshakes(_MAX_CONNECTIONS)
        self._state: Any = SimpleNamespace(connections=set())

    @property
    def profile(self) -> Profile:
        """How partners authenticate this endpoint."""
        return Profile.SPIFFE if self._public is None else Profile.WEB

    @property
    def bound_port(self) -> int | None:
        """The port that was bound; None before `bind`."""
        port: int | None = self._socket.getsockname()[1] if self._socket is not None else None
        return port

    def bind(self) -> None:
        """Take the port.

        Raises:
            ConfigurationError: It is in use.
        """
        if self._socket is None:
            self._socket = bind(*self._place)

    async def start(self) -> None:
        """Answer from now on, in this event loop.

        Raises:
            ConfigurationError: The port is in use.
            CredentialError: There is no SVID to present.
        """
        self._context()
        self.bind()
        loop = asyncio.get_running_loop()
        listening = cast("socket.socket", self._socket)
        self._server = await loop.create_server(self._accept, sock=listening)
        if self._public is not None:
            self._following = asyncio.create_task(self._follow(self._public))

    async def stop(self) -> None:
        """Close the listener and its connections."""
        if self._following is not None:
            self._following.cancel()
            self._following = None
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._handshakes.shutdown()
        self._connections.abort()

    def response(self, head: bytes) -> bytes:
        """Answer the head of a request.

        Spec: RFC 9112 §3, §5.
        """
        line, *fields = head.decode("latin-1").split("\r\n")
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return _message(Answer(400, {}), "GET")
        method, target = parts[0], parts[1].partition("?")[0]
        publication = self._publication_at(target)
        if publication is None:
            return _message(Answer(404, {}), method)
        return _message(publication.answer(method, _condition(fields)), method)

    def _accept(self) -> asyncio.Protocol:
        return Gate(
            self._context(),
            handshakes=self._handshakes,
            server_state=self._state,
            timeout=_HANDSHAKE_SECONDS,
            enter=lambda _connection, _transport, _address: OneAnswer(self._connections),
            verified_class=ssl.SSLObject,
        )

    def _context(self) -> ssl.SSLContext:
        if self._public is not None:
            return self._public.context
        try:
            svid = cast("Source", self._source).snapshot.svid
        except CredentialError:
            if self._svid is None:
                raise
            return self._svid[1]  # The answer will say that there is nothing.
        if self._svid is None or self._svid[0] is not svid:
            self._svid = svid, _spiffe_context(svid)
        return self._svid[1]

    async def _follow(self, public: PublicCertificate) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await asyncio.to_thread(public.reload)


class BundleListener(EndpointListener):
    """A listener for one bundle at one path.

    Args:
        source: Whose own trust domain's bundle is published.
        port: Its own; 0 takes a free one.
        path: The only one that is answered.
        settings: Of `EndpointListener`: `host`, `certificate`, `key`; and of `Publication`:
            `refresh_hint`, `sequence`, `allow_empty`.

    Raises:
        ConfigurationError: One of certificate and key is missing, they cannot be used, or an
            option is out of range.
    """

    def __init__(self, source: Source, *, port: int, path: str = "/", **settings: Any) -> None:
        if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
            raise ConfigurationError(f"expected a path that starts with '/', got {path!r}")
        presented = {name: settings.pop(name) for name in _PRESENTED if name in settings}
        published = {path: Publication(source, **settings)}
        super().__init__(published.get, source=source, port=port, **presented)


def _spiffe_context(svid: X509Svid) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    load_svid(context, svid.private_key_pem() + svid.certificates_pem())
    return context


def _condition(fields: list[str]) -> str | None:
    """The value of `If-None-Match`, of all fields of the name."""
    pairs = (field.partition(":") for field in fields)
    values = [value.strip() for name, _, value in pairs if name.lower() == "if-none-match"]
    return ",".join(values) if values else None


def _message(answer: Answer, method: str) -> bytes:
    length = {} if answer.status == 304 else {"content-length": str(len(answer.body))}
    fields = {**answer.headers, **length, "connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}\r\n{lines}\r\n".encode("ascii")
    return head if method == "HEAD" else head + answer.body
