# SPDX-License-Identifier: Apache-2.0
"""Reads and verifies what a named proxy tells about the client of a request.

Rules:
    1. Only fields of a named proxy are looked at, and only of the configured form. Another form
       beside it is a client's text that the proxy let through: refused.
    2. The fields are gone before application or policy see the request.
    3. A verified certificate is remembered, and rechecked at each request like a connection. What
       runs on behalf of one that is not trusted any more is ended.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubetls_sdk.exceptions import CredentialError, PeerVerificationError
from kubetls_sdk.server._client_cert import read_client_cert
from kubetls_sdk.server._forwarded_certificate import MalformedFieldError
from kubetls_sdk.server._forwarded_client_cert import read_forwarded_client_cert
from kubetls_sdk.server.caller import SCOPE_KEY, Caller
from kubetls_sdk.server.connection import PeerConnection
from kubetls_sdk.server.forwarded import FORWARDED_KEY, ForwardedClient
from kubetls_sdk.server.identity_headers import inspect_headers, spelled_alike
from kubetls_sdk.server.refusal import Refusal
from kubetls_sdk.server.sweeper import Sweeper
from kubetls_sdk.verification import verify_svid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from cryptography import x509

    from kubetls_sdk.server.forwarded import ForwardedFrom
    from kubetls_sdk.source import Source

__all__ = ("Forwarding",)

_REMEMBERED = 1024
_SECONDS = 5.0
_FORMS = {
    "client-cert": (b"client-cert", b"client-cert-chain"),
    "x-forwarded-client-cert": (b"x-forwarded-client-cert",),
}
_ALL = frozenset(spelled_alike(name) for names in _FORMS.values() for name in names)

Field = tuple[bytes, bytes]
Fields = dict[bytes, list[bytes]]


class Forwarding:
    """The part of a middleware that knows forwarded clients.

    Args:
        settings: Who is believed.
    """

    def __init__(self, settings: ForwardedFrom) -> None:
        self._proxies = frozenset(settings.proxies)
        self._names = _FORMS[settings.header]
        self._known: OrderedDict[tuple[str | None, bytes], PeerConnection] = OrderedDict()
        self._sweeper: Sweeper | None = None

    def inspect(self, scope: Any, connection: PeerConnection) -> int | Refusal:
        """Do what `inspect_headers` does; the scope then knows the forwarded client.

        Args:
            scope: Of the request.
            connection: What it came on; its peer has been checked.
        """
        if connection.spiffe_id not in self._proxies:
            return inspect_headers(scope)
        told, others = _parted(scope["headers"])
        if told:
            scope["headers"] = others
            refused = self._take(told, scope, connection)
            if refused is not None:
                return refused
        return inspect_headers(scope)

    async def serve(self, scope: Any, serving: Awaitable[None], end: Callable[[], None]) -> None:
        """Serve a request, and end it when its client is not trusted any more."""
        client: PeerConnection = scope[FORWARDED_KEY]

        def close(_: str) -> None:
            end()

        client.websockets.add(close)
        try:
            await serving
        finally:
            client.websockets.discard(close)

    def _take(self, told: list[Field], scope: Any, connection: PeerConnection) -> Refusal | None:
        try:
            client = self._client(told, connection)
        except MalformedFieldError as err:
            return Refusal.malformed(connection, f"forwarded certificate: {err}", scope)
        except PeerVerificationError as err:
            claim = "" if err.spiffe_id is None else f" that claims {str(err.spiffe_id)!r}"
            reason = f"forwarded certificate{claim}: {err.reason}"
            return Refusal.unproven_client(connection, reason, scope)
        except CredentialError as err:
            reason = f"our own credentials are not available: {err}"
            return Refusal.unauthenticated(connection, reason, scope)
        scope[FORWARDED_KEY] = client
        scope[SCOPE_KEY] = scope["state"]["caller"] = Caller(
            connection.peer, connection.spiffe_id, client.caller.forwarded
        )
        return None

    def _client(self, told: list[Field], connection: PeerConnection) -> PeerConnection:
        key = (connection.identity, hashlib.sha256(repr(told).encode()).digest())
        known = self._known.get(key)
        if known is None or known.source is not connection.source or known.refusal() is not None:
            chain = self._read(told)
            known = _verified(chain, connection)
            self._remember(key, known)
        return known

    def _read(self, told: list[Field]) -> tuple[x509.Certificate, ...]:
        fields: Fields = {}
        for name, value in told:
            fields.setdefault(bytes(name).lower(), []).append(bytes(value))
        if not fields.keys() <= set(self._names):
            raise MalformedFieldError(
                f"expected {self._names[0].decode()} alone: another form is a client's own text"
            )
        first, *rest = (fields.get(name, []) for name in self._names)
        return read_client_cert(first, *rest) if rest else read_forwarded_client_cert(first)

    def _remember(self, key: tuple[str | None, bytes], client: PeerConnection) -> None:
        self._known[key] = client
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        if self._sweeper is None:
            self._sweeper = Sweeper(client.source, _SECONDS)
        self._sweeper.add(client)


def _parted(headers: Iterable[Field]) -> tuple[list[Field], list[Field]]:
    """The fields that tell of a client, and all others."""
    told: list[Field] = []
    others: list[Field] = []
    for field in headers:
        (told if spelled_alike(field[0]) in _ALL else others).append(field)
    return told, others


def _verified(chain: tuple[x509.Certificate, ...], connection: PeerConnection) -> PeerConnection:
    source: Source = connection.source
    snapshot = source.snapshot
    peer = verify_svid(chain, bundles=snapshot.bundles, now=datetime.now(UTC))
    client = PeerConnection(source, peer, snapshot, address=f"a client of {connection.identity}")
    client.caller = Caller(peer, peer.spiffe_id, ForwardedClient(peer))
    return client
