# SPDX-License-Identifier: Apache-2.0
"""The app on somebody's telephone: another client of the external API, with a token of its own.

    python -m examples.edge.app URL ROOTS /users/carol/orders ... [--every SECONDS]

It knows the public certificate and nothing of the inside. Prints a line of JSON for each call.
"""

from __future__ import annotations

import json

from examples.edge.calling import call_all, options
from kubetls_sdk.client.httpx2 import ExternalClient

__all__ = ("main",)


def main() -> None:
    """Log in as carol, and call."""
    asked = options("url", "roots")
    with ExternalClient(roots=asked.roots, base_url=asked.url) as client:
        while True:
            login = {"user": "carol", "client": "app"}
            token = client.post("/login", content=json.dumps(login)).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            if not call_all(client, asked):
                return


if __name__ == "__main__":
    main()
