# SPDX-License-Identifier: Apache-2.0
"""A workload of a partner: it calls the internal API with its own certificate.

    KUBETLS_DIR=... python -m examples.edge.partner URL /catalogue ... [--every SECONDS]

Prints a line of JSON for each call.
"""

from __future__ import annotations

from examples.edge.calling import call_all, options
from examples.edge.zones import INTERNAL
from kubetls_sdk.client.httpx2 import Client

__all__ = ("main",)


def main() -> None:
    """Call."""
    asked = options("url")
    with Client(server=INTERNAL, base_url=asked.url) as client:
        while call_all(client, asked):
            pass


if __name__ == "__main__":
    main()
