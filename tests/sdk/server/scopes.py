# SPDX-License-Identifier: Apache-2.0
"""ASGI by hand: scopes, and a call whose messages are kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from kubetls_sdk import StaticSource, TrustBundleSet, verify_svid
from kubetls_sdk.server.connection import EXTENSION, PeerConnection
from kubetls_sdk.testing import DevelopmentCA


class World:
    """A trust domain, a source, and a connection of the workload `web`."""

    def __init__(self) -> None:
        self.ca = DevelopmentCA("example.org")
        self.partner = DevelopmentCA("partner.example")
        self.source = StaticSource(
            self.ca.issue("/ns/shop/sa/orders"),
            TrustBundleSet([self.ca.bundle, self.partner.bundle]),
        )
        self.svid = self.ca.issue("/ns/shop/sa/web")

    def connection(self, svid: Any = ...) -> PeerConnection:
        """A connection of a peer; None for an anonymous one."""
        chosen = self.svid if svid is ... else svid
        snapshot = self.source.snapshot
        peer = None
        if chosen is not None:
            now = datetime.now(UTC)
            peer = verify_svid(chosen.chain, bundles=snapshot.bundles, now=now)
        return PeerConnection(self.source, peer, snapshot, address="10.0.0.7:4711")

    def distrust(self) -> None:
        """Remove the roots of the own domain."""
        self.source.replace(bundles=TrustBundleSet([self.partner.bundle]))


def http_scope(connection: Any = None, **values: Any) -> dict[str, Any]:
    """The scope of a GET request, on a connection of ours when there is one."""
    path = values.get("path", "/orders/42")
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"orders")],
        "client": ("10.0.0.7", 4711),
        "server": ("10.0.0.8", 8443),
        "state": {},
        "extensions": {} if connection is None else {EXTENSION: connection},
        **values,
    }


def websocket_scope(connection: Any, **values: Any) -> dict[str, Any]:
    """The scope of a WebSocket handshake."""
    scope = http_scope(connection, type="websocket", **values)
    del scope["method"]
    return scope


class Recorder:
    """An application that remembers its scopes and answers 204."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})


def call(app: Any, scope: Any, *received: Any) -> list[Any]:
    """Call an application once and return what it sent."""
    sent: list[Any] = []
    messages = list(received) or [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent
