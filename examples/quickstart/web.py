# SPDX-License-Identifier: Apache-2.0
"""A service that calls `orders` each second, over one client for all of its life."""

import os
import time
from contextlib import suppress

from kubetls_sdk.client.httpx import Client

URL = os.environ.get("ORDERS_URL", "https://localhost:8443")

with (
    suppress(KeyboardInterrupt),
    Client(server="spiffe://example.org/ns/shop/sa/orders", base_url=URL) as client,
):
    while True:
        response = client.get("/orders/42")
        orders = response.extensions["verified_peer"]
        print(response.status_code, response.json(), flush=True)
        print(f"    from {orders.spiffe_id}, {orders.leaf.serial_number:x}", flush=True)
        time.sleep(1)
