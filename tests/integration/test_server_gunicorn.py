# SPDX-License-Identifier: Apache-2.0
"""gunicorn with our worker, and granian, which cannot be used."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from kubetls_sdk.testing import KubeletVolume
from tests.integration.serving import GET, World, exchange, stock_context
from tests.waiting import until

APPLICATION = """
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.caller import caller

async def inner(scope, receive, send):
    assert scope["type"] == "http", scope["type"]
    body = str(caller(scope)).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

app = KubeTLSMiddleware(inner, policy=AnyVerified())
"""


@pytest.fixture
def world():
    return World()


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Process:
    """A server process whose output is kept."""

    def __init__(self, world, directory, *command):
        KubeletVolume(directory / "volume").write_svid(
            world.source.snapshot.svid, [world.ca.bundle]
        )
        (directory / "orders.py").write_text(APPLICATION)
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([os.getcwd(), str(directory)]),
                "KUBETLS_DIR": str(directory / "volume"),
            },
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        self.lines.extend(iter(self.process.stdout.readline, ""))
        self.process.stdout.close()

    @property
    def text(self):
        return "".join(self.lines)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self._reader.join(10)


def connect(port, context):
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost")


class TestGunicorn:
    def _arguments(self, port, *more):
        worker = "kubetls_sdk.server.gunicorn.Worker"
        return ("-m", "gunicorn", "-k", worker, "-b", f"127.0.0.1:{port}", *more, "orders:app")

    def test_two_workers(self, world, tmp_path, port):
        """Gunicorn's processes speak mutual TLS, and refuse whom they should."""
        with Process(world, tmp_path, *self._arguments(port, "-w", "2")) as server:
            until(lambda: server.text.count("Application startup complete") == 2, 30)
            for _ in range(4):
                with connect(port, world.client()) as connection:
                    assert exchange(connection)[2] == b"spiffe://example.org/ns/shop/sa/web"
            with (
                connect(port, stock_context(None, world.ca.bundle)) as connection,
                pytest.raises((ConnectionError, ssl.SSLError)),
            ):
                exchange(connection)
            until(lambda: "presented no certificate" in server.text)
        assert "Traceback" not in server.text

    def test_own_certificate_is_refused(self, world, tmp_path, port):
        """Gunicorn's own TLS settings end the start, instead of taking the place of ours."""
        certificate = ("--certfile", "a.pem", "--keyfile", "a.pem")
        (tmp_path / "a.pem").write_text("")
        with Process(world, tmp_path, *self._arguments(port, *certificate)) as server:
            assert server.process.wait(20) != 0
            until(lambda: "expected no certfile" in server.text)


class TestGranian:
    def test_does_not_start(self, world, tmp_path, port):
        """Granian is told to give up, with a line that says why and what to use."""
        command = (
            "-m", "granian", "--interface", "asgi", "--port", str(port), "orders:app",
        )  # fmt: skip
        with Process(world, tmp_path, *command) as server:
            assert server.process.wait(30) != 0
        assert "got granian, which cannot" in server.text

    def test_serves_nothing_without_lifespan(self, world, tmp_path, port):
        """Without lifespan events it starts, and every request is refused."""
        command = (
            "-m", "granian", "--interface", "asginl", "--port", str(port), "orders:app",
        )  # fmt: skip
        with Process(world, tmp_path, *command):

            def status():
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                        plain.sendall(GET)
                        return plain.recv(65536).split(b" ")[1]
                except OSError:
                    return None

            assert until(status, 30) == b"500"
