# SPDX-License-Identifier: Apache-2.0
"""A caller: it sends a request, and prints the status, or that the connection was refused.

    KUBETLS_DIR=theirs/shop python call.py GET https://127.0.0.1:8443/orders/42
    KUBETLS_DIR=theirs/shop python call.py --until-refused GET https://127.0.0.1:8443/orders/42

What is mounted decides who it is and whom it trusts. A federation file in $FEDERATION adds
partners, as `kubetls serve --federation` does for a server.
"""

import os
import sys
import time

import httpx

from kubetls_sdk.client.httpx import Client
from kubetls_sdk.federation import FederatedSource
from kubetls_sdk.volume_source import VolumeSource

ORDERS = "spiffe://example.org/ns/shop/sa/orders"


def outcome(client: Client, method: str, url: str) -> str:
    try:
        return str(client.request(method, url).status_code)
    except httpx.HTTPError:
        return "refused"


def main(method: str, url: str, *, until_refused: bool) -> None:
    with (
        VolumeSource() as volume,
        FederatedSource(volume, file=os.environ.get("FEDERATION")) as source,
        Client(server=ORDERS, source=source) as client,
    ):
        said = outcome(client, method, url)
        print(said, flush=True)
        while until_refused and said != "refused":  # over one kept connection
            time.sleep(0.02)
            said = outcome(client, method, url)
        if until_refused:
            print(said, flush=True)


if __name__ == "__main__":
    main(*sys.argv[-2:], until_refused="--until-refused" in sys.argv)
