# SPDX-License-Identifier: Apache-2.0
"""`kubetls` that looks at living connections only from time to time, not at each request."""

from __future__ import annotations

from kubetls_sdk.cli import main
from kubetls_sdk.server import _listener, sweeper
from kubetls_sdk.server.connection import PeerConnection

_checked = PeerConnection.refusal


class CheckingSweeper(sweeper.Sweeper):
    def sweep(self) -> None:
        PeerConnection.refusal = _checked  # type: ignore[method-assign]
        try:
            super().sweep()
        finally:
            PeerConnection.refusal = unchecked  # type: ignore[method-assign]


def unchecked(self: PeerConnection, now: float | None = None) -> str | None:
    del self, now
    return None


if __name__ == "__main__":
    vars(_listener)["Sweeper"] = CheckingSweeper
    PeerConnection.refusal = unchecked  # type: ignore[method-assign]
    main()
