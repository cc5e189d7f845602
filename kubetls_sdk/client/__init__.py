# SPDX-License-Identifier: Apache-2.0
"""Clients: `Client` and `AsyncClient` of httpx2 when it is installed, else of httpx.

`ExternalClient` and `AsyncExternalClient` are for the public internet, without our identity.

To choose, import them from `kubetls_sdk.client.httpx2` or `kubetls_sdk.client.httpx`; catch the
errors of the library that the client came from.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .httpx2 import AsyncClient, AsyncExternalClient, Client, ExternalClient

__all__ = ("AsyncClient", "AsyncExternalClient", "Client", "ExternalClient")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    library = next((each for each in ("httpx2", "httpx") if find_spec(each) is not None), None)
    if library is None:
        message = f"{name} needs httpx2 or httpx: pip install 'kubetls-sdk[httpx2]'"
        raise ModuleNotFoundError(message, name="httpx2")
    return getattr(import_module(f"{__name__}.{library}"), name)
