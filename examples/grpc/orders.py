# SPDX-License-Identifier: Apache-2.0
"""The service: it knows its callers, and the policy has let them in."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator

import orders_pb2
import orders_pb2_grpc
from grpc.aio import ServicerContext

from kubetls_sdk.server.grpc import aio_server, caller

STATES = ("paid", "packed", "sent")


class Orders(orders_pb2_grpc.OrdersServicer):
    """Implements `shop.Orders` of orders.proto."""

    async def Get(  # noqa: N802 - named in orders.proto
        self, request: orders_pb2.GetRequest, context: ServicerContext
    ) -> orders_pb2.Order:
        """Answer with the order, and who asked."""
        return orders_pb2.Order(id=request.id, seen_caller=str(caller(context)), state="paid")

    async def Watch(  # noqa: N802 - named in orders.proto
        self, request: orders_pb2.GetRequest, context: ServicerContext
    ) -> AsyncIterator[orders_pb2.Order]:
        """Answer with each state of the order."""
        for state in STATES:
            yield orders_pb2.Order(id=request.id, seen_caller=str(caller(context)), state=state)


async def main() -> None:
    logging.basicConfig()
    server = aio_server(policy="policy.yaml")
    orders_pb2_grpc.add_OrdersServicer_to_server(Orders(), server)
    server.add_secure_port(f"127.0.0.1:{os.environ.get('PORT', '8443')}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
