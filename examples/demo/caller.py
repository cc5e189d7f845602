# SPDX-License-Identifier: Apache-2.0
"""One call by the KubeTLS client, as a program: `web`, `billing` and the partner are started so.

Its identity is what is mounted at `$KUBETLS_DIR`. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx

from kubetls_sdk.client.httpx import Client
from kubetls_sdk.exceptions import PeerError

__all__ = ("call",)


def call(server: str, method: str, url: str) -> dict[str, Any]:
    """Send a request to a server that has to be `server`, and tell what came of it."""
    with Client(server=server, timeout=10) as client:
        try:
            response = client.request(method, url)
        except httpx.TransportError as err:
            is_ours = isinstance(err.__cause__, PeerError)
            return {"error": str(err), "refused_by_client": is_ours}
    body = response.json() if response.is_success else {}
    return {"status": response.status_code, "body": body}


if __name__ == "__main__":
    print(json.dumps(call(*sys.argv[1:4])))
