# SPDX-License-Identifier: Apache-2.0
"""What a rotation does to connections: nothing fails, nothing old is used again, all of it ends."""

from __future__ import annotations

import asyncio
import gc
import importlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from kubetls_sdk import PeerVerificationError, SourceClosedError, StaticSource, TrustBundleSet
from kubetls_sdk._context import server_context
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.calling import FLAVOURS, Flavour
from tests.integration.origin import Origin, stock_server_context
from tests.waiting import until

CA = DevelopmentCA("example.org")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
WEB = "/ns/shop/sa/web"
LIBRARIES = ("httpx", "httpx2")


@pytest.fixture(params=FLAVOURS)
def flavour(request, monkeypatch):
    return Flavour(request.param, monkeypatch)


@pytest.fixture
def source(kubetls_source):
    return kubetls_source(WEB, ca=CA)


@pytest.fixture
def orders(kubetls_source):
    server = kubetls_source("/ns/shop/sa/orders", ca=CA, dns_names=["localhost"])
    with Origin.running(server_context(server)) as origin:
        yield origin


def rotate(source):
    source.replace(svid=CA.issue(WEB))


class TestNewGeneration:
    def test_new_requests_use_new_connections(self, flavour, source, orders):
        """The first request after a rotation presents the new SVID on a new connection."""
        with flavour.client(server=ORDERS, source=source) as client:
            client.get(orders.url)
            rotate(source)
            client.get(orders.url)
            client.get(orders.url)
        assert len({request.connection for request in orders.requests}) == 2
        assert orders.connections == 2

    def test_idle_connections_close_without_a_request(self, flavour, source, orders):
        """A rotation closes idle connections at once, also when nobody calls any more."""
        with flavour.client(server=ORDERS, source=source) as client:
            client.get(orders.url)
            assert orders.open == 1
            rotate(source)
            until(lambda: (getattr(client, "tick", int)(), orders.open == 0)[1])

    def test_stream_finishes(self, flavour, source, orders):
        """A response that is being read is read to its end across rotations."""
        with flavour.client(server=ORDERS, source=source) as client:
            with client.stream("GET", f"{orders.url}/stream") as response:
                parts = response.iter_raw()
                got = next(parts)
                rotate(source)
                assert client.get(orders.url).text == "ok"
                rotate(source)
                orders.gate.set()
                got += b"".join(parts)
            assert got == b"firstsecond"
            client.get(orders.url)
            until(lambda: (getattr(client, "tick", int)(), orders.open == 1)[1])

    def test_idle_connections_close_beside_a_stream(self, flavour, source, orders):
        """A long response keeps its own connection of an old generation open, and no other."""
        with (
            flavour.client(server=ORDERS, source=source) as client,
            client.stream("GET", f"{orders.url}/stream") as response,
        ):
            parts = response.iter_raw()
            next(parts)
            client.get(orders.url)
            assert orders.open == 2
            rotate(source)
            until(lambda: (getattr(client, "tick", int)(), orders.open == 1)[1])
            orders.gate.set()
            assert b"".join(parts) == b"second"

    def test_given_up_stream(self, flavour, source, orders):
        """A response that nobody reads to its end does not keep an old generation alive."""
        with flavour.client(server=ORDERS, source=source) as client:
            response = client.stream("GET", f"{orders.url}/stream")
            with response:
                rotate(source)
            orders.gate.set()
            until(lambda: (getattr(client, "tick", int)(), orders.open == 0)[1])


class TestTrustThatEnds:
    def test_removed_root(self, flavour, orders):
        """A kept-alive connection to a server under a removed root is not used again."""
        ca = DevelopmentCA("example.org")
        server = ca.issue("/ns/shop/sa/orders")
        source = StaticSource(ca.issue(WEB), TrustBundleSet([ca.bundle]))
        with (
            Origin.running(stock_server_context(server)) as origin,
            flavour.client(server=ORDERS, source=source) as client,
        ):
            assert client.get(origin.url).text == "ok"
            ca.add_root()
            ca.activate_root()
            ca.retire_root()
            source.replace(bundles=TrustBundleSet([ca.bundle]))
            with pytest.raises(flavour.library.ConnectError) as caught:
                client.get(origin.url)
            assert isinstance(caught.value.__cause__, PeerVerificationError)
            assert len(origin.requests) == 1

    def test_removed_root_while_a_request_waits(self, flavour):
        """A request that waited for a connection is not sent to a server that lost its root."""
        partner = DevelopmentCA("partner.example")
        server = partner.issue("/ns/shop/sa/orders")
        source = StaticSource(CA.issue(WEB), TrustBundleSet([CA.bundle, partner.bundle]))
        one = flavour.library.Limits(max_connections=1)
        with (
            Origin.running(stock_server_context(server)) as origin,
            flavour.client(server=server.spiffe_id, source=source, limits=one) as client,
        ):
            first = flavour.start(client, "GET", f"{origin.url}/stream")
            until(lambda: (getattr(client, "tick", int)(), origin.requests)[1])
            second = flavour.start(client, "POST", f"{origin.url}/secret")
            (pool,) = getattr(client, "client", client)._transport._pools._pools.values()
            until(lambda: (getattr(client, "tick", int)(), pool.starting == 1)[1])
            source.replace(bundles=TrustBundleSet([CA.bundle]))
            getattr(client, "tick", int)()
            origin.gate.set()
            assert first().status_code == 200
            with pytest.raises(flavour.library.ConnectError):
                second()
            assert [request.path for request in origin.requests] == ["/stream"]

    def test_server_certificate_expires(self, flavour, source, monkeypatch):
        """A kept-alive connection to a server whose certificate has expired is not used again."""
        short = stock_server_context(CA.issue("/ns/shop/sa/orders", ttl=timedelta(minutes=5)))
        with (
            Origin.running(short) as origin,
            flavour.client(server=ORDERS, source=source) as client,
        ):
            client.get(origin.url)
            client.get(origin.url)
            assert origin.connections == 1
            later = time.time() + 301
            monkeypatch.setattr(time, "time", lambda: later)
            client.get(origin.url)
            assert origin.connections == 2


