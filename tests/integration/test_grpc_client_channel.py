# SPDX-License-Identifier: Apache-2.0
"""A gRPC channel of ours as a channel of gRPC: options, closing, and the rest of the process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys

import grpc
import pytest

from kubetls_sdk import ConfigurationError, StaticSource, TrustBundleSet
from kubetls_sdk.client import (
    _grpc_aio_channel,
    _grpc_channel,
    _grpc_core,
    _grpc_idle,
)
from kubetls_sdk.client.grpc import aio_secure_channel, secure_channel
from tests.integration.grpc_calling import ORDERS, WEB, both, opened
from tests.integration.grpc_world import (
    FOREVER,
    Orders,
    World,
    code_of,
    invoke,
    path,
    serve,
)
from tests.waiting import eventually, until

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


class TestClosing:
    def test_calls_end(self, world, source):
        """Closing ends running calls, and refuses new ones as gRPC does."""
        with serve(world) as serving:
            channel = secure_channel(serving.target, source, server_id=ORDERS)
            call = channel.unary_stream(path("unary_stream"))(FOREVER)
            next(call)
            channel.close()
            until(lambda: not call.is_active())
            with pytest.raises(ValueError, match="closed channel"):
                invoke(channel, "unary_unary", b"a")
            channel.close()

    def test_async(self, world, source):
        """The same with asyncio."""

        async def run(target):
            channel = aio_secure_channel(target, source, server_id=ORDERS)
            call = channel.unary_stream(path("unary_stream"))(FOREVER)
            await call.read()
            await channel.close()
            assert await call.code() is grpc.StatusCode.CANCELLED
            with pytest.raises(grpc.aio.UsageError):
                channel.unary_unary(path("unary_unary"))(b"a")
            await channel.close()

        with serve(world) as serving:
            asyncio.run(run(serving.target))

    def test_kept_for_the_next(self, world, source):
        """A channel that is opened again soon uses the connection of the one before."""
        with serve(world) as serving:
            cores = []
            for _ in range(3):
                with secure_channel(serving.target, source, server_id=ORDERS) as channel:
                    invoke(channel, "unary_unary", b"a")
                    cores.append(channel._core)
            assert len({id(core) for core in cores}) == 1

    def test_kept_for_nobody_else(self, world, source):
        """Another identity, source, option or generation never gets a kept connection."""
        with serve(world) as serving:
            target = serving.target
            with secure_channel(target, source, server_id=ORDERS) as channel:
                invoke(channel, "unary_unary", b"a")
            other = "spiffe://example.org/ns/shop/sa/payments"
            with secure_channel(target, source, server_id=other) as channel:
                assert code_of(channel, "unary_unary", b"b")[0] is UNAVAILABLE
            snapshot = source.snapshot
            twin = StaticSource(world.ca.issue("/ns/shop/sa/twin"), snapshot.bundles)
            with secure_channel(target, twin, server_id=ORDERS) as channel:
                assert b"twin" in invoke(channel, "unary_unary", b"a")[0]
            source.replace(bundles=TrustBundleSet([world.partner.bundle]))
            with secure_channel(target, source, server_id=ORDERS) as channel:
                assert code_of(channel, "unary_unary", b"b")[0] is UNAVAILABLE

    def test_not_kept_forever(self, world, source, monkeypatch):
        """What nobody opens again is closed after a while, threads and descriptors included."""
        monkeypatch.setattr(_grpc_idle, "LINGER_SECONDS", 0.1)
        monkeypatch.setattr(_grpc_channel, "_idle", _grpc_idle.IdleChannels())
        with serve(world) as serving:
            with secure_channel(serving.target, source, server_id=ORDERS) as channel:
                invoke(channel, "unary_unary", b"a")
                core = channel._core
            until(lambda: not core._finalizer.alive)

    def test_async_not_kept_forever(self, world, source, monkeypatch):
        """The same with asyncio."""
        monkeypatch.setattr(_grpc_aio_channel, "LINGER_SECONDS", 0.1)

        async def run(target):
            async with aio_secure_channel(target, source, server_id=ORDERS) as channel:
                await channel.unary_unary(path("unary_unary"))(b"a")
                core = channel._core
            await eventually(lambda: not core._finalizer.alive)

        with serve(world) as serving:
            asyncio.run(run(serving.target))

    def test_several_loops(self, world, source):
        """Channels of one event loop leave nothing for the next one."""

        async def run(target):
            async with aio_secure_channel(target, source, server_id=ORDERS) as channel:
                return await channel.unary_unary(path("unary_unary"))(b"a")

        with serve(world) as serving:
            for _ in range(3):
                assert asyncio.run(run(serving.target)) == f"{WEB} a".encode()
            gc.collect()
            assert len(_grpc_aio_channel._kept) == 0

    def test_forgotten_channel(self, world, source):
        """A channel that is forgotten, not closed, gives its key back."""
        channel = secure_channel("localhost:1", source, server_id=ORDERS)
        finalizer = channel._core._finalizer
        del channel
        gc.collect()
        assert not finalizer.alive
        assert len(source._subscribers._callbacks) == 0


class TestCalls:
    def test_every_way(self, world, source):
        """Calls can be made in every way that gRPC has, and leave the channel idle."""
        with (
            serve(world) as serving,
            secure_channel(serving.target, source, server_id=ORDERS) as channel,
        ):
            answer = f"{WEB} a".encode()
            unary = channel.unary_unary(path("unary_unary"))
            collect = channel.stream_unary(path("stream_unary"))
            assert unary(b"a") == unary.future(b"a").result(10) == answer
            assert collect(iter([b"a"])) == collect.future(iter([b"a"])).result(10) == answer
            for made, call in (unary.with_call(b"a"), collect.with_call(iter([b"a"]))):
                assert (made, call.code()) == (answer, grpc.StatusCode.OK)
            until(lambda: not channel._core.is_busy)

    def test_failures(self, world, source):
        """Calls that fail in any way leave the channel idle and usable."""
        with (
            serve(world) as serving,
            secure_channel(serving.target, source, server_id=ORDERS) as channel,
        ):
            unary = channel.unary_unary(path("unknown"))
            for call in (unary, unary.with_call, lambda request: unary.future(request).result(9)):
                with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                    call(b"a")
            with pytest.raises(TypeError):
                unary.future(b"a", no_such_argument=1)
            with pytest.raises(AttributeError):
                channel.unary_unary(1)(b"a")
            until(lambda: not channel._core.is_busy)
            assert invoke(channel, "unary_unary", b"a")

    def test_unused_channel(self, world, source):
        """A channel that is closed unused, or that nobody ever called, is no burden."""
        with serve(world) as serving:
            channel = secure_channel(serving.target, source, server_id=ORDERS)
            source.replace(svid=world.ca.issue("/ns/shop/sa/renamed"))
            assert b"renamed" in invoke(channel, "unary_unary", b"a")[0]
            channel.close()

    def test_cancelled(self, world, source):
        """A stream can be cancelled by its caller."""
        with (
            serve(world) as serving,
            secure_channel(serving.target, source, server_id=ORDERS) as channel,
        ):
            call = channel.unary_stream(path("unary_stream"))(FOREVER)
            next(call)
            call.cancel()
            until(lambda: not channel._core.is_busy and serving.orders.running == 0)


class TestOptions:
    @both
    def test_retries(self, world, source, kind):
        """A retry policy of the service config is obeyed."""
        attempts = []

        class Failing(Orders):
            def unary_unary(self, request, context):
                attempts.append(1)
                if len(attempts) < 3:
                    context.abort(UNAVAILABLE, "not yet")
                return b"done"

        config = {
            "methodConfig": [
                {
                    "name": [{"service": "shop.Orders"}],
                    "retryPolicy": {
                        "maxAttempts": 4,
                        "initialBackoff": "0.01s",
                        "maxBackoff": "0.1s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ]
        }
        options = [("grpc.service_config", json.dumps(config))]
        with (
            serve(world, orders=Failing()) as serving,
            opened(kind, serving.target, source, options=options) as channel,
        ):
            assert invoke(channel, "unary_unary", b"a") == [b"done"]
            assert len(attempts) == 3

    def test_timeout(self, world, source):
        """A timeout of the service config is obeyed."""
        config = {"methodConfig": [{"name": [{}], "timeout": "0.2s"}]}
        options = [("grpc.service_config", json.dumps(config))]
        with (
            serve(world) as serving,
            opened("threaded", serving.target, source, options=options) as channel,
        ):
            call = channel.unary_stream(path("unary_stream"))(FOREVER)
            with pytest.raises(grpc.RpcError):
                list(call)
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    @pytest.mark.parametrize(
        "option",
        [
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
        ],
    )
    @pytest.mark.parametrize("scheme", ["address", "name"])
    def test_round_robin(self, world, source, option, scheme):
        """Load balancing uses all addresses of the server, each verified."""
        with serve(world) as one, serve(world) as two:
            targets = f"127.0.0.1:{one.port},127.0.0.1:{two.port}"
            target = f"ipv4:{targets}" if scheme == "address" else one.target
            with opened("threaded", target, source, options=[option]) as channel:
                if scheme == "name":
                    assert invoke(channel, "unary_unary", b"a")
                else:
                    until(lambda: invoke(channel, "unary_unary", b"a") and two.orders.seen)
                    until(lambda: invoke(channel, "unary_unary", b"a") and one.orders.seen)

    def test_first_that_answers(self, world, source):
        """Without load balancing the first address that answers is used."""
        with serve(world) as serving:
            target = f"ipv4:127.0.0.1:1,127.0.0.1:{serving.port}"
            with opened("threaded", target, source) as channel:
                assert invoke(channel, "unary_unary", b"a")

    def test_interceptors(self, world, source):
        """Interceptors of gRPC work on our channels, and so do keepalive and compression."""
        seen = []

        class Interceptor(grpc.UnaryUnaryClientInterceptor):
            def intercept_unary_unary(self, continuation, details, request):
                seen.append(details.method)
                return continuation(details, request)

        options = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]
        with (
            serve(world) as serving,
            secure_channel(
                serving.target,
                source,
                server_id=ORDERS,
                options=options,
                compression=grpc.Compression.Gzip,
            ) as channel,
        ):
            intercepted = grpc.intercept_channel(channel, Interceptor())
            assert invoke(intercepted, "unary_unary", b"a")
            assert seen == [path("unary_unary")]

    def test_async_interceptors(self, world, source):
        """The same with asyncio."""
        seen = []

        class Interceptor(grpc.aio.UnaryUnaryClientInterceptor):
            async def intercept_unary_unary(self, continuation, details, request):
                seen.append(details.method)
                return await continuation(details, request)

        interceptors = [Interceptor()]
        with (
            serve(world) as serving,
            opened("async", serving.target, source, interceptors=interceptors) as channel,
        ):
            assert invoke(channel, "unary_unary", b"a")
            assert len(seen) == 1

    def test_authority(self, world, source):
        """Calls name the target as `:authority`, as those of a stock channel do."""
        hosts = []

        class Recorder(Orders):
            def unary_unary(self, request, context):
                hosts.append(context._rpc_event.call_details.host)
                return b""

        with serve(world, orders=Recorder()) as serving:
            with opened("threaded", serving.target, source) as channel:
                invoke(channel, "unary_unary", b"a")
            invoke(serving.channel(), "unary_unary", b"a")
            assert hosts == [serving.target.encode()] * 2

    def test_connectivity(self, world, source):
        """Connectivity can be watched, also across a rotation."""
        states = []
        with serve(world) as serving, opened("threaded", serving.target, source) as channel:
            channel.subscribe(states.append, try_to_connect=True)
            until(lambda: grpc.ChannelConnectivity.READY in states)
            grpc.channel_ready_future(channel).result(timeout=5)
            source.replace(svid=world.ca.issue("/ns/shop/sa/renamed"))
            states.clear()
            until(lambda: b"renamed" in invoke(channel, "unary_unary", b"a")[0])
            until(lambda: grpc.ChannelConnectivity.READY in states)
            channel.unsubscribe(states.append)

    def test_async_connectivity(self, world, source):
        """The same with asyncio."""

        async def run(target):
            async with aio_secure_channel(target, source, server_id=ORDERS) as channel:
                assert channel.get_state() is grpc.ChannelConnectivity.IDLE
                async with asyncio.timeout(5):
                    await channel.channel_ready()
                state = channel.get_state()
                assert state is grpc.ChannelConnectivity.READY
                changing = asyncio.ensure_future(channel.wait_for_state_change(state))
                source.replace(bundles=TrustBundleSet([world.partner.bundle]))
                async with asyncio.timeout(10):
                    await changing

        with serve(world) as serving:
            asyncio.run(run(serving.target))

    @pytest.mark.parametrize(
        "option",
        [
            ("grpc.ssl_target_name_override", "x"),
            ("grpc.use_local_subchannel_pool", 0),
            ("grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config", "{}"),
            ("grpc.lb_policy_name", "grpclb"),
            ("grpc.service_config", "{"),
            ("grpc.service_config", '{"retryThrottling": {}}'),
        ],
    )
    def test_refused(self, source, option):
        """Options that would say something else about the server are refused by name."""
        with pytest.raises(ConfigurationError):
            secure_channel("localhost:1", source, server_id=ORDERS, options=[option])


class TestProcess:
    def test_key_in_memory_only(self, world, source, tmp_path, monkeypatch):
        """No file is written, and programs that are started inherit no key."""
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        with serve(world) as serving, opened("threaded", serving.target, source) as channel:
            invoke(channel, "unary_unary", b"a")
            listing = (
                "import os;"
                "print([os.readlink(e.path) for e in os.scandir('/proc/self/fd')"
                " if e.is_file()])"
            )
            child = subprocess.run(
                [sys.executable, "-c", listing], capture_output=True, text=True, close_fds=False
            )
            assert "memfd" not in child.stdout
            assert child.returncode == 0
        assert list(tmp_path.iterdir()) == []

    def test_environment(self, world, source):
        """The environment is neither read nor changed: a user's own xDS goes on beside ours."""
        before = dict(os.environ)
        with serve(world) as serving, opened("threaded", serving.target, source) as channel:
            invoke(channel, "unary_unary", b"a")
            assert dict(os.environ) == before

    def test_another_process(self, world, source):
        """Another process cannot connect to where gRPC gets its configuration."""
        with serve(world) as serving, opened("threaded", serving.target, source) as channel:
            invoke(channel, "unary_unary", b"a")
            ads = _grpc_core._process().ads
            name = ads.address.removeprefix("unix-abstract:")
            attempt = (
                "import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(5);"
                f"s.connect('\\0{name}'); print(s.recv(1))"
            )
            child = subprocess.run(
                [sys.executable, "-c", attempt], capture_output=True, text=True, timeout=10
            )
            assert child.stdout.strip() in ("b''", "")
            assert ads.refused >= 1
            assert invoke(channel, "unary_unary", b"a")

    def test_users_own_xds(self, world, tmp_path):
        """With a user's own bootstrap in the environment our channels work as without."""
        script = tmp_path / "calls.py"
        script.write_text(_CALLS)
        theirs = {
            "xds_servers": [{"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}],
            "node": {"id": "mine"},
        }
        environment = {**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(theirs)}
        child = subprocess.run(
            [sys.executable, str(script)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert child.stdout.strip() == "ok", child.stderr

    @pytest.mark.parametrize("theirs", [True, False], ids=["own-bootstrap", "no-bootstrap"])
    def test_option_that_is_gone(self, world, source, monkeypatch, theirs):
        """If gRPC did not know the option any more, channels would fail, not go unverified."""
        monkeypatch.setattr(_grpc_core, "BOOTSTRAP_OPTION", "grpc.unknown")
        if theirs:
            server = {"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}
            bootstrap = json.dumps({"xds_servers": [server], "node": {"id": "mine"}})
            monkeypatch.setenv("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap)
        with serve(world) as serving, opened("threaded", serving.target, source) as channel:
            assert code_of(channel, "unary_unary", b"a", timeout=3)[0] is UNAVAILABLE
            assert serving.orders.seen == []

    def test_several_sources(self, world, source):
        """Channels of several sources and targets in one process do not mix."""
        other = World()
        theirs = StaticSource(
            other.ca.issue("/ns/shop/sa/theirs"), TrustBundleSet([other.ca.bundle])
        )
        with (
            serve(world) as serving,
            serve(other) as elsewhere,
            opened("threaded", serving.target, source) as mine,
            opened("threaded", elsewhere.target, theirs) as yours,
            opened("threaded", elsewhere.target, source) as crossed,
        ):
            assert invoke(mine, "unary_unary", b"a") == [f"{WEB} a".encode()]
            assert b"theirs" in invoke(yours, "unary_unary", b"a")[0]
            assert code_of(crossed, "unary_unary", b"a")[0] is UNAVAILABLE


_CALLS = """
import sys
sys.path.insert(0, ".")
from tests.integration.grpc_world import World, invoke, serve
from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.client.grpc import secure_channel

world = World()
source = StaticSource(world.ca.issue(), TrustBundleSet([world.ca.bundle]))
orders = str(world.source.snapshot.svid.spiffe_id)
with serve(world) as serving:
    with secure_channel(serving.target, source, server_id=orders) as channel:
        invoke(channel, "unary_unary", b"a")
        print("ok")
"""
