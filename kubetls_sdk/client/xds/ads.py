# SPDX-License-Identifier: Apache-2.0
"""Serves xDS resources to the gRPC core of this very process, from memory.

Rules:
    1. The socket has no place in the file system, and only this process may connect: the kernel
       says who is at the other end.
    2. Resources are public: names and addresses, no key and no certificate.
    3. One thread for all channels of the process; a forked child starts its own.

Spec: gRFC A27 (xDS), A29 (TLS by xDS).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import selectors
import socket
import struct
import threading
from typing import TYPE_CHECKING

from kubetls_sdk.client.xds.http2 import Http2Error, ServerConnection
from kubetls_sdk.client.xds.protobuf import Value, fields, message

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("AdsServer", "Resource")

_log = logging.getLogger(__name__)
_NAMES, _TYPE, _ERROR = 3, 4, 6  # of a DiscoveryRequest
_UCRED = struct.Struct("3i")

Resource = tuple[str, str]
"""The key of a resource: type URL and name."""

Resources = dict[str, dict[str, bytes]]
"""Content by name and type URL."""


class AdsServer:
    """The server of one process.

    Attributes:
        address: For gRPC: `unix-abstract:` and a name.
        refused: How many connections of other processes were refused.
    """

    def __init__(self) -> None:
        name = f"kubetls-{os.getpid()}-{secrets.token_hex(16)}"
        self.address = f"unix-abstract:{name}"
        self.refused = 0
        self._resources: Resources = {}
        self._lock = threading.Lock()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(f"\0{name}")
        self._listening.listen(128)
        self._waking, self._wake = socket.socketpair()
        self._changed: set[Resource] = set()
        self._connections: dict[socket.socket, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._wake.setblocking(False)
        for sock in (self._listening, self._waking):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        threading.Thread(target=self._run, name="kubetls-xds", daemon=True).start()

    def put(self, resources: Mapping[Resource, bytes]) -> None:
        """Serve these resources, new or changed; from any thread."""
        with self._lock:
            # Nobody can have asked already for what a new channel has.
            is_known = any(name in self._resources for _, name in resources)
            for (kind, name), content in resources.items():
                self._resources.setdefault(name, {})[kind] = content
            if not is_known:
                return
            self._changed.update(resources)
        with contextlib.suppress(BlockingIOError):  # then it is going to wake anyway
            self._wake.send(b"\0")

    def forget(self, name: str) -> None:
        """Forget the resources of a channel that is gone; from any thread."""
        with self._lock:
            self._resources.pop(name, None)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                try:
                    self._serve(key.fileobj)
                except Exception:  # noqa: BLE001 - the outermost loop: all channels depend on it
                    _log.exception("serving gRPC's configuration failed")

    def _serve(self, sock: object) -> None:
        if sock is self._listening:
            self._accept()
        elif sock is self._waking:
            self._waking.recv(4096)
            self._announce()
        elif isinstance(sock, socket.socket):
            self._answer(sock)

    def _accept(self) -> None:
        sock, _ = self._listening.accept()
        pid, _, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if pid != os.getpid():
            self.refused += 1
            _log.warning("refused process %d at the socket of our gRPC channels", pid)
            sock.close()
            return
        self._connections[sock] = _Connection()
        self._selector.register(sock, selectors.EVENT_READ)

    def _answer(self, sock: socket.socket) -> None:
        connection = self._connections[sock]
        try:
            data = sock.recv(65536)
            if not data:
                self._drop(sock)
                return
            connection.receive(data, self._resources)
            connection.send_to(sock)
        except (OSError, Http2Error, ValueError) as err:
            _log.debug("a connection of gRPC's configuration ended: %s", err)
            self._drop(sock)

    def _announce(self) -> None:
        with self._lock:
            changed, self._changed = self._changed, set()
        for sock, connection in list(self._connections.items()):
            try:
                connection.announce(changed, self._resources)
                connection.send_to(sock)
            except OSError:
                self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        self._connections.pop(sock, None)
        with contextlib.suppress(KeyError):
            self._selector.unregister(sock)
        sock.close()


class _Connection:
    """One connection of gRPC: a stream for each channel, and what each stream has asked for."""

    def __init__(self) -> None:
        self._http2 = ServerConnection()
        self._asked: dict[tuple[int, str], list[str]] = {}
        self._version = 0

    def receive(self, data: bytes, resources: Resources) -> None:
        """Answer what the client asks for."""
        for stream, request in self._http2.receive(data):
            self._request(stream, request, resources)

    def announce(self, changed: set[Resource], resources: Resources) -> None:
        """Send what has changed to streams that asked for it."""
        for (stream, kind), names in self._asked.items():
            if any((kind, name) in changed for name in names):
                self._respond(stream, kind, resources)

    def send_to(self, sock: socket.socket) -> None:
        """Send what waits to be sent."""
        if self._http2.outgoing:
            sock.sendall(self._http2.outgoing)
            self._http2.outgoing.clear()

    def _request(self, stream: int, request: bytes, resources: Resources) -> None:
        names: list[str] = []
        kind = ""
        for number, value in fields(request):
            if isinstance(value, bytes):
                if number == _NAMES:
                    names.append(value.decode())
                elif number == _TYPE:
                    kind = value.decode()
                elif number == _ERROR:
                    _log.error("gRPC refuses its configuration: %r", value)
        if self._asked.get((stream, kind)) != names:  # else it only acknowledges
            self._asked[stream, kind] = names
            self._respond(stream, kind, resources)

    def _respond(self, stream: int, kind: str, resources: Resources) -> None:
        found: list[Value] = [
            message({1: kind, 2: content})
            for name in self._asked[stream, kind]
            if (content := resources.get(name, {}).get(kind)) is not None
        ]
        if found:
            self._version += 1
            version = str(self._version)
            self._http2.send(stream, message({1: version, 2: found, 4: kind, 5: version}))
