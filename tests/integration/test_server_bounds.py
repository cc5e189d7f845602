# SPDX-License-Identifier: Apache-2.0
"""What a hostile peer can hold: unfinished handshakes, half records, and connections too long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from datetime import timedelta

import httpx
import pytest

from kubetls_sdk import TrustBundleSet
from tests.integration.serving import (
    GET,
    World,
    exchange,
    read_to_end,
    receive_response,
    serve,
    stock_context,
)
from tests.waiting import until

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture
def world():
    return World()


def client_hello():
    """The first message of a handshake, as bytes."""
    outgoing = ssl.MemoryBIO()
    tls = stock_context(None, World().ca.bundle).wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("loop", LOOPS)
class TestUnfinishedHandshakes:
    @pytest.mark.parametrize("first_bytes", [b"", b"\x16\x03\x01\x02"], ids=["silent", "half"])
    def test_deadline(self, world, caplog, loop, first_bytes):
        """A peer that says nothing, or half a record, is dropped at the deadline."""
        with serve(world, handshake_timeout=0.3, options={"loop": loop}) as serving:
            plain = serving.connect_plain()
            plain.sendall(first_bytes)
            assert read_to_end(plain) == b""
            until(lambda: caplog.records)
        assert "the handshake took longer than 0.3 s" in caplog.text

    def test_deadline_after_the_first_flight(self, world, caplog, loop):
        """A peer that begins well and then stalls is dropped at the same deadline."""
        with serve(world, handshake_timeout=0.3, options={"loop": loop}) as serving:
            plain = serving.connect_plain()
            plain.sendall(client_hello())
            assert read_to_end(plain) != b""
            until(lambda: caplog.records)
        assert "took longer" in caplog.text

    def test_two_thousand(self, world, loop):
        """Two thousand silent peers hold no more than the limit, and an honest one gets in."""
        tls = {"max_handshakes": 100, "handshake_timeout": 30.0}
        with serve(world, options={"loop": loop, "limit_concurrency": 10}, **tls) as serving:
            handshakes = serving.listener.handshakes
            silent = [serving.connect_plain() for _ in range(1000)]
            until(lambda: len(handshakes) == 100)
            assert exchange(serving.connect(world.client()))[0] == 200
            silent += [serving.connect_plain() for _ in range(1000)]
            until(lambda: sum(map(_is_closed, silent)) >= 1900)
            assert len(handshakes) <= 100
            assert exchange(serving.connect(world.client()))[0] == 200
        assert len(handshakes) == 0

    def test_shutdown_does_not_wait(self, world, loop):
        """A server that shuts down drops unfinished handshakes at once."""
        with serve(world, handshake_timeout=60.0, options={"loop": loop}) as serving:
            plain = serving.connect_plain()
            until(lambda: len(serving.listener.handshakes) == 1)
            serving.keep(plain)
        assert read_to_end(plain) == b""
        plain.close()


def _is_closed(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("loop", LOOPS)
class TestRecheck:
    @pytest.mark.parametrize("http", ["h11", "httptools", "zttp"])
    def test_removed_root_on_a_kept_alive_connection(self, world, http, loop, caplog):
        """The next request after its root was removed gets 401, and the connection ends."""
        settings = {"http": http, "stream_recheck": 60.0}  # so that the request comes first
        with serve(world, options={"loop": loop}, **settings) as serving:
            connection = serving.connect(world.client())
            assert exchange(connection)[0] == 200
            # No subscriber is told, as when the request comes before the sweep.
            with_other_roots(world)
            status, headers, body = exchange(connection)
            assert (status, headers["connection"]) == (401, "close")
            assert b"root" not in body
            assert read_to_end(connection) == b""
        assert len(world.application.scopes) == 1
        assert "its root was removed from the trust bundle of 'example.org'" in caplog.text

    def test_http2(self, world, loop):
        """On HTTP/2 as well: 401, and the connection is gone for the next request."""
        options = {"loop": loop}
        with (
            serve(world, http="zttp", http2=True, stream_recheck=60.0, options=options) as serving,
            httpx.Client(http1=False, http2=True, verify=world.client()) as client,
        ):
            url = f"https://localhost:{serving.port}/"
            assert client.get(url).status_code == 200
            with_other_roots(world)
            assert client.get(url).status_code == 401
            with pytest.raises(httpx.HTTPError):
                client.get(url)

    def test_expired_leaf(self, world, loop):
        """Once its certificate expired, a living connection is not served any more."""
        short = world.ca.issue("/ns/shop/sa/web", ttl=timedelta(seconds=2))
        with serve(world, stream_recheck=60.0, options={"loop": loop}) as serving:
            connection = serving.connect(world.client(short))
            assert exchange(connection)[0] == 200
            statuses = []

            def is_refused():
                statuses.append(exchange(connection)[0])
                return statuses[-1] != 200

            until(is_refused)
            assert statuses[-1] == 401
            assert read_to_end(connection) == b""

    def test_idle_connection(self, world, loop):
        """A connection that asks nothing is closed when its root is removed."""
        with serve(world, options={"loop": loop}) as serving:
            connection = serving.connect(world.client())
            assert exchange(connection)[0] == 200
            world.distrust()
            assert read_to_end(connection) == b""

    def test_stream(self, world, loop):
        """A response that streams for ever ends within the bound once its root is removed."""
        with serve(world, stream_recheck=0.5, options={"loop": loop}) as serving:
            connection = serving.connect(world.client())
            connection.sendall(GET.replace(b" / ", b" /stream "))
            assert connection.recv(65536)
            world.distrust()
            assert b"tick" in read_to_end(connection)
            assert world.application.ended.wait(10)

    def test_stream_of_an_expired_peer(self, world, loop):
        """Without any new generation, the clock alone ends a stream."""
        short = world.ca.issue("/ns/shop/sa/web", ttl=timedelta(seconds=2))
        with serve(world, stream_recheck=0.5, options={"loop": loop}) as serving:
            connection = serving.connect(world.client(short))
            connection.sendall(GET.replace(b" / ", b" /stream "))
            assert b"tick" in read_to_end(connection)
            assert world.application.ended.wait(10)

    def test_short_request_may_finish(self, world, loop):
        """A request that is under way when its root is removed is answered, then it is over."""
        reached, go_on = threading.Event(), threading.Event()

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                return
            reached.set()
            await asyncio.to_thread(go_on.wait, 10)
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        options = {"loop": loop, "lifespan": "off"}
        with serve(world, app=app, stream_recheck=10.0, options=options) as serving:
            connection = serving.connect(world.client())
            connection.sendall(GET)
            assert reached.wait(10)
            world.distrust()
            go_on.set()
            assert receive_response(connection)[0] == 204
            assert read_to_end(connection) == b""

    def test_overlap(self, world, loop):
        """A new root beside the old one, and a new SVID, end no connection."""
        with serve(world, stream_recheck=0.5, options={"loop": loop}) as serving:
            connection = serving.connect(world.client())
            for _ in range(5):
                world.ca.add_root()
                bundles = TrustBundleSet([world.ca.bundle])
                world.source.replace(svid=world.ca.issue("/ns/shop/sa/orders"), bundles=bundles)
                assert exchange(connection)[0] == 200


def with_other_roots(world):
    """Put other bundles in force without telling anybody: the request has to find out."""
    snapshot = world.source.snapshot
    world.source._snapshot = type(snapshot)(
        snapshot.svid, TrustBundleSet([world.partner.bundle]), snapshot.generation + 1
    )


@pytest.mark.parametrize("loop", LOOPS)
class TestManyConnections:
    def test_no_delayed_acknowledgement(self, world, loop):
        """A client that waits for acknowledgements (Nagle) does not wait 40 ms for the first."""
        with serve(world, options={"loop": loop}) as serving:
            context = stock_context(world.ca.issue("/ns/shop/sa/web"), world.ca.bundle)
            seconds = []
            for _ in range(10):
                connection = serving.connect(context)
                begin = time.perf_counter()
                exchange(connection)
                seconds.append(time.perf_counter() - begin)
                connection.close()
        assert sorted(seconds)[5] < 0.03

    def test_memory_is_freed(self, world, loop):
        """Connections that are gone leave nothing behind in the listener."""
        with serve(world, options={"loop": loop}) as serving:
            for _ in range(10):
                connection = serving.connect(world.client())
                exchange(connection)
                connection.close()
            world.application.scopes.clear()
            until(lambda: len(serving.listener.sweeper) == 0)
