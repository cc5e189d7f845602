# SPDX-License-Identifier: Apache-2.0
"""granian cannot be used: it passes no client certificate on to the application.

Its TLS is inside its compiled part, without a way to get the peer's chain, and without one to
reload trust. What it calls client verification turns itself off when it has no CA file. So there
is nothing that could be done here but to say so, instead of running without identities.
"""

from __future__ import annotations

from typing import Any, NoReturn

from kubetls_sdk.exceptions import ConfigurationError

__all__ = ("is_granian", "refuse_granian", "serve")


def is_granian(receive: Any) -> bool:
    """Tell whether an ASGI `receive` is granian's."""
    owner = getattr(receive, "__self__", receive)
    return type(owner).__module__.partition(".")[0] in ("granian", "_granian")


def refuse_granian() -> NoReturn:
    """Refuse to run under granian.

    Raises:
        ConfigurationError: Always.
    """
    raise ConfigurationError(
        "expected a server that tells the client's certificate, got granian, which cannot: use"
        " 'kubetls serve' or kubetls_sdk.server.uvicorn"
    )


def serve(*args: Any, **options: Any) -> NoReturn:
    """Refuse, for whoever looks for granian beside the other servers.

    Raises:
        ConfigurationError: Always.
    """
    del args, options
    refuse_granian()
