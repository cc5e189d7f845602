# SPDX-License-Identifier: Apache-2.0
"""One address in front of several processes, as a Service is in front of pods.

A new connection goes to the next process in turn; one that does not accept it is passed over.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cluster import lifetime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CONNECT_SECONDS = 1.0
_CHUNK = 65536
T = TypeVar("T")


class ServiceAddress(lifetime.Owned, Generic[T]):
    """A port in front of others, as a context manager.

    Args:
        targets: Where to pass connections on to, asked for each connection: a port of the
            loopback address, or what `connect` understands.
        connect: Connects to a target, or raises OSError.
        listener: Accepts the connections; without it, a free port of the loopback address does.

    Attributes:
        port: The port that it listens on.
    """

    def __init__(
        self,
        targets: Callable[[], Sequence[T]],
        *,
        connect: Callable[[T], socket.socket] | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self._targets = targets
        self._connect = connect or _connect_here
        self._turn = 0
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]

    def _start(self) -> None:
        threading.Thread(target=self._accept, name="service-address", daemon=True).start()

    def close(self) -> None:
        """Accept nothing more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        super().close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client:
            target = self._connected()
            if target is not None:
                with target, contextlib.suppress(OSError):
                    join(client, target)

    def _connected(self) -> socket.socket | None:
        targets = list(self._targets())
        self._turn += 1
        for offset in range(len(targets)):
            target = targets[(self._turn + offset) % len(targets)]
            with contextlib.suppress(OSError):
                return self._connect(target)
        return None


def _connect_here(port: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=_CONNECT_SECONDS)


def join(one: socket.socket, other: socket.socket) -> None:
    """Copy both ways until one side ends."""
    for each in (one, other):
        each.settimeout(None)
        if each.family != socket.AF_UNIX:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    across = {one: other, other: one}
    while True:
        ready, _, _ = select.select([one, other], [], [])
        for source in ready:
            content = source.recv(_CHUNK)
            if not content:
                return
            across[source].sendall(content)
