# SPDX-License-Identifier: Apache-2.0
"""A server and a client process whose mounted volumes are rotated, and what the wire shows of it.

Rules:
    1. The server is a real `kubetls serve`, the client our `AsyncClient` in a process of its own;
       the volumes are written as the kubelet does it.
    2. The server's certificate is in effect when a stock client that connects anew is shown it,
       the client's when the application behind the server has seen it.
    3. Every connection and request counts: one that fails is a failure of the rotation.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import x509

from benchmarks.processes import LOAD_CPU, Processes, free_port, memory_mb, python
from benchmarks.server import QUIET
from kubetls_sdk import TrustBundleSet
from kubetls_sdk.testing import KubeletVolume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Identity
    from benchmarks.workspace import Workspace

__all__ = ("Endless", "Rotating", "Seen")

CONNECTIONS = 4
DEADLINE_SECONDS = 10.0
LOOK_SECONDS = 0.002


class Seen(NamedTuple):
    """What the application has seen since it was asked before.

    Attributes:
        serials: Serial number of each client certificate, and when it was first seen.
        stalls: How late the event loop woke up, in seconds.
    """

    serials: dict[str, float]
    stalls: list[float]


class Endless:
    """The client process.

    Args:
        port: Of the server.
        volume: What is mounted.
    """

    def __init__(self, port: int, volume: str) -> None:
        arguments = (str(port), str(CONNECTIONS))
        self._process = subprocess.Popen(
            ["taskset", "-c", str(LOAD_CPU), *python("-m", "benchmarks.endless", *arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KUBETLS_DIR": volume},
        )
        self.pid = self._process.pid
        if self._line() != "READY\n":
            raise RuntimeError("the client did not start")

    def finish(self) -> dict[str, int]:
        """Let each request have its answer, and return how many ended how."""
        self._process.send_signal(signal.SIGTERM)
        results: dict[str, int] = json.loads(self._line())
        return results

    def end(self) -> None:
        """Make sure that it has ended."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        return self._process.stdout.readline() if self._process.stdout else ""


class Rotating:
    """Both processes and their volumes.

    Attributes:
        seconds: From the write to the wire, for each rotation of the server.
        written: Serial number of each certificate of the client, and when it was written.
        failed_looks: Connections of the stock client that failed.
        memory: Of the server and of the client, in MB, after each rotation.
    """

    def __init__(self, workspace: Workspace, processes: Processes) -> None:
        self.seconds: list[float] = []
        self.written: dict[str, float] = {}
        self.failed_looks = 0
        self.memory: tuple[list[float], list[float]] = ([], [])
        self._ca = workspace.ca
        self._bundles = TrustBundleSet([workspace.ca.bundle])
        self._orders = workspace.kubelet
        self._web = KubeletVolume(workspace.volume.with_name("client-volume"))
        self._context = _stock_context(workspace.client)
        self._port = free_port()
        self._serial = 0
        self.rotate_web()
        options = (*QUIET, "--no-policy", "--port", str(self._port))
        place = ("--volume", str(workspace.volume))
        self._server = processes.start(
            python("-m", "kubetls_sdk", "serve", "benchmarks.witness:app", *options, *place),
            port=self._port,
        )
        self.client = Endless(self._port, str(self._web.directory))

    @classmethod
    @contextmanager
    def started(cls, workspace: Workspace) -> Iterator[Rotating]:
        """Start both, and end them."""
        with Processes.started() as processes:
            rotating = cls(workspace, processes)
            try:
                yield rotating
            finally:
                rotating.client.end()

    def rotate_web(self) -> None:
        """Write a new SVID for the client; does not wait."""
        svid = self._ca.issue("/ns/shop/sa/web", ttl=timedelta(hours=1))
        self._web.write_svid(svid, self._bundles)
        self.written[f"{svid.leaf.serial_number:x}"] = time.monotonic()

    def rotate_orders(self) -> None:
        """Write a new SVID for the server, and wait until the wire shows it.

        Raises:
            TimeoutError: It never does.
        """
        names = ("localhost",)
        svid = self._ca.issue("/ns/shop/sa/orders", dns_names=names, ttl=timedelta(hours=1))
        self._orders.write_svid(svid, self._bundles)
        self._serial = svid.leaf.serial_number
        started = time.monotonic()
        while self.presented() != self._serial:
            if time.monotonic() - started > DEADLINE_SECONDS:
                raise TimeoutError(f"no effect on the wire after {DEADLINE_SECONDS} s")
            time.sleep(LOOK_SECONDS)
        self.seconds.append(time.monotonic() - started)

    def weigh(self) -> None:
        """Note how much memory both processes use."""
        for pid, sizes in zip((self._server, self.client.pid), self.memory, strict=True):
            sizes.append(memory_mb(pid))

    def presented(self) -> int | None:
        """The serial number of the certificate that the server shows to a new connection."""
        try:
            with self._connect() as tls:
                der: Any = tls.getpeercert(binary_form=True)
        except OSError:
            self.failed_looks += 1
            return None
        return x509.load_der_x509_certificate(der).serial_number

    def seen(self) -> Seen:
        """Ask the application what it has seen since the last time."""
        connection = http.client.HTTPSConnection("localhost", self._port, context=self._context)
        try:
            connection.request("GET", "/seen")
            return Seen(**json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def _connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE_SECONDS)
        try:
            return self._context.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            plain.close()
            raise


def _stock_context(files: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.authorities))
    context.load_cert_chain(files.certificate, files.key)
    return context
