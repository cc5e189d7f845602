# SPDX-License-Identifier: Apache-2.0
"""What one would do without KubeTLS: uvicorn with its own mutual TLS, as a control.

An attack that is refused by `orders` proves something only if it would have succeeded elsewhere.
The program of this file reloads certificates in the way that is passed on for stock uvicorn: a
callback at each ClientHello that puts a context made of the current files in place.
"""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("app", "reloading_context")

_BODY = json.dumps({"served_by": "stock uvicorn"}).encode()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer everybody whom TLS lets through: a stock server does not tell who that is."""
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})


def reloading_context(directory: Path) -> ssl.SSLContext:
    """A context that swaps in the current files at each ClientHello."""

    def swap(connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = _of_files(directory)

    context = _of_files(directory)
    context.sni_callback = swap
    return context


def _of_files(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    context.load_verify_locations(directory / "union.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _main(directory: Path) -> None:
    def factory(_config: uvicorn.Config, _default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        return reloading_context(directory)

    uvicorn.run(app, host="127.0.0.1", port=0, ssl_context_factory=factory)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
