# SPDX-License-Identifier: Apache-2.0
"""`kubetls serve` as a process: what it serves, how it ends, what it says when it cannot start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from kubetls_sdk.testing import KubeletVolume
from tests.integration.serving import GET, World, exchange, receive_response
from tests.sdk.server.forwarding import forwarded_client_cert, lines
from tests.waiting import until

APPLICATION = """
import os
from kubetls_sdk.server.caller import caller

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = f"{os.getpid()} {caller(scope)}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

def factory():
    return app
"""

POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - name: web-reads
        from: {namespace: shop, serviceAccount: web}
        to: {methods: GET, paths: "/"}
"""


class Command:
    """A running `kubetls serve`."""

    def __init__(self, directory, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from kubetls_sdk.cli import main; main()", "serve", *arguments],
            cwd=directory,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "error"},
        )
        self.lines = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream,))
            for stream in (self.process.stderr, self.process.stdout)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream):
        self.lines.extend(iter(stream.readline, ""))
        stream.close()

    @property
    def text(self):
        return "".join(self.lines)

    def port(self, marker="running on https://"):
        """Wait until it serves, and return its port."""
        until(lambda: "startup complete" in self.text or self.process.poll() is not None, 30)
        assert marker in self.text, self.text
        return int(self.text.split(marker)[1].split()[0].rpartition(":")[2])

    def wait(self):
        """Wait for its end and return the exit status."""
        status = self.process.wait(30)
        for reader in self._readers:
            reader.join(10)
        return status


@pytest.fixture
def world():
    return World()


@pytest.fixture
def directory(tmp_path, world):
    volume = KubeletVolume(tmp_path / "volume")
    volume.write_svid(world.source.snapshot.svid, [world.ca.bundle])
    (tmp_path / "orders.py").write_text(APPLICATION)
    (tmp_path / "needy.py").write_text("import absent")
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


@contextlib.contextmanager
def serving(directory, *arguments, app="orders:app"):
    defaults = ["--volume", "volume", "--policy", "policy.yaml", "--port", "0"]
    command = Command(directory, app, *defaults, *arguments)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.process.kill()
        command.wait()


@contextlib.contextmanager
def connected(world, port):
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        world.client().wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def _accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


