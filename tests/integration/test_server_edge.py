# SPDX-License-Identifier: Apache-2.0
"""The listeners beside the inner one: the public edge, and probes over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading

import pytest
import trustme
import uvicorn

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.authorizer import AnyCaller, AnyVerified
from kubetls_sdk.server.edge import Edge
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.server.probes import Probes
from kubetls_sdk.server.uvicorn import Config
from tests.integration.serving import GET, World, exchange, read_to_end, stock_context
from tests.waiting import until


@pytest.fixture
def world():
    return World()


@pytest.fixture
def web_pki():
    return trustme.CA()


@pytest.fixture
def certificate(tmp_path, web_pki):
    write(tmp_path, web_pki)
    return {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}


def write(directory, web_pki, name="shop.example"):
    issued = web_pki.issue_cert(name)
    issued.private_key_pem.write_to_path(directory / "tls.key")
    (directory / "tls.crt").write_bytes(b"".join(p.bytes() for p in issued.cert_chain_pems))


def public_client(web_pki, name="shop.example"):
    context = ssl.create_default_context()
    web_pki.configure_trust(context)
    return context, name


@contextlib.contextmanager
def running(world, *, policy=None, edge=None, probes=None, users=None, forwarded=None, **settings):
    config = Config(
        world.application,
        tls=MutualTls(source=world.source, **settings),
        policy=policy if policy is not None else AnyCaller(),
        edge=edge,
        probes=probes,
        users=users,
        forwarded=forwarded,
        log_config=None,
        host="127.0.0.1",
        port=0,
        timeout_graceful_shutdown=2,
    )
    for listener in (edge, probes):
        if listener is not None:
            listener.bind()
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


@contextlib.contextmanager
def connected(port, context, name="localhost"):
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        yield connection


class TestEdge:
    def test_public_and_inner_callers(self, world, web_pki, certificate):
        """The same application: anonymous at the edge, with an identity inside."""
        edge = Edge(port=0, host="127.0.0.1", **certificate)
        with running(world, edge=edge) as port:
            with connected(edge.bound_port, *public_client(web_pki)) as connection:
                assert exchange(connection)[2] == b"anonymous"
            with connected(port, world.client()) as connection:
                assert exchange(connection)[2].endswith(b"/sa/web")

    def test_shows_nothing_of_the_mesh(self, world, web_pki, certificate):
        """Only the public certificate is presented, and no client certificate is asked for."""
        edge = Edge(port=0, host="127.0.0.1", **certificate)
        svid = world.ca.issue("/ns/shop/sa/web")
        with running(world, edge=edge):
            context = stock_context(svid, world.ca.bundle)
            web_pki.configure_trust(context)
            with connected(edge.bound_port, context, "shop.example") as connection:
                assert ("DNS", "shop.example") in connection.getpeercert()["subjectAltName"]
                assert exchange(connection)[2] == b"anonymous"
            scope = world.application.scopes[0]
        assert scope["extensions"]["tls"]["client_cert_chain"] == ()
        assert scope["extensions"]["tls"]["server_cert"] is None

    def test_policy_decides_on_anonymous_callers(self, world, web_pki, certificate):
        """What the policy does not allow to anonymous callers is denied at the edge."""
        text = (
            "version: 1\npolicies:\n- name: p\n  allow:\n  - name: inside\n"
            "    from: {namespace: shop}\n    to: {methods: GET, paths: '/**'}\n"
        )
        policy = PolicySet.parse({"p": text}, trust_domain=world.ca.trust_domain)
        edge = Edge(port=0, host="127.0.0.1", **certificate)
        with running(world, edge=edge, policy=policy) as port:
            with connected(edge.bound_port, *public_client(web_pki)) as connection:
                status, headers, body = exchange(connection)
                assert (status, headers["content-type"]) == (403, "application/problem+json")
                assert b"inside" not in body
            with connected(port, world.client()) as connection:
                assert exchange(connection)[0] == 200

    def test_reload(self, world, web_pki, certificate, tmp_path, caplog):
        """A new certificate is presented; a pair that does not fit keeps the last good one."""
        edge = Edge(port=0, host="127.0.0.1", poll_seconds=0.05, **certificate)

        def name():
            context, _ = public_client(web_pki)
            context.check_hostname = False
            with connected(edge.bound_port, context) as connection:
                return connection.getpeercert()["subjectAltName"][0][1]

        with running(world, edge=edge):
            assert name() == "shop.example"
            write(tmp_path, web_pki, "new.example")
            until(lambda: name() == "new.example")
            (tmp_path / "tls.key").write_bytes(web_pki.issue_cert("x").private_key_pem.bytes())
            until(lambda: "stays as it was" in caplog.text)
            assert name() == "new.example"
            assert caplog.text.count("stays as it was") == 1

    def test_stalled_handshake(self, world, certificate):
        """The gate's deadline holds at the edge too."""
        edge = Edge(port=0, host="127.0.0.1", **certificate)
        with (
            running(world, edge=edge, handshake_timeout=0.3),
            socket.create_connection(("127.0.0.1", edge.bound_port), timeout=10) as plain,
        ):
            plain.sendall(b"\x16\x03")
            assert read_to_end(plain) == b""

    def test_identity_headers_prove_nothing(self, world, web_pki, certificate):
        """A claim in a header does not reach the application."""
        edge = Edge(port=0, host="127.0.0.1", **certificate)
        claim = b"x-forwarded-client-cert: URI=spiffe://example.org/admin\r\n\r\n"
        with (
            running(world, edge=edge),
            connected(edge.bound_port, *public_client(web_pki)) as connection,
        ):
            exchange(connection, GET[:-2] + claim)
        (scope,) = world.application.scopes
        assert [name for name, _ in scope["headers"]] == [b"host"]

    @pytest.mark.parametrize("fault", ["missing", "mismatch", "not-pem"])
    def test_unusable_files(self, certificate, tmp_path, web_pki, fault):
        """Files that cannot be used end the start with an error that names them."""
        if fault == "missing":
            (tmp_path / "tls.key").unlink()
        elif fault == "mismatch":
            (tmp_path / "tls.key").write_bytes(web_pki.issue_cert("x").private_key_pem.bytes())
        else:
            (tmp_path / "tls.crt").write_text("hello")
        with pytest.raises(ConfigurationError, match="tls"):
            Edge(port=0, host="127.0.0.1", **certificate).bind()


