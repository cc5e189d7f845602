# SPDX-License-Identifier: Apache-2.0
"""gRPC servers that are put together otherwise: interceptors, handlers, a server of one's own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kubetls_sdk import VolumeSource
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.grpc import AuthInterceptor, caller, server, server_credentials
from kubetls_sdk.testing import KubeletVolume
from tests.integration.grpc_world import (
    ARITIES,
    FOREVER,
    SERVICE,
    Orders,
    Serving,
    World,
    code_of,
    handlers,
    invoke,
    path,
    serve,
)
from tests.waiting import until

WEB = "spiffe://example.org/ns/shop/sa/web"
UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")


@pytest.fixture
def world():
    return World()


class Recorder(grpc.ServerInterceptor):
    """Wraps unary methods; remembers whom they were called by."""

    def __init__(self):
        self.callers = []

    def intercept_service(self, continuation, handler_call_details):
        return self.wrap(continuation(handler_call_details))

    def wrap(self, handler):
        if handler is None or handler.unary_unary is None:
            return handler

        def record(request, context):
            self.callers.append(str(caller(context)))
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            record, handler.request_deserializer, handler.response_serializer
        )


class AsyncRecorder(grpc.aio.ServerInterceptor):
    def __init__(self):
        self.callers = []

    async def intercept_service(self, continuation, handler_call_details):
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def record(request, context):
            self.callers.append(str(caller(context)))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            record, handler.request_deserializer, handler.response_serializer
        )


class TestInterceptors:
    @pytest.mark.parametrize("registration", ["generic", "registered"])
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_ours_is_first(self, world, kind, registration):
        """What another interceptor wraps runs only for admitted calls, and knows the caller."""
        recorder = AsyncRecorder() if kind == "async" else Recorder()
        with serve(world, kind, interceptors=[recorder], registration=registration) as serving:
            channel = serving.channel()
            for arity in ARITIES:
                assert invoke(channel, arity, b"a") == [f"{WEB} a".encode()]
            assert recorder.callers == [WEB]
            got = code_of(channel, "unary_unary", b"a", method=path("unknown"))
            assert got[0] is grpc.StatusCode.UNIMPLEMENTED
            forged = serving.channel(world.partner.issue_for("example.org", "/ns/shop/sa/web"))
            assert code_of(forged, "unary_unary", b"a") == UNAUTHENTICATED
            assert code_of(forged, "unary_unary", b"a", method=path("no")) == UNAUTHENTICATED
            assert recorder.callers == [WEB]


class TestConnectionAge:
    def test_default(self, world, monkeypatch):
        """Connections have an age, an hour and ten minutes unless the user says otherwise."""
        given = []
        make = grpc.server
        monkeypatch.setattr(
            grpc, "server", lambda *args, **kwargs: given.append(kwargs) or make(*args, **kwargs)
        )
        for options in ([], [("grpc.max_connection_age_ms", 5000)]):
            server(policy=AnyVerified(), source=world.source, options=options)
        first, second = (dict(kwargs["options"]) for kwargs in given)
        assert first["grpc.max_connection_age_ms"] == 3_600_000
        assert first["grpc.max_connection_age_grace_ms"] == 600_000
        assert second["grpc.max_connection_age_ms"] == 5000

    def test_end(self, world):
        """What still runs after age and grace is cut off, also a thread of an asyncio server."""
        options = [("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 200)]
        with serve(world, "async-threads", options=options) as serving:
            release = threading.Event()

            def requests():
                yield b"a"
                release.wait(20)

            call = serving.channel().stream_stream(path("stream_stream"))(requests())
            next(call)
            until(lambda: not call.is_active(), timeout=5)
            release.set()


class TestHandlers:
    @pytest.mark.parametrize("kind", ["threaded", "async-threads"])
    def test_given_at_once(self, world, kind):
        """Handlers that are given to the constructor are guarded as well."""
        orders = Orders()
        given = grpc.method_handlers_generic_handler("shop.More", handlers(orders))
        with serve(world, kind, handlers=(given,)) as serving:
            method = "/shop.More/unary_unary"
            assert invoke(serving.channel(), "unary_unary", b"a", method=method)
            forged = serving.channel(world.partner.issue_for("example.org", "/ns/shop/sa/web"))
            assert code_of(forged, "unary_unary", b"a", method=method) == UNAUTHENTICATED
            assert orders.seen == [b"a"]

    def test_many_methods(self, world):
        """A generic handler that serves any method fills no memory."""
        answering = grpc.unary_unary_rpc_method_handler(lambda request, _: request)

        class Everything(grpc.GenericRpcHandler):
            def service(self, details):
                return answering

        with serve(world, handlers=(Everything(),)) as serving:
            channel = serving.channel()
            for number in range(50):
                assert invoke(channel, "unary_unary", b"a", method=f"/a.B/C{number}") == [b"a"]


class TestOwnServer:
    def test_parts(self, world):
        """Credentials and interceptor do the same for a server of gRPC with several ports."""
        orders = Orders()
        with ThreadPoolExecutor(4) as pool:
            made = grpc.server(pool, interceptors=[AuthInterceptor(world.source, AnyVerified())])
            made.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(SERVICE, handlers(orders)),)
            )
            credentials = server_credentials(world.source)
            ports = [made.add_secure_port("127.0.0.1:0", credentials) for _ in range(2)]
            made.start()
            try:
                for port in ports:
                    self._rotates(Serving(world, orders, port))
            finally:
                made.stop(0).wait(10)

    def _rotates(self, serving):
        world = serving.world
        assert invoke(serving.channel(), "unary_unary", b"a") == [f"{WEB} a".encode()]
        world.ca.add_root()
        world.ca.activate_root()
        world.source.replace(
            svid=world.ca.issue("/ns/shop/sa/orders", dns_names=("localhost",)),
            bundles=type(world.source.snapshot.bundles)([world.ca.bundle]),
        )
        assert invoke(serving.channel(), "unary_unary", b"a") == [f"{WEB} a".encode()]
        serving.close()


class TestVolume:
    def test_mounted(self, world, tmp_path, monkeypatch):
        """Without a source the mounted volume is served, followed, and closed at the end."""
        volume = KubeletVolume(tmp_path / "volume")
        policy = tmp_path / "policy.yaml"
        policy.write_text(
            "version: 1\npolicies:\n- name: all\n  allow:\n  - name: web\n"
            "    from: {namespace: shop}\n    to: {grpc: shop.Orders/*}\n"
        )
        volume.write_svid(world.source.snapshot.svid, [world.ca.bundle])
        monkeypatch.setenv("KUBETLS_DIR", str(volume.directory))
        with serve(world, source=None, policy=str(policy)) as serving:
            channel = serving.channel()
            assert invoke(channel, "unary_unary", b"a") == [f"{WEB} a".encode()]
            volume.write_svid(world.source.snapshot.svid, [world.partner.bundle])
            until(lambda: _code(channel) is grpc.StatusCode.UNAUTHENTICATED, interval=0.05)

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_closed_source(self, world, tmp_path, kind):
        """While there is nothing to verify peers by, everybody is refused, running streams too."""
        volume = KubeletVolume(tmp_path / "volume")
        volume.write_svid(world.source.snapshot.svid, [world.ca.bundle])
        with (
            VolumeSource(volume.directory) as source,
            serve(world, kind, source=source, stream_recheck=0.3) as serving,
        ):
            channel = serving.channel()
            call = channel.unary_stream(path("unary_stream"))(FOREVER)
            next(call)
            source.close()
            assert code_of(channel, "unary_unary", b"a") == UNAUTHENTICATED
            with pytest.raises(grpc.RpcError):
                list(call)
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED

    def test_policy_that_is_missing(self, world, tmp_path):
        """A server with a policy file that is not there does not come to be."""
        with pytest.raises(Exception, match="missing"):
            server(policy=str(tmp_path / "missing.yaml"), source=world.source)


def _code(channel):
    try:
        invoke(channel, "unary_unary", b"a")
    except grpc.RpcError as err:
        return err.code()
    return None
