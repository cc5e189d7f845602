# SPDX-License-Identifier: Apache-2.0
"""The way to Services of a real node, without the node."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.flags import API_SERVER
from cluster.node.services import Services, options

SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"


class Network:
    """A node's network of which every address is a server that says who was asked for."""

    def connect(self, target: tuple[str, int]) -> socket.socket:
        if target[0] == "10.88.0.9":
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._answer, args=(theirs, target), daemon=True).start()
        return ours

    def listen(self, address: str, port: int) -> socket.socket:
        del address, port
        return socket.create_server(("127.0.0.1", 0))

    @staticmethod
    def _answer(link: socket.socket, target: tuple[str, int]) -> None:
        with link:
            link.sendall(f"{target[0]}:{target[1]} got ".encode() + link.recv(100))


class Api:
    """The API server's objects: one Service and its endpoints."""

    def __init__(self) -> None:
        self.endpoints: list[dict[str, Any]] = []

    def get(self, path: str) -> dict[str, Any]:
        if path == "/api/v1/namespaces/shop/services/orders":
            return {"spec": {"clusterIP": "10.0.0.7", "ports": [{"port": 443}]}}
        assert path == f"{SLICES}?labelSelector=kubernetes.io/service-name%3Dorders"
        return {"items": [{"ports": [{"port": 8443}], "endpoints": self.endpoints}]}

    def add(self, address: str, *, ready: bool = True) -> None:
        self.endpoints.append({"addresses": [address], "conditions": {"ready": ready}})


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def services(api: Api, tmp_path: Path) -> Iterator[Services]:
    with Services(SimpleNamespace(api=api), Network(), tmp_path) as running:
        yield running


@pytest.fixture
def proxy(services: Services, tmp_path: Path) -> Iterator[socket.socket]:
    """A connection of the API server, to the socket that its configuration names."""
    [flag] = options(tmp_path).more[API_SERVER]
    document = json.loads(Path(flag.partition("=")[2]).read_text())
    [selection] = document["egressSelections"]
    assert selection["name"] == "cluster"
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(selection["connection"]["transport"]["uds"]["udsName"])
        yield link


def received(link: socket.socket) -> bytes:
    """What comes; nothing when the other side has ended, also with bytes left unread."""
    try:
        return link.recv(100)
    except ConnectionResetError:
        return b""


class TestProxy:
    def test_connects(self, proxy: socket.socket) -> None:
        """After its answer, the connection is the one that was asked for."""
        proxy.sendall(b"CONNECT 10.0.0.7:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert proxy.recv(100) == b"HTTP/1.1 200 OK\r\n\r\n"
        proxy.sendall(b"hello")
        assert proxy.recv(100) == b"10.0.0.7:443 got hello"

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another-method"),
            pytest.param(b"CONNECT nowhere HTTP/1.1\r\n\r\n", id="no-port"),
            pytest.param(b"nothing\r\n\r\n", id="no-request"),
            pytest.param(b"CONNECT 10.88.0.9:1 HTTP/1.1\r\n\r\n", id="nobody-there"),
            pytest.param(b"x" * 9000, id="endless"),
        ],
    )
    def test_refuses(self, proxy: socket.socket, head: bytes) -> None:
        """The connection ends without an answer."""
        proxy.sendall(head)
        assert received(proxy) == b""

    def test_ends(self, services: Services, tmp_path: Path) -> None:
        """Nothing is left to connect to."""
        services.close()
        assert not (tmp_path / "egress.sock").exists()


class TestServe:
    def ask(self, port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            link.sendall(b"hello")
            return received(link)

    @pytest.fixture
    def port(self, services: Services, monkeypatch: pytest.MonkeyPatch) -> int:
        """Where the Service's address is, here."""
        listeners = []
        listen = Network.listen
        monkeypatch.setattr(
            Network, "listen", lambda *a: listeners.append(listen(*a)) or listeners[-1]
        )
        assert services.serve("shop", "orders") == "10.0.0.7"
        return listeners[0].getsockname()[1]

    def test_takes_turns(self, api: Api, port: int) -> None:
        """Each new connection goes to the next pod that is ready."""
        for address, ready in (("10.88.0.2", True), ("10.88.0.3", False), ("10.88.0.4", True)):
            api.add(address, ready=ready)
        answers = {self.ask(port) for _ in range(4)}
        assert answers == {b"10.88.0.2:8443 got hello", b"10.88.0.4:8443 got hello"}

    def test_refused(self, api: Api, port: int) -> None:
        """A pod that does not accept the connection ends it, as with kube-proxy."""
        api.add("10.88.0.9")
        assert self.ask(port) == b""

    def test_no_pod(self, port: int) -> None:
        """Without a pod that is ready, the connection ends."""
        assert self.ask(port) == b""
