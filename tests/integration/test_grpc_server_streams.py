# SPDX-License-Identifier: Apache-2.0
"""Long gRPC streams end in bounded time when trust in their peer does."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import grpc
import pytest

from tests.integration.grpc_world import FOREVER, World, path, serve
from tests.waiting import until


@pytest.fixture
def world():
    return World()


class TestStreams:
    @pytest.mark.parametrize("arity", ["unary_stream", "stream_unary", "stream_stream"])
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_removed_root(self, world, kind, arity):
        """A stream on which nothing happens ends when its peer's root is removed."""
        with serve(world, kind, stream_recheck=0.3) as serving:
            call, release = _open(serving.channel(), serving.orders, arity)
            world.distrust()
            ended_with(call, arity)
            assert call.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.CANCELLED)
            if kind == "async":
                assert call.code() is grpc.StatusCode.UNAUTHENTICATED
            release.set()
            until(lambda: serving.orders.running == 0)

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_expired_certificate(self, world, kind):
        """A stream ends soon after the certificate of its peer has expired."""
        svid = world.ca.issue("/ns/shop/sa/web", ttl=timedelta(seconds=2))
        with serve(world, kind, stream_recheck=0.3) as serving:
            call, release = _open(serving.channel(svid), serving.orders, "stream_stream")
            until(lambda: not call.is_active(), timeout=6)
            release.set()

    def test_threads_of_an_async_server(self, world):
        """A threaded method of an asyncio server ends at its next message."""
        with serve(world, "async-threads", stream_recheck=0.3) as serving:
            messages = _Messages()
            call = serving.channel().stream_stream(path("stream_stream"))(messages)
            messages.send(b"a")
            next(call)
            world.distrust()
            messages.send(b"b")
            until(lambda: not call.is_active(), timeout=3)
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_trusted_streams_go_on(self, world, kind):
        """A rotation that does not concern the peer leaves its streams alone."""
        with serve(world, kind, stream_recheck=0.15) as serving:
            messages = _Messages()
            call = serving.channel().stream_stream(path("stream_stream"))(messages)
            for number in range(3):
                messages.send(b"%d" % number)
                assert next(call).endswith(b"%d" % number)
                world.source.replace(svid=world.ca.issue("/ns/shop/sa/orders"))
            messages.stop()
            assert list(call) == []


class _Messages:
    """A request stream that a test feeds."""

    def __init__(self):
        self._condition = threading.Condition()
        self._messages = []

    def send(self, message):
        with self._condition:
            self._messages.append(message)
            self._condition.notify()

    def stop(self):
        self.send(None)

    def __iter__(self):
        return self

    def __next__(self):
        with self._condition:
            self._condition.wait_for(lambda: self._messages, 20)
            message = self._messages.pop(0)
        if message is None:
            raise StopIteration
        return message


def ended_with(call, arity, seconds=5):
    """Wait for the error that ends a call, taking the messages that come before it."""
    start = time.monotonic()
    with pytest.raises(grpc.RpcError):
        call.result(seconds) if arity == "stream_unary" else list(call)
    assert time.monotonic() - start < seconds


def _open(channel, orders, arity, *, metadata=None, running=1):
    """Start a stream that would go on; returns the call, and what ends its requests."""
    release = threading.Event()

    def requests():
        yield b"a"
        release.wait(20)

    if arity == "unary_stream":
        call = channel.unary_stream(path(arity))(FOREVER, metadata=metadata)
    elif arity == "stream_unary":
        call = channel.stream_unary(path(arity)).future(requests(), metadata=metadata)
        call.is_active = lambda: not call.done()
    else:
        call = channel.stream_stream(path(arity))(requests(), metadata=metadata)
    if arity.endswith("stream"):
        next(call)  # gRPC shows no status while a message waits to be read
    until(lambda: orders.running == running)
    return call, release
