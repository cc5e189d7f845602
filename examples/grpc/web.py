# SPDX-License-Identifier: Apache-2.0
"""The caller: one channel, kept while certificates change."""

import os
import time

import grpc
import orders_pb2
import orders_pb2_grpc

from kubetls_sdk import VolumeSource
from kubetls_sdk.client.grpc import secure_channel

TARGET = f"localhost:{os.environ.get('PORT', '8443')}"
ORDERS = "spiffe://example.org/ns/shop/sa/orders"


def main() -> None:
    with VolumeSource() as source, secure_channel(TARGET, source, server_id=ORDERS) as channel:
        stub = orders_pb2_grpc.OrdersStub(channel)
        while True:
            serial = f"{source.snapshot.svid.leaf.serial_number:x}"[:8]
            try:
                order = stub.Get(orders_pb2.GetRequest(id="42"), timeout=5)
                states = [each.state for each in stub.Watch(orders_pb2.GetRequest(id="42"))]
                print(f"{order.seen_caller} with certificate {serial}: {', '.join(states)}")
            except grpc.RpcError as err:
                print(f"certificate {serial}: {err.code().name}")
            time.sleep(1)


if __name__ == "__main__":
    main()
