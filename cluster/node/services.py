# SPDX-License-Identifier: Apache-2.0
"""Services on a real node, and the API server's way to them: what kube-proxy is elsewhere.

Rules:
1. A new connection goes to the next endpoint that the API server calls ready at that moment, and
   fails when that one does not accept it, as with kube-proxy.
2. The API server has no address in the node's network: it reaches Services by an HTTP CONNECT
   proxy, which its egress selector names. So webhooks are configured as in every cluster, and
   `kubectl logs` and `kubectl exec` work.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cluster import lifetime
from cluster.flags import API_SERVER, Options
from cluster.service_address import ServiceAddress, join

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.control_plane import ControlPlane
    from cluster.node.network import NodeNetwork

_MAX_HEAD = 4096
_HEAD_SECONDS = 5.0


def options(folder: Path) -> Options:
    """Let the API server of a cluster call webhooks through the socket that `Services` opens.

    Args:
        folder: Where the socket will be, the same as for `Services`.
    """
    transport = {"uds": {"udsName": str(_socket_path(folder))}}
    connection = {"proxyProtocol": "HTTPConnect", "transport": transport}
    document = {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }
    path = folder / "egress.json"
    path.write_text(json.dumps(document))
    return Options(more={API_SERVER: [f"--egress-selector-config-file={path}"]})


class Services(lifetime.Owned):
    """The Services of a node that are served, as a context manager.

    Args:
        control_plane: The cluster, with `options(folder)`.
        network: The node's network.
        folder: For the API server's socket.
    """

    def __init__(self, control_plane: ControlPlane, network: NodeNetwork, folder: Path) -> None:
        self._api = control_plane.api
        self._network = network
        self._path = _socket_path(folder)
        self._stack = ExitStack()

    def _start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        threading.Thread(target=self._accept, name="egress", daemon=True).start()

    def close(self) -> None:
        """Accept nothing more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._stack.close()
        super().close()

    def serve(self, namespace: str, name: str) -> str:
        """Pass on what comes to the first port of a Service, and return the Service's address."""
        service = self._api.get(f"/api/v1/namespaces/{namespace}/services/{name}")["spec"]
        address, port = service["clusterIP"], service["ports"][0]["port"]
        turns = itertools.count()
        passing = ServiceAddress(
            lambda: _one_of(self.endpoints(namespace, name), next(turns)),
            connect=self._network.connect,
            listener=self._network.listen(address, port),
        )
        self._stack.enter_context(passing)
        return str(address)

    def endpoints(self, namespace: str, name: str) -> list[tuple[str, int]]:
        """Addresses and ports of the pods of a Service that are ready."""
        query = f"labelSelector=kubernetes.io/service-name%3D{name}"
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{query}"
        return [
            (address, each["ports"][0]["port"])
            for each in self._api.get(path)["items"]
            for address in _ready(each)
        ]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            client.settimeout(_HEAD_SECONDS)
            with self._network.connect(_asked(client)) as target:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                join(client, target)


def _asked(client: socket.socket) -> tuple[str, int]:
    """Read the head of a CONNECT request, after which the API server waits for an answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        chunk = client.recv(_MAX_HEAD)
        if not chunk or len(head) > _MAX_HEAD:
            raise ValueError("expected the head of a CONNECT request")
        head += chunk
    method, authority, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    if method != "CONNECT":
        raise ValueError(f"expected CONNECT, got {method!r}")
    host, _, port = authority.rpartition(":")
    return host, int(port)


def _one_of(endpoints: list[tuple[str, int]], turn: int) -> list[tuple[str, int]]:
    return [endpoints[turn % len(endpoints)]] if endpoints else []


def _ready(endpoint_slice: dict[str, Any]) -> list[str]:
    endpoints = endpoint_slice.get("endpoints") or []
    return [each["addresses"][0] for each in endpoints if each["conditions"].get("ready")]


def _socket_path(folder: Path) -> Path:
    return folder / "egress.sock"
