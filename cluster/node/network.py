# SPDX-License-Identifier: Apache-2.0
"""A node's network, as seen from outside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.node import forwarder

if TYPE_CHECKING:
    import socket
    from pathlib import Path

_CONNECT_SECONDS = 2.0


class NodeNetwork:
    """Sockets in the network namespace of a node; no thread stays in there.

    Args:
        namespace: The namespace's file.
    """

    def __init__(self, namespace: Path) -> None:
        self._namespace = namespace

    def listen(self, address: str, port: int) -> socket.socket:
        """Listen at an address of the node."""
        return forwarder.listen_in(self._namespace, address, port)

    def connect(self, target: tuple[str, int]) -> socket.socket:
        """Connect to a pod, or to a Service that is served.

        Raises:
            OSError: Nobody accepts the connection in time.
        """
        found = forwarder.socket_in(self._namespace)
        try:
            found.settimeout(_CONNECT_SECONDS)
            found.connect(target)
        except BaseException:
            found.close()
            raise
        return found
