# SPDX-License-Identifier: Apache-2.0
"""gRPC servers of both kinds in this process, and clients as plain as grpcio makes them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.grpc import aio_server, caller, server
from kubetls_sdk.testing import DevelopmentCA

KINDS = ("threaded", "async", "async-threads")
ARITIES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
SERVICE = "shop.Orders"
FOREVER = b"forever"


def path(arity):
    return f"/{SERVICE}/{arity}"


class World:
    """A trust domain with a partner, and the source of the service `orders`."""

    def __init__(self):
        self.ca = DevelopmentCA("example.org")
        self.partner = DevelopmentCA("partner.example")
        self.source = StaticSource(
            self.ca.issue("/ns/shop/sa/orders", dns_names=("localhost",)),
            TrustBundleSet([self.ca.bundle, self.partner.bundle]),
        )

    def distrust(self):
        """Remove all roots of our own trust domain."""
        self.source.replace(bundles=TrustBundleSet([self.partner.bundle]))


class Orders:
    """Echoes the caller and every message; remembers what it was given.

    Attributes:
        seen: Every request message that was deserialized.
        running: How many calls of a method are running.
    """

    def __init__(self):
        self.seen = []
        self.running = 0

    def deserialize(self, raw):
        if raw == b"malformed":
            raise ValueError("malformed")
        self.seen.append(raw)
        return raw

    def who(self, context):
        return str(caller(context)).encode()

    @contextlib.contextmanager
    def call(self):
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def unary_unary(self, request, context):
        return self.who(context) + b" " + request

    def unary_stream(self, request, context):
        with self.call():
            yield self.who(context) + b" " + request
            stop = threading.Event()
            while request == FOREVER and context.is_active():
                stop.wait(0.02)
                yield b"tick"

    def stream_unary(self, requests, context):
        with self.call():
            return self.who(context) + b" " + b",".join(requests)

    def stream_stream(self, requests, context):
        with self.call():
            for request in requests:
                yield self.who(context) + b" " + request


class AsyncOrders(Orders):
    async def unary_unary(self, request, context):
        return self.who(context) + b" " + request

    async def unary_stream(self, request, context):
        with self.call():
            yield self.who(context) + b" " + request
            if request == FOREVER:
                await asyncio.Event().wait()

    async def stream_unary(self, requests, context):
        with self.call():
            found = [request async for request in requests]
            return self.who(context) + b" " + b",".join(found)

    async def stream_stream(self, requests, context):
        with self.call():
            async for request in requests:
                yield self.who(context) + b" " + request


class WritingOrders(AsyncOrders):
    """The same with the reading and writing calls of the context instead of iterators."""

    async def unary_stream(self, request, context):
        with self.call():
            await context.write(self.who(context) + b" " + request)
            if request == FOREVER:
                await asyncio.Event().wait()

    async def stream_unary(self, requests, context):
        found = []
        while (message := await context.read()) is not grpc.aio.EOF:
            found.append(message)
        return self.who(context) + b" " + b",".join(found)

    async def stream_stream(self, requests, context):
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(self.who(context) + b" " + message)


def handlers(orders):
    """The method handlers of a service, by name."""
    return {
        arity: getattr(grpc, f"{arity}_rpc_method_handler")(
            getattr(orders, arity), orders.deserialize, None
        )
        for arity in ARITIES
    }


class Serving:
    """A running server."""

    def __init__(self, world, orders, port):
        self.world = world
        self.orders = orders
        self.port = port
        self.target = f"localhost:{port}"
        self.channels = []

    def channel(self, svid=None, *, roots=None, options=()):
        """A stock channel, by default of the workload `web`."""
        mine = svid if svid is not None else self.world.ca.issue("/ns/shop/sa/web")
        trusted = (roots or self.world.ca.bundle).to_pem()
        credentials = grpc.ssl_channel_credentials(
            trusted, mine.private_key_pem(), mine.certificates_pem()
        )
        channel = grpc.secure_channel(
            self.target, credentials, options=[("grpc.use_local_subchannel_pool", 1), *options]
        )
        self.channels.append(channel)
        return channel

    def close(self):
        for channel in self.channels:
            channel.close()


def register(made, orders, registration):
    by_name = handlers(orders)
    if registration == "registered":
        made.add_registered_method_handlers(SERVICE, by_name)
    else:
        made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, by_name),))


@contextlib.contextmanager
def serve(world, kind="threaded", *, orders=None, registration="generic", add=None, **settings):
    """Run a server of one of `KINDS`; `add` is called with it, to add more services."""
    settings.setdefault("policy", AnyVerified())
    settings.setdefault("source", world.source)
    is_async = kind.startswith("async")
    if orders is None:
        orders = AsyncOrders() if kind == "async" else Orders()

    def prepare(made):
        register(made, orders, registration)
        if add is not None:
            add(made)
        return made.add_secure_port("127.0.0.1:0")

    running = run_async(prepare, settings) if is_async else run_threaded(prepare, settings)
    with running as port:
        serving = Serving(world, orders, port)
        try:
            yield serving
        finally:
            serving.close()


@contextlib.contextmanager
def run_threaded(prepare, settings):
    with ThreadPoolExecutor(8) as pool:
        made = server(pool, **settings)
        port = prepare(made)
        made.start()
        try:
            yield port
        finally:
            made.stop(0).wait(10)


@contextlib.contextmanager
def run_async(prepare, settings):
    with LoopThread() as loop, ThreadPoolExecutor(8) as pool:

        async def start():
            made = aio_server(migration_thread_pool=pool, **settings)
            port = prepare(made)
            await made.start()
            return made, port

        made, port = loop.run(start())
        try:
            yield port
        finally:
            loop.run(made.stop(0))


class LoopThread:
    """An event loop in a thread of its own."""

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@contextlib.contextmanager
def serve_stock(chain, orders, *, roots=None):
    """A plain gRPC server with any certificate, as an attacker may have it; yields its target."""
    key_and_chain = [(chain.private_key_pem(), chain.certificates_pem())]
    credentials = grpc.ssl_server_credentials(
        key_and_chain, roots.to_pem() if roots else None, require_client_auth=roots is not None
    )
    with ThreadPoolExecutor(4) as pool:
        made = grpc.server(pool)
        by_name = handlers(orders)
        made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, by_name),))
        port = made.add_secure_port("127.0.0.1:0", credentials)
        made.start()
        try:
            yield f"localhost:{port}"
        finally:
            made.stop(0).wait(10)


class Plain(Orders):
    """Answers `ok`, without asking for the caller."""

    def unary_unary(self, request, context):
        return b"ok"

    def unary_stream(self, request, context):
        with self.call():
            yield b"ok"
            stop = threading.Event()
            while request == FOREVER and context.is_active():
                stop.wait(0.02)


def invoke(channel, arity, *messages, method=None, timeout=10, metadata=None):
    """Make a call of any arity; returns the list of response messages."""
    call = getattr(channel, arity)(method or path(arity))
    request = iter(messages) if arity.startswith("stream") else messages[0]
    response = call(request, timeout=timeout, metadata=metadata)
    return list(response) if arity.endswith("stream") else [response]


def code_of(channel, arity, *messages, **options):
    """The status of a call that fails, and what it says."""
    try:
        invoke(channel, arity, *messages, **options)
    except grpc.RpcError as err:
        return err.code(), err.details()
    raise AssertionError("the call succeeded")
