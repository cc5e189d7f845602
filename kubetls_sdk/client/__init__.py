# SPDX-License-Identifier: Apache-2.0
"""Clients: `Client` and `AsyncClient` of httpx2 when it is installed, else of httpx.

To choose, import them from `kubetls_sdk.client.httpx2` or `kubetls_sdk.client.httpx`; catch the
errors of the library that the client came from.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .httpx2 import AsyncClient, Client

__all__ = ("AsyncClient", "Client")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    library = "httpx2" if find_spec("httpx2") is not None else "httpx"
    return getattr(import_module(f"{__name__}.{library}"), name)
