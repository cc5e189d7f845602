# SPDX-License-Identifier: Apache-2.0
"""The service under test: yours."""

from fastapi import FastAPI

from kubetls_sdk.server.fastapi import Caller

app = FastAPI()


@app.get("/orders/{order}")
def show(order: str, caller: Caller) -> dict[str, str]:
    """Answer with an order, and with who asked for it."""
    return {"order": order, "caller": str(caller.spiffe_id)}


@app.delete("/orders/{order}")
def cancel(order: str, caller: Caller) -> dict[str, str]:
    """Cancel an order."""
    return {"cancelled": order, "by": str(caller.spiffe_id)}