class TestUnderLoad:
    @pytest.mark.parametrize("library", LIBRARIES)
    def test_threads(self, library, source, orders):
        """Threads that share a client see no failure while it rotates 100 times."""
        module = importlib.import_module(f"kubetls_sdk.client.{library}")
        stop = threading.Event()
        with module.Client(server=ORDERS, source=source) as client:

            def call():
                done = 0
                while not stop.is_set():
                    assert client.get(orders.url).text == "ok"
                    done += 1
                return done

            with ThreadPoolExecutor(4) as threads:
                calls = [threads.submit(call) for _ in range(4)]
                _rotate_often(source, orders, 100)
                stop.set()
                assert sum(each.result() for each in calls) >= 100

    @pytest.mark.slow
    @pytest.mark.parametrize("library", LIBRARIES)
    def test_tasks(self, library, source, orders):
        """Eight tasks that share a client see no failure while it rotates 200 times."""
        module = importlib.import_module(f"kubetls_sdk.client.{library}")
        stop = threading.Event()

        async def call(client):
            number = 0
            while not stop.is_set():
                path = "/big" if number % 16 == 0 else "/"
                response = await client.get(orders.url + path)
                assert response.status_code == 200
                number += 1
            return number

        async def main():
            rotating = asyncio.get_running_loop().run_in_executor(
                None, _rotate_often, source, orders, 200
            )
            async with module.AsyncClient(server=ORDERS, source=source) as client:
                calls = [asyncio.create_task(call(client)) for _ in range(8)]
                await rotating
                stop.set()
                return sum(await asyncio.gather(*calls))

        assert asyncio.run(main()) >= 200


class TestEnd:
    def test_everything_ends_with_the_client(self, flavour, source, orders):
        """A closed client leaves no thread, no connection and no subscription behind."""
        threads = threading.active_count()
        with flavour.client(server=ORDERS, source=source) as client:
            client.get(orders.url)
            rotate(source)
            client.get(orders.url)
        del client
        until(lambda: orders.open == 0)
        until(lambda: gc.collect() is not None and not source._subscribers._callbacks)
        until(lambda: threading.active_count() <= threads)

    def test_closed_client(self, flavour, source, orders):
        """A rotation after the end does nothing."""
        with flavour.client(server=ORDERS, source=source) as client:
            client.get(orders.url)
        rotate(source)
        assert orders.connections == 1

    def test_forgotten_client(self, flavour, source):
        """A client that was never used or closed does not live on in the source."""
        client = flavour.make(server=ORDERS, source=source)
        del client
        gc.collect()
        assert not source._subscribers._callbacks


class TestOwnSource:
    def test_is_found_in_the_environment(self, flavour, orders, kubetls_volume, monkeypatch):
        """Without a source, the client opens the mounted volume and closes it at its end."""
        volume = kubetls_volume(WEB, ca=CA)
        monkeypatch.setenv("KUBETLS_DIR", str(volume.directory))
        threads = threading.active_count()
        with flavour.client(server=ORDERS) as client:
            assert client.get(orders.url).status_code == 200
        until(lambda: threading.active_count() <= threads)

    def test_given_source_stays_open(self, flavour, orders, kubetls_volume):
        """A source that was given to the client is the caller's to close."""
        from kubetls_sdk.volume_source import VolumeSource

        with VolumeSource(kubetls_volume(WEB, ca=CA).directory) as source:
            with flavour.client(server=ORDERS, source=source) as client:
                client.get(orders.url)
            assert source.snapshot.generation == 1

    def test_closed_source(self, flavour, orders, kubetls_volume):
        """When the source is closed under the client, its requests fail with our own error."""
        from kubetls_sdk.volume_source import VolumeSource

        with VolumeSource(kubetls_volume(WEB, ca=CA).directory) as source:
            pass
        with (
            flavour.client(server=ORDERS, source=source) as client,
            pytest.raises(SourceClosedError),
        ):
            client.get(orders.url)


class TestSeveralLoops:
    # What the first loop leaves open is asyncio's to warn of: it was ended without closing.
    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("library", LIBRARIES)
    def test_client_outlives_a_loop(self, library, source, orders):
        """An async client that is used in a second event loop connects again there."""
        module = importlib.import_module(f"kubetls_sdk.client.{library}")
        client = module.AsyncClient(server=ORDERS, source=source)

        async def call():
            return (await client.get(orders.url)).status_code

        with asyncio.Runner() as first:
            assert first.run(call()) == 200
        with asyncio.Runner() as second:
            assert second.run(call()) == 200
            second.run(client.aclose())
        assert orders.connections == 2
        gc.collect()


def _rotate_often(source, origin, times):
    """Rotate as fast as requests arrive in between."""
    svids = [CA.issue(WEB) for _ in range(8)]
    for number in range(times):
        before = len(origin.requests)
        source.replace(svid=svids[number % len(svids)])
        until(lambda before=before: len(origin.requests) > before, interval=0.001)
