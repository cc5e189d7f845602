# SPDX-License-Identifier: Apache-2.0
"""What rotation does to the calls of a gRPC channel of ours."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import grpc
import pytest

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.client import (
    _grpc_aio_channel,
    _grpc_channel,
    _grpc_core,
)
from kubetls_sdk.client.grpc import aio_secure_channel
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.grpc_calling import ORDERS, WEB, both, opened
from tests.integration.grpc_world import (
    FOREVER,
    Plain,
    World,
    code_of,
    invoke,
    path,
    serve,
    serve_stock,
)
from tests.waiting import until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def world():
    return World()


@pytest.fixture
def source(world):
    return StaticSource(
        world.ca.issue("/ns/shop/sa/web"),
        TrustBundleSet([world.ca.bundle, world.partner.bundle]),
    )


class TestRotation:
    @both
    def test_no_failed_call(self, world, source, kind):
        """Rotations of both sides, roots with overlap, fail no call under load."""
        failures, done = [], [0]
        stop = threading.Event()
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:

            def call():
                while not stop.is_set():
                    try:
                        invoke(channel, "unary_unary", b"a")
                        done[0] += 1
                    except Exception as err:  # noqa: BLE001 - whatever a caller would see
                        failures.append(err)

            callers = [threading.Thread(target=call) for _ in range(2)]
            for each in callers:
                each.start()
            for number in range(24):
                _rotate(world, source, number)
                # Overlap: a root is not withdrawn before nobody uses what it signed.
                until(lambda: failures or _is_settled(channel, source))
                before = done[0]
                until(lambda before=before: failures or done[0] > before + 3)
            stop.set()
            for each in callers:
                each.join()
        assert failures == []

    @both
    def test_new_identity(self, world, source, kind):
        """After a rotation the server sees the new certificate, without a new channel."""
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:
            assert invoke(channel, "unary_unary", b"a") == [f"{WEB} a".encode()]
            source.replace(svid=world.ca.issue("/ns/shop/sa/renamed"))
            until(lambda: b"renamed" in invoke(channel, "unary_unary", b"a")[0], timeout=5)

    @both
    def test_removed_root(self, world, source, kind):
        """The first call after a root was removed does not reach the server under it."""
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:
            invoke(channel, "unary_unary", b"a")
            source.replace(bundles=TrustBundleSet([world.partner.bundle]))
            assert code_of(channel, "unary_unary", b"b")[0] is UNAVAILABLE
            assert serving.orders.seen == [b"a"]
            source.replace(bundles=TrustBundleSet([world.ca.bundle]))
            assert invoke(channel, "unary_unary", b"c")

    @both
    def test_replaced_root(self, world, source, kind):
        """A server that has moved to the new root answers the call after the old one is gone."""
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:
            invoke(channel, "unary_unary", b"a")
            world.ca.add_root()
            world.ca.activate_root()
            server = world.ca.issue("/ns/shop/sa/orders")
            world.source.replace(svid=server, bundles=TrustBundleSet([world.ca.bundle]))
            world.ca.retire_root()
            svid = world.ca.issue("/ns/shop/sa/web")
            source.replace(svid=svid, bundles=TrustBundleSet([world.ca.bundle]))
            assert invoke(channel, "unary_unary", b"a")

    def test_stream_to_a_removed_root(self, world, source, monkeypatch):
        """A stream to a server under a removed root is ended from the client's side."""
        monkeypatch.setattr(_grpc_channel, "GRACE_SECONDS", 0.2)
        orders = Plain()
        server = world.ca.issue("/ns/shop/sa/orders")
        with serve_stock(server, orders) as target, opened("threaded", target, source) as channel:
            call = channel.unary_stream(path("unary_stream"))(FOREVER)
            assert next(call) == b"ok"
            source.replace(bundles=TrustBundleSet([world.partner.bundle]))
            until(lambda: not call.is_active(), timeout=5)
            until(lambda: orders.running == 0)

    def test_async_stream_to_a_removed_root(self, world, source, monkeypatch):
        """The same with asyncio."""
        monkeypatch.setattr(_grpc_aio_channel, "GRACE_SECONDS", 0.2)
        orders = Plain()
        server = world.ca.issue("/ns/shop/sa/orders")

        async def run(target):
            async with aio_secure_channel(target, source, server_id=ORDERS) as channel:
                call = channel.unary_stream(path("unary_stream"))(FOREVER)
                assert await call.read() == b"ok"
                source.replace(bundles=TrustBundleSet([world.partner.bundle]))
                async with asyncio.timeout(5):
                    await call.code()

        with serve_stock(server, orders) as target:
            asyncio.run(run(target))
            until(lambda: orders.running == 0)

    def test_stream_goes_on(self, world, source):
        """A rotation that takes no trust away leaves a stream alone, and new calls move on."""
        release = threading.Event()

        def requests():
            yield b"a"
            release.wait(10)
            yield b"b"

        with serve(world) as serving, opened("threaded", serving.target, source) as channel:
            call = channel.stream_stream(path("stream_stream"))(requests())
            next(call)
            source.replace(svid=world.ca.issue("/ns/shop/sa/renamed"))
            until(lambda: b"renamed" in invoke(channel, "unary_unary", b"a")[0], timeout=5)
            release.set()
            assert list(call) == [f"{WEB} b".encode()]

    @both
    def test_server_that_cannot_be_reached(self, world, source, kind):
        """While no new connection can be made, calls go on over the one that is trusted."""
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:
            invoke(channel, "unary_unary", b"a")
            # The server will not accept the next SVID, so no new connection comes about.
            stranger = DevelopmentCA("example.org")
            source.replace(svid=stranger.issue("/ns/shop/sa/web"))
            for _ in range(5):
                assert invoke(channel, "unary_unary", b"a") == [f"{WEB} a".encode()]

    def test_expired_svid_is_not_kept(self, world, source):
        """A connection of a generation whose own certificate has expired is left at once."""
        short = world.ca.issue("/ns/shop/sa/web", ttl=timedelta(seconds=2))
        source.replace(svid=short)
        with serve(world) as serving, opened("threaded", serving.target, source) as channel:
            invoke(channel, "unary_unary", b"a")
            until(lambda: time.time() > short.not_after.timestamp() + 0.1)
            source.replace(svid=world.ca.issue("/ns/shop/sa/renamed"))
            assert b"renamed" in invoke(channel, "unary_unary", b"a")[0]

    @both
    def test_key_that_grpc_cannot_use(self, world, source, kind, caplog):
        """An Ed25519 key keeps the last good SVID, loudly."""
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:
            invoke(channel, "unary_unary", b"a")
            source.replace(svid=world.ca.issue("/ns/shop/sa/web", key_type="ed25519"))
            assert invoke(channel, "unary_unary", b"a")
            until(lambda: "Ed25519" in caplog.text)

    @both
    def test_age(self, world, source, kind, monkeypatch):
        """A connection is replaced when it is old: its server's certificate may have expired."""
        monkeypatch.setattr(_grpc_core, "MAX_AGE_SECONDS", 0.3)
        made = []
        init = _grpc_core.CoreChannel.__init__
        monkeypatch.setattr(
            _grpc_core.CoreChannel,
            "__init__",
            lambda self, *args: (made.append(1), init(self, *args))[1],
        )
        with serve(world, "async") as serving, opened(kind, serving.target, source) as channel:
            until(lambda: invoke(channel, "unary_unary", b"a") and len(made) > 2)


def _is_settled(channel, source):
    core = getattr(channel, "channel", channel)._core
    return core.snapshot is source.snapshot


def _rotate(world, source, number):
    """One step of an endless rotation: a new SVID at either side, every fourth time a new root."""
    step = number % 4
    if step == 0:
        world.ca.add_root()
        bundles = TrustBundleSet([world.ca.bundle, world.partner.bundle])
        world.source.replace(bundles=bundles)
        source.replace(bundles=bundles)
        world.ca.activate_root()
    elif step == 1:
        world.source.replace(svid=world.ca.issue("/ns/shop/sa/orders"))
        source.replace(svid=world.ca.issue("/ns/shop/sa/web"))
    elif step == 2:
        source.replace(svid=world.ca.issue("/ns/shop/sa/web"))
    else:
        world.ca.retire_root()
        bundles = TrustBundleSet([world.ca.bundle, world.partner.bundle])
        source.replace(bundles=bundles)
        world.source.replace(bundles=bundles)
