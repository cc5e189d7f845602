# SPDX-License-Identifier: Apache-2.0
"""The service `orders`: it knows its caller, and reads no certificate."""

from fastapi import FastAPI

from kubetls_sdk.server.fastapi import Caller

app = FastAPI()


@app.get("/orders/{order}")
def show(order: str, caller: Caller) -> dict[str, str]:
    """Answer with an order, and with who asked for it."""
    return {"order": order, "caller": str(caller.spiffe_id)}