def probe(port, path="/readyz", method="GET", context=None):
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()


class TestProbes:
    def test_application_is_never_called(self, world):
        """Exactly the named paths are answered, by GET and HEAD, without the application."""
        probes = Probes(port=0, host="127.0.0.1")
        with running(world, probes=probes, policy=AnyVerified()):
            port = probes.bound_port
            assert probe(port) == probe(port, method="HEAD") == (200, b"")
            assert probe(port, "/livez?full=1") == (200, b"")
            assert probe(port, "/") == probe(port, "/readyz/") == (404, b"")
            assert probe(port, "/readyz/../") == probe(port, "//readyz") == (404, b"")
            assert probe(port, method="POST") == (405, b"")
        assert world.application.scopes == []

    def test_server_only_tls(self, world):
        """Probes over TLS see our certificate, and need none of their own."""
        probes = Probes(port=0, host="127.0.0.1", tls=True)
        context = stock_context(None, world.ca.bundle)
        with running(world, probes=probes):
            assert probe(probes.bound_port, context=context) == (200, b"")

    def test_not_ready_before_the_application(self, world):
        """While the application starts, it is alive and not ready."""
        go_on = threading.Event()
        probes = Probes(port=0, host="127.0.0.1")
        seen = []

        async def slow(scope, receive, send):
            import asyncio

            if scope["type"] == "lifespan":
                await receive()
                await asyncio.to_thread(go_on.wait, 10)
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})

        world.application = slow
        watcher = threading.Thread(
            target=lambda: (
                until(lambda: answers(probes)),
                seen.extend([probe(probes.bound_port)[0], probe(probes.bound_port, "/livez")[0]]),
                go_on.set(),
            )
        )
        probes.bind()
        watcher.start()
        with running(world, probes=probes):
            watcher.join(10)
            until(lambda: probe(probes.bound_port)[0] == 200)
        assert seen == [503, 200]

    def test_expired_svid(self, world):
        """With an expired SVID of our own we are alive and not ready."""
        from datetime import timedelta

        probes = Probes(port=0, host="127.0.0.1")
        with running(world, probes=probes):
            assert probe(probes.bound_port)[0] == 200
            world.source.replace(svid=world.ca.issue("/a", ttl=timedelta(seconds=1)))
            until(lambda: probe(probes.bound_port)[0] == 503)
            assert probe(probes.bound_port, "/livez")[0] == 200

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_crowd_that_stalls(self, world, tls):
        """Strangers who connect and say nothing do not keep the kubelet out; the oldest goes."""
        probes = Probes(port=0, host="127.0.0.1", tls=tls)
        context = stock_context(None, world.ca.bundle) if tls else None
        with running(world, probes=probes), contextlib.ExitStack() as crowd:
            address = ("127.0.0.1", probes.bound_port)
            stalling = [
                crowd.enter_context(socket.create_connection(address, timeout=10))
                for _ in range(80)
            ]
            assert probe(probes.bound_port, "/livez", context=context) == (200, b"")
            assert read_to_end(stalling[0]) == b""
            until(lambda: len(probes._connections) + len(probes._handshakes or ()) < 65)

    def test_stalled_probe(self, world, monkeypatch):
        """A prober that stalls, or sends without end, is dropped."""
        monkeypatch.setattr("kubetls_sdk.server.probes._SECONDS", 0.3)
        probes = Probes(port=0, host="127.0.0.1")
        with running(world, probes=probes):
            for sent in (b"GET /readyz", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000):
                address = ("127.0.0.1", probes.bound_port)
                with socket.create_connection(address, timeout=10) as plain:
                    with contextlib.suppress(OSError):
                        plain.sendall(sent)
                    assert read_to_end(plain) == b""


def answers(probes):
    with contextlib.suppress(OSError):
        return probe(probes.bound_port)[0] in (200, 503)
    return False


class TestPort:
    """Where the public listener is."""

    def test_is_in_the_log(self, certificate, caplog):
        """Whoever asked for a free port reads in the log which one it became."""
        edge = Edge(port=0, host="127.0.0.1", **certificate)
        with caplog.at_level("INFO"):
            edge.bind()
        assert f"public listener on https://127.0.0.1:{edge.bound_port}" in caplog.text
        asyncio.run(edge.stop())
