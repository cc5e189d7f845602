# SPDX-License-Identifier: Apache-2.0
"""TLS contexts that follow a source, for everything that takes an `ssl.SSLContext`.

The servers and clients of this package make their own; use these for requests, aiohttp, urllib3,
asyncio, `http.server` and the like.
"""

from __future__ import annotations

from kubetls_sdk._context import ReloadingContext, client_context, server_context

__all__ = ("ReloadingContext", "client_context", "server_context")
