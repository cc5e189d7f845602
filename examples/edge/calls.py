# SPDX-License-Identifier: Apache-2.0
"""What the external API saw on its calls to the inside: the caller's end of each connection."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from examples.edge.hop import Wire

if TYPE_CHECKING:
    import httpx2

__all__ = ("Calls",)

_REMEMBERED = 200


class Calls:
    """The last calls."""

    def __init__(self) -> None:
        self._wires: deque[Wire] = deque(maxlen=_REMEMBERED)

    def note(self, answer: httpx2.Response) -> None:
        """Remember the connection of an answer."""
        stream = answer.extensions["network_stream"]
        tls = stream.get_extra_info("ssl_object")
        host, port = stream.get_extra_info("client_addr")[:2]
        server = str(answer.extensions["verified_peer"].spiffe_id)
        self._wires.append(Wire(f"{host}:{port}", tls.version(), tls.cipher()[0], server))

    def on(self, client: str) -> Wire | None:
        """The connection that the inside knows by this address."""
        return next((wire for wire in reversed(self._wires) if wire.client == client), None)
