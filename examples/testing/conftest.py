# SPDX-License-Identifier: Apache-2.0
"""The service, running as in production: mutual TLS on a free port, with the real policy."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from orders import app

from kubetls_sdk import StaticSource
from kubetls_sdk.client.httpx import Client
from kubetls_sdk.server.uvicorn import Config, MutualTls
from kubetls_sdk.testing.pytest_plugin import SourceFactory

POLICY = Path(__file__).with_name("policy.yaml")


class RunningOrders:
    """The running service.

    Attributes:
        url: Where it is.
        source: Its identity and whom it trusts; `replace` rotates them.
    """

    def __init__(self, url: str, source: StaticSource) -> None:
        self.url = url
        self.source = source

    def client(self, caller: StaticSource) -> Client:
        """A client with a caller's identity, for a `with` block."""
        return Client(server=self.source.snapshot.svid.spiffe_id, source=caller, base_url=self.url)


@pytest.fixture
def orders(kubetls_source: SourceFactory) -> Iterator[RunningOrders]:
    """The service, in a thread of this process."""
    source = kubetls_source("/ns/shop/sa/orders")
    config = Config(app, tls=MutualTls(source=source), policy=[POLICY], log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()  # whoever calls before it accepts is in the queue meanwhile
        yield RunningOrders(f"https://127.0.0.1:{listening.getsockname()[1]}", source)
        server.should_exit = True
        thread.join()
    config.close()
