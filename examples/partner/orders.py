# SPDX-License-Identifier: Apache-2.0
"""Our service: it says whom it has served."""

from fastapi import FastAPI

from kubetls_sdk.server.fastapi import Caller

app = FastAPI()


@app.get("/orders/{order}")
def show(order: str, caller: Caller) -> dict[str, str]:
    """Answer with an order, and with who asked for it."""
    return {"order": order, "caller": str(caller.spiffe_id)}


@app.post("/deliveries", status_code=201)
def deliver(caller: Caller) -> dict[str, str]:
    """Take a delivery."""
    return {"delivered_by": str(caller.spiffe_id)}
