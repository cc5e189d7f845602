# SPDX-License-Identifier: Apache-2.0
"""What is under way when the policy changes: responses and WebSockets, on each server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket as plain_socket

import httpx
import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from kubetls_sdk import TrustDomain, audit
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.policy_file import PolicyFile
from kubetls_sdk.server.edge import Edge
from tests.integration import test_server_edge as edge_server
from tests.integration import test_server_hypercorn as hypercorn
from tests.integration.serving import GET, World, exchange, read_to_end, serve
from tests.waiting import until

# Of one of the implementations of WebSockets.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::uvicorn.config.UvicornDeprecationWarning"
)

OWN = TrustDomain("example.org")
STREAM = GET.replace(b" / ", b" /stream ")
TEXT = """
version: 1
policies:
  - name: shop
    allow:
      - name: calls
        from: {who}
        to: {{paths: "/**"}}
      - name: opens
        from: {who}
        to: {{paths: "/**", websocket: true}}
    deny:
      - name: closed
        to: {{paths: {closed}}}
"""


def policy_text(closed="/nothing", namespace="shop", anonymous=False):
    who = "{anonymous: true}" if anonymous else f"{{namespace: {namespace}}}"
    return TEXT.format(closed=closed, who=who)


class LivePolicy:
    """A holder of policies that tells of changes, as `PolicyFile` does."""

    def __init__(self, **values):
        self.values = values
        self.callbacks = []
        self.put()

    def put(self, **values):
        text = policy_text(**{**self.values, **values})
        self.current = PolicySet.parse({"p": text}, trust_domain=OWN)
        for callback in tuple(self.callbacks):
            callback(self.current)

    def subscribe(self, callback):
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def policy():
    return LivePolicy()


@pytest.fixture
def audited():
    """The lines of the audit log."""
    written = io.StringIO()
    audit.enable(logging.StreamHandler(written))
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    audit.disable()


@contextlib.contextmanager
def streaming(serving, world, request=STREAM):
    """An endless response that has begun, on the quick way: an equal one was allowed before."""
    for _ in range(2):
        connection = serving.connect(world.client())
        connection.sendall(request)
        assert connection.recv(65536)
    yield connection


def is_flowing(connection):
    """Whether more of a response comes."""
    return all(b"tick" in connection.recv(65536) for _ in range(5))


class TestResponse:
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    @pytest.mark.parametrize("http", ["h11", "httptools", "zttp"])
    def test_denied(self, world, policy, http, loop):
        """One that is not allowed any more ends within the bound."""
        settings = {"http": http, "stream_recheck": 0.5, "options": {"loop": loop}}
        with (
            serve(world, policy=policy, **settings) as serving,
            streaming(serving, world) as connection,
        ):
            policy.put(closed="/stream")
            assert b"tick" in read_to_end(connection)
            assert world.application.ended.wait(10)

    @pytest.mark.parametrize("http", ["h11", "httptools", "zttp"])
    def test_allowed(self, world, policy, http):
        """One that is still allowed goes on, by whichever rule."""
        with (
            serve(world, policy=policy, http=http, stream_recheck=0.1) as serving,
            streaming(serving, world) as connection,
        ):
            policy.put(closed="/other")
            assert is_flowing(connection)
            assert not world.application.ended.is_set()

    def test_http2(self, world, policy):
        """On HTTP/2 its stream ends; the connection, and what else runs on it, goes on."""
        with (
            serve(world, policy=policy, http="zttp", http2=True, stream_recheck=0.5) as serving,
            httpx.Client(http1=False, http2=True, verify=world.client()) as client,
        ):
            url = f"https://localhost:{serving.port}"
            for _ in range(2):  # the second one takes the quick way
                with client.stream("GET", f"{url}/stream") as response:
                    chunks = response.iter_raw()
                    assert next(chunks)
            with client.stream("GET", f"{url}/stream") as response:
                chunks = response.iter_raw()
                assert next(chunks)
                policy.put(closed="/stream")
                with pytest.raises(httpx.RemoteProtocolError):
                    list(chunks)
            before = world.application.scopes[0]["client"]
            assert client.get(url).status_code == 200
            assert world.application.scopes[-1]["client"] == before

    def test_requests_queued_behind_it(self, world, policy):
        """A client that sends further requests meanwhile cannot hide a response from the sweep."""
        with (
            serve(world, policy=policy, http="httptools", stream_recheck=0.5) as serving,
            streaming(serving, world) as connection,
        ):
            connection.sendall(GET)
            until(lambda: _pipelines(serving))
            policy.put(closed="/stream")
            assert b"tick" in read_to_end(connection)
            assert len([s for s in world.application.scopes if s["path"] == "/"]) == 0

    def test_short_one_may_finish(self, world, policy, caplog):
        """A response that is done within the bound arrives whole."""

        async def app(scope, receive, send):
            if scope["type"] == "http":
                policy.put(closed="/")
                await asyncio.sleep(0)  # the sweep comes first
                assert "ended under way" in caplog.text
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"whole"})

        with serve(world, policy=policy, app=app) as serving:
            connection = serving.connect(world.client())
            assert exchange(connection)[::2] == (200, b"whole")

    def test_rewritten_scope(self, world, policy):
        """What was asked before is asked again, whatever the application did to the path."""

        async def app(scope, receive, send):
            scope["path"] = scope["raw_path"] = None
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await receive())["type"] != "http.disconnect":
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})

        async def routed(scope, receive, send):
            await (world.application if scope["type"] == "lifespan" else app)(scope, receive, send)

        with serve(world, policy=policy, app=routed, stream_recheck=0.2) as serving:
            connection = serving.connect(world.client())
            connection.sendall(STREAM)
            assert connection.recv(65536)
            policy.put(closed="/stream")
            read_to_end(connection)

    def test_idle_connection(self, world, policy):
        """A connection on which nothing runs stays; the next request is decided as always."""
        with serve(world, policy=policy, stream_recheck=0.1) as serving:
            connection = serving.connect(world.client())
            for _ in range(2):
                assert exchange(connection)[0] == 200
            policy.put(closed="/")
            assert exchange(connection)[0] == 403
            policy.put()
            assert exchange(connection)[0] == 200

    def test_records(self, world, policy, audited, caplog):
        """The audit log and the log say what ended, by which rule; the caller learns nothing."""
        with (
            serve(world, policy=policy, stream_recheck=0.5) as serving,
            streaming(serving, world) as connection,
        ):
            policy.put(closed="/stream")
            assert b"closed" not in read_to_end(connection)
        denied = [line for line in audited() if line["decision"] == "deny"]
        assert {line["rule"] for line in denied} == {"closed"}
        assert all(line["reason"].startswith("ended under way: ") for line in denied)
        assert {line["path"] for line in denied} == {"/stream"}
        assert len(denied) == 2  # both streams, each once
        assert "ended under way: policy denied by rule 'closed'" in caplog.text

    def test_policy_file(self, world, tmp_path):
        """A file that changes is enough."""
        path = tmp_path / "policy.yaml"
        path.write_text(policy_text())
        with (
            PolicyFile(path, trust_domain=OWN) as policies,
            serve(world, policy=policies, stream_recheck=0.5) as serving,
            streaming(serving, world) as connection,
        ):
            path.unlink()  # everything is denied
            assert b"tick" in read_to_end(connection)

    def test_outer_middleware(self, world, policy):
        """A scope that is not the server's own is known as well."""

        def outer(app):
            async def copying(scope, receive, send):
                await app(dict(scope), receive, send)

            return copying

        with (
            serve(world, policy=policy, stream_recheck=0.5, wrap=outer) as serving,
            streaming(serving, world) as connection,
        ):
            policy.put(closed="/stream")
            assert b"tick" in read_to_end(connection)

    def test_edge(self, world, tmp_path):
        """An anonymous caller at the public listener keeps nothing either."""
        policy, web_pki = LivePolicy(anonymous=True), trustme.CA()
        edge_server.write(tmp_path, web_pki)
        edge = Edge(
            port=0,
            host="127.0.0.1",
            certificate=str(tmp_path / "tls.crt"),
            key=str(tmp_path / "tls.key"),
        )
        with (
            edge_server.running(world, edge=edge, policy=policy, stream_recheck=0.5),
            edge_server.connected(
                edge.bound_port, *edge_server.public_client(web_pki)
            ) as connection,
        ):
            connection.sendall(STREAM)
            assert connection.recv(65536)
            policy.put(closed="/stream")
            assert b"tick" in read_to_end(connection)

    def test_hypercorn(self, world, policy):
        """Under hypercorn its connection ends."""
        with (
            hypercorn.running(world, policy=policy, stream_recheck=0.5) as server,
            server.connect(world.client()) as connection,
        ):
            connection.sendall(STREAM)
            assert connection.recv(65536)
            policy.put(closed="/stream")
            assert b"tick" in read_to_end(connection)


