# SPDX-License-Identifier: Apache-2.0
"""granian cannot be used: it passes no client certificate on to the application.

Its TLS is inside its compiled part, without a way to get the peer's chain, and without one to
reload trust. What it calls client verification turns itself off when it has no CA file. So there
is nothing that could be done here but to say so, instead of running without identities.
"""

from __future__ import annotations

from typing import Any, NoReturn

from kubetls_sdk.exceptions import ConfigurationError

__all__ = ("is_granian", "refuse_start", "serve")

_WHY = (
    "expected a server that tells the client's certificate, got granian, which cannot: use"
    " 'kubetls serve' or kubetls_sdk.server.uvicorn"
)


def is_granian(receive: Any) -> bool:
    """Tell whether an ASGI `receive` is granian's."""
    owner = getattr(receive, "__self__", receive)
    return type(owner).__module__.partition(".")[0] in ("granian", "_granian")


async def refuse_start(receive: Any, send: Any) -> None:
    """Answer granian's lifespan so that it does not start, and says why."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": _WHY})


def serve(*args: Any, **options: Any) -> NoReturn:
    """Refuse, for whoever looks for granian beside the other servers.

    Raises:
        ConfigurationError: Always.
    """
    del args, options
    raise ConfigurationError(_WHY)
