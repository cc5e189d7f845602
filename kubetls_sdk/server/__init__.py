# SPDX-License-Identifier: Apache-2.0
"""Servers: mutual TLS with SPIFFE identities for ASGI applications.

Import what you use by its full name, so that no framework is loaded unasked:
`kubetls_sdk.server.uvicorn`, `.hypercorn`, `.asgi` (the middleware), `.fastapi`.

All lines of the log come from the logger `kubetls_sdk.server` and the ones below it.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