class TestWebSocket:
    @pytest.mark.parametrize("ws", ["websockets", "websockets-sansio", "wsproto"])
    def test_denied(self, world, policy, ws, audited):
        """It is closed with 1008, and the audit log says by which rule."""
        with (
            serve(world, policy=policy, stream_recheck=1.0, options={"ws": ws}) as serving,
            connect_websocket(f"wss://localhost:{serving.port}/", ssl=world.client()) as socket,
        ):
            _echo(socket)
            policy.put(closed="/")
            assert _close_code(socket) == 1008
            assert world.application.ended.wait(10)
        (denied,) = [line for line in audited() if line["decision"] == "deny"]
        assert (denied["event"], denied["rule"]) == ("websocket", "closed")

    def test_caller_without_a_rule(self, world, policy):
        """Losing the allow rule is enough."""
        with (
            serve(world, policy=policy, stream_recheck=1.0) as serving,
            connect_websocket(f"wss://localhost:{serving.port}/", ssl=world.client()) as socket,
        ):
            _echo(socket)
            policy.put(namespace="other")
            assert _close_code(socket) == 1008

    def test_allowed(self, world, policy):
        """One that is still allowed stays open."""
        with (
            serve(world, policy=policy, stream_recheck=0.1) as serving,
            connect_websocket(f"wss://localhost:{serving.port}/", ssl=world.client()) as socket,
        ):
            for closed in ("/other", "/nothing"):
                policy.put(closed=closed)
                _echo(socket)

    def test_client_that_does_not_answer(self, world, policy):
        """Without the client's consent the connection is gone within the bound."""
        with serve(world, policy=policy, stream_recheck=0.5) as serving:
            connection = serving.connect(world.client())
            connection.sendall(
                GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n"
                b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert b" 101 " in connection.recv(65536)
            policy.put(closed="/")
            with contextlib.suppress(plain_socket.timeout):
                assert read_to_end(connection)[:1] == b"\x88"  # a close frame, then the end

    def test_hypercorn(self, world, policy):
        """On hypercorn too."""
        with (
            hypercorn.running(world, policy=policy, stream_recheck=1.0) as server,
            connect_websocket(f"wss://localhost:{server.port}/", ssl=world.client()) as socket,
        ):
            _echo(socket)
            policy.put(closed="/")
            assert _close_code(socket) == 1008


def _pipelines(serving):
    connections = serving.server.server_state.connections
    return any(getattr(connection, "pipeline", None) for connection in tuple(connections))


def _echo(socket):
    socket.send("hello")
    assert socket.recv(10) == "spiffe://example.org/ns/shop/sa/web hello"


def _close_code(socket):
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code
