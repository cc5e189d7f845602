# SPDX-License-Identifier: Apache-2.0
"""A small application that tells its caller who they are, and a client that asks it."""

from __future__ import annotations

import sys

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from kubetls_sdk.client.httpx import Client
from kubetls_sdk.server.caller import SCOPE_KEY


async def who(request):
    """Answer with the caller's SPIFFE ID."""
    return PlainTextResponse(str(request.scope[SCOPE_KEY]))


app = Starlette(routes=[Route("/", who)])


def main() -> None:
    """Call a server that must have a SPIFFE ID, and write what it says."""
    url, server = sys.argv[1:]
    with Client(server=server) as client:
        sys.stdout.write(client.get(url).raise_for_status().text)


if __name__ == "__main__":
    main()