class TestServe:
    def test_policy_rotation_and_end(self, world, directory):
        """The policy is enforced; SVID and policy are followed; SIGTERM ends it gracefully."""
        with serving(directory, "--audit-log", "audit.log") as command:
            port = command.port()
            with connected(world, port) as connection:
                assert exchange(connection)[2].endswith(b" spiffe://example.org/ns/shop/sa/web")
                assert exchange(connection, GET.replace(b"GET", b"POST"))[0] == 403
                policy = POLICY.replace("methods: GET", "methods: POST")
                (directory / "policy.yaml").write_text(policy)
                until(lambda: exchange(connection)[0] == 403)
                before = connection.getpeercert(binary_form=True)
            KubeletVolume(directory / "volume").write_svid(
                world.ca.issue("/ns/shop/sa/orders"), [world.ca.bundle]
            )
            until(lambda: self._certificate(world, port) != before)
            command.process.send_signal(signal.SIGTERM)
            assert command.wait() in (0, -signal.SIGTERM)
        assert "Application shutdown" in command.text or "Finished server process" in command.text
        assert "Traceback" not in command.text
        audit = (directory / "audit.log").read_text()
        assert '"decision":"allow"' in audit
        assert '"decision":"deny"' in audit

    def test_audit_sample(self, world, directory):
        """With a share of zero only what is refused is in the audit log."""
        sample = ["--audit-log", "audit.log", "--audit-sample", "0"]
        with serving(directory, *sample) as command, connected(world, command.port()) as connection:
            assert exchange(connection)[0] == 200
            assert exchange(connection, GET.replace(b"GET", b"POST"))[0] == 403
        (line,) = (directory / "audit.log").read_text().splitlines()
        assert '"decision":"deny"' in line

    def test_forwarded(self, world, directory):
        """A named proxy is believed about its clients, and nobody else is."""
        condition = "        when: forwarded.spiffeId == 'spiffe://example.org/ns/shop/sa/phone'\n"
        (directory / "policy.yaml").write_text(POLICY + condition)
        phone = world.ca.issue("/ns/shop/sa/phone")
        told = GET[:-2] + lines(forwarded_client_cert(phone.chain)) + b"\r\n"
        statuses = {}
        for name in ("web", "proxy"):
            options = ["--forwarded-from", f"spiffe://example.org/ns/shop/sa/{name}"]
            options += ["--forwarded-header", "x-forwarded-client-cert"]
            with serving(directory, *options) as command:
                port = command.port()
                until(lambda port=port: _accepts(port))
                with connected(world, port) as connection:
                    statuses[name] = exchange(connection, told)[0]
        assert statuses == {"web": 200, "proxy": 403}

    @staticmethod
    def _certificate(world, port):
        with connected(world, port) as connection:
            return connection.getpeercert(binary_form=True)

    def test_two_workers(self, world, directory):
        """Two processes serve one port with identities of their own making, and end together."""
        with serving(directory, "--workers", "2", "--factory", app="orders:factory") as command:
            port = command.port()
            until(lambda: command.text.count("startup") >= 4, 30)
            pids = set()

            def both_have_answered():
                with connected(world, port) as connection:
                    status, _, body = exchange(connection)
                assert status == 200
                pids.add(body.split()[0])
                return len(pids) == 2

            until(both_have_answered, 20)
            command.process.send_signal(signal.SIGTERM)
            assert command.wait() == 0
        assert "Traceback" not in command.text

    def test_reload(self, world, directory):
        """With --reload a changed application is served by a new process, over mutual TLS."""
        with serving(directory, "--reload", "--reload-dir", ".") as command:
            port = command.port()
            changed = APPLICATION.replace("{os.getpid()}", "changed")

            def answer():
                try:
                    with connected(world, port) as connection:
                        return exchange(connection)[2]
                except (OSError, ssl.SSLError):
                    return b""

            until(lambda: answer().endswith(b"/sa/web"), 20)
            (directory / "orders.py").write_text(changed)
            until(lambda: answer().startswith(b"changed "), 20)
            command.process.send_signal(signal.SIGTERM)
            command.wait()

    def test_graceful_end(self, world, directory):
        """A request that is under way when SIGTERM comes is answered."""
        slow = APPLICATION.replace(
            '    body =', '    import asyncio; print("reached", flush=True)\n'
            '    await asyncio.sleep(1)\n    body ='
        )  # fmt: skip
        (directory / "orders.py").write_text(slow)
        with serving(directory) as command:
            port = command.port()
            with connected(world, port) as connection:
                connection.sendall(GET)
                until(lambda: "reached" in command.text)
                command.process.send_signal(signal.SIGTERM)
                assert receive_response(connection)[0] == 200
            command.wait()

    def test_unix_socket(self, world, directory):
        """A unix socket speaks mutual TLS as well, and is removed at the end."""
        with serving(directory, "--uds", "orders.sock") as command:
            until(lambda: "running on unix socket" in command.text, 30)
            plain = socket.socket(socket.AF_UNIX)
            plain.connect(str(directory / "orders.sock"))
            with plain, world.client().wrap_socket(plain, server_hostname="a") as connection:
                assert exchange(connection)[0] == 200
            command.process.send_signal(signal.SIGINT)
            command.wait()
        assert not (directory / "orders.sock").exists()

    def test_probes_and_metrics(self, world, directory):
        """Probes answer in plain HTTP on a port of their own, and nothing else does."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        probes = ["--health-port", str(port), "--health-host", "127.0.0.1"]
        with serving(directory, *probes, "--metrics-path", "/metrics") as command:
            with connected(world, command.port()) as connection:
                exchange(connection)
            url = f"http://127.0.0.1:{port}"
            for path in ("/readyz", "/healthz", "/livez"):
                with urllib.request.urlopen(url + path) as response:  # noqa: S310
                    assert (response.status, response.read()) == (200, b"")
            with urllib.request.urlopen(url + "/metrics") as response:  # noqa: S310
                text = response.read().decode()
            assert 'kubetls_handshakes_total{reason="",result="ok",side="server"} 1.0' in text
            assert 'kubetls_requests_total{decision="allowed",rule="web-reads"} 1.0' in text
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(url + "/")  # noqa: S310


BAD = [
    pytest.param(["--volume", "nothing", "--ready-timeout", "0"], "nothing", id="no-volume"),
    pytest.param(["--policy", "nothing.yaml"], "nothing.yaml", id="no-policy-file"),
    pytest.param(["--policy", "orders.py"], "orders.py:", id="not-a-policy"),
    pytest.param(["--no-policy"], "got both", id="policy-and-none"),
    pytest.param(["--client-cert", "maybe"], "maybe", id="bad-choice"),
    pytest.param(["--handshake-timeout", "0"], "handshake_timeout > 0", id="bad-timeout"),
    pytest.param(["--http2"], "zttp", id="http2-without-zttp"),
    pytest.param(["--anonymous-path", "/a"], "probe listener", id="anonymous-required"),
    pytest.param(["--edge-port", "0"], "--edge-certificate", id="edge-without-certificate"),
    pytest.param(["--forwarded-header", "client-cert"], "--forwarded-from", id="header-of-nobody"),
    pytest.param(["--forwarded-from", "envoy"], "SPIFFE ID", id="proxy-without-identity"),
    pytest.param(["--metrics-path", "/metrics"], "--health-port", id="metrics-nowhere"),
    pytest.param(["--health-port", "0", "--health-path", "x"], "start with '/'", id="bad-path"),
    pytest.param(["--audit-log", "nowhere/audit"], "nowhere/audit", id="bad-audit-log"),
    pytest.param(["--audit-sample", "0.5"], "with an audit log", id="sample-of-nothing"),
    pytest.param(["--audit-sample", "2"], "0<=x<=1", id="no-share"),
    pytest.param(["--port", "65536"], "65536 is not in the range", id="no-port"),
    pytest.param(["--uds", "nowhere/socket"], "nowhere/socket", id="bad-unix-socket"),
    pytest.param(["--uds", "nowhere/socket", "--workers", "2"], "nowhere/socket", id="workers-uds"),
    pytest.param(["--fd", "1000"], "file descriptor 1000", id="bad-descriptor"),
    pytest.param(["--log-config", "orders.py"], "got orders.py: ", id="bad-log-config"),
    pytest.param(["--http", "h12"], "h11, httptools, zttp", id="unknown-http"),
    pytest.param(["--loop", "orders:missing"], "'orders:missing'", id="unknown-loop"),
    pytest.param(["--ws", "needy:Protocol"], "the module 'absent'", id="not-installed"),
]


class TestCannotStart:
    @pytest.mark.parametrize(("arguments", "message"), BAD)
    def test_one_line(self, directory, arguments, message):
        """What is wrong is one line on standard error, with a status and without a traceback."""
        with serving(directory, *arguments) as command:
            assert command.wait() == 2
        assert message in command.lines[-1]
        assert "Traceback" not in command.text
        assert "running on" not in command.text

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_port_in_use(self, directory, workers):
        """A port in use ends the start, with one worker and with two."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with serving(directory, "--port", str(port), "--workers", workers) as command:
                assert command.wait() == 2
        assert f"127.0.0.1:{port}: Address already in use" in command.lines[-1]
        assert "Traceback" not in command.text

    @pytest.mark.parametrize("app", ["missing:app", "orders:missing"])
    def test_no_application(self, directory, app):
        """An application that is not there ends the start with uvicorn's words and status."""
        with serving(directory, app=app) as command:
            assert command.wait() == 3
        assert "Error loading ASGI app" in command.lines[-1]
        assert "Traceback" not in command.text

    def test_no_policy(self, directory):
        """Without a policy nobody could do anything, so there has to be a choice."""
        command = Command(directory, "orders:app", "--volume", "volume")
        assert command.wait() == 2
        assert "--policy" in command.lines[-1]

    def test_broken_worker(self, directory):
        """Workers that cannot start end the whole, with a status that is not success."""
        with serving(directory, "--workers", "2", app="orders:missing") as command:
            assert command.wait() == 3
        assert "Traceback" not in command.text
