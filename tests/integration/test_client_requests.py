# SPDX-License-Identifier: Apache-2.0
"""requests and urllib3 with our adapters: the same promises as the httpx clients."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import requests
import urllib3
from urllib3.exceptions import HTTPError, URLSchemeUnknown

from kubetls_sdk import ConfigurationError, PeerError, TrustBundleSet
from kubetls_sdk._context import server_context
from kubetls_sdk.client.requests import ServerAdapter, session
from kubetls_sdk.client.urllib3 import pool_manager
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.origin import Origin, stock_server_context
from tests.waiting import until

CA = DevelopmentCA("example.org")
STRANGER = DevelopmentCA("example.org")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
BILLING = "/ns/shop/sa/billing"


@pytest.fixture
def source(kubetls_source):
    return kubetls_source("/ns/shop/sa/web", ca=CA)


@pytest.fixture
def orders(kubetls_source):
    server = kubetls_source("/ns/shop/sa/orders", ca=CA, dns_names=["localhost"])
    with Origin.running(server_context(server)) as origin:
        yield origin


@pytest.fixture
def billing(kubetls_source):
    server = kubetls_source(BILLING, ca=CA, dns_names=["localhost"])
    with Origin.running(server_context(server)) as origin:
        yield origin


@pytest.fixture(params=["requests", "urllib3"])
def get(request, source):
    """Call with either library; the result is the body."""
    if request.param == "urllib3":
        with pool_manager(server=ORDERS, source=source, retries=False) as pool:
            yield lambda url: pool.request("GET", url).data.decode()
        return
    with session(server=ORDERS, source=source) as opened:
        yield lambda url: opened.get(url, timeout=5).text


REFUSED = (requests.exceptions.SSLError, urllib3.exceptions.SSLError)


class TestBoth:
    def test_right_server(self, get, orders):
        """The expected server is called over one kept connection."""
        assert [get(orders.url) for _ in range(3)] == ["ok"] * 3
        assert orders.connections == 1

    @pytest.mark.parametrize(
        "chain",
        [
            pytest.param(lambda: CA.issue(BILLING, dns_names=["localhost"]), id="other-workload"),
            pytest.param(lambda: STRANGER.issue("/ns/shop/sa/orders"), id="wrong-authority"),
            pytest.param(
                lambda: CA.issue("/ns/shop/sa/orders", ttl=timedelta(minutes=-1)), id="expired"
            ),
        ],
    )
    def test_wrong_server(self, get, chain):
        """Another server gets no request, and the error's chain ends in ours."""
        with Origin.running(stock_server_context(chain())) as origin:
            with pytest.raises(REFUSED) as caught:
                get(origin.url)
            assert _peer_error(caught.value) is not None
            assert origin.requests == []

    def test_rotation(self, get, source, orders):
        """The first request after a rotation has a new connection, also on another generation."""
        for _ in range(3):
            get(orders.url)
            source.replace(svid=CA.issue("/ns/shop/sa/web"))
        get(orders.url)
        assert orders.connections == 4
        until(lambda: orders.open == 1)

    def test_server_certificate_expires(self, get, monkeypatch):
        """A kept connection to a server whose certificate has expired is not used again."""
        short = stock_server_context(CA.issue("/ns/shop/sa/orders", ttl=timedelta(minutes=5)))
        with Origin.running(short) as origin:
            get(origin.url)
            later = time.time() + 301
            monkeypatch.setattr(time, "time", lambda: later)
            get(origin.url)
            assert origin.connections == 2

    def test_threads_and_rotations(self, get, source, orders):
        """Threads see no failure while the identity rotates."""
        svids = [CA.issue("/ns/shop/sa/web") for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            calls = [threads.submit(get, orders.url) for _ in range(200)]
            for number in range(50):
                source.replace(svid=svids[number % 4])
            assert {call.result() for call in calls} == {"ok"}


class TestUrllib3:
    def test_plain_http(self, source):
        """There is no pool for http URLs."""
        with pool_manager(server=ORDERS, source=source) as pool, pytest.raises(URLSchemeUnknown):
            pool.request("GET", "http://localhost:1")

    @pytest.mark.parametrize(
        "weaker",
        [{"cert_reqs": "CERT_NONE"}, {"assert_hostname": "billing"}, {"ca_certs": None}],
        ids=["cert_reqs", "assert_hostname", "ca_certs"],
    )
    def test_weaker_options(self, source, billing, weaker):
        """No option of urllib3 makes another server good enough."""
        pool = pool_manager(server=ORDERS, source=source, retries=False, **weaker)
        with pool, pytest.raises(HTTPError):
            pool.request("GET", billing.url)
        assert billing.requests == []


class TestRequests:
    @pytest.mark.parametrize("verify", [True, False])
    def test_verify_has_no_say(self, source, orders, billing, verify):
        """With verify=True the right server answers, and with False a wrong one is refused."""
        with session(server=ORDERS, source=source) as opened:
            assert opened.get(orders.url, verify=verify, timeout=5).text == "ok"
            with pytest.raises(requests.exceptions.SSLError):
                opened.get(billing.url, verify=verify, timeout=5)
        assert billing.requests == []

    def test_plain_http(self, source, orders):
        """Plain http URLs are refused, also as the target of a redirect."""
        plain = f"http://localhost:{orders.port}"
        with session(server=ORDERS, source=source) as opened:
            for url in (plain, f"{orders.url}/redirect?{plain}"):
                with pytest.raises(requests.exceptions.InvalidSchema, match="expected an https"):
                    opened.get(url, timeout=5)
        assert orders.connections == 1

    def test_environment(self, source, orders, monkeypatch):
        """Neither proxies nor a certificate file of the environment have a say."""
        monkeypatch.setenv("HTTPS_PROXY", "http://localhost:1")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
        with session(server=ORDERS, source=source) as opened:
            assert opened.get(orders.url, timeout=5).text == "ok"

    @pytest.mark.parametrize(
        "options", [{"proxies": {"https": "http://localhost:1"}}, {"cert": "/nowhere"}]
    )
    def test_refused_options(self, source, orders, options):
        """A proxy or a certificate of the caller's is an error that names it."""
        with (
            session(server=ORDERS, source=source) as opened,
            pytest.raises(ConfigurationError, match=f"expected no {next(iter(options))}="),
        ):
            opened.get(orders.url, timeout=5, **options)

    def test_adapter_on_a_prefix(self, source, orders):
        """The adapter can be mounted for one origin of an ordinary session."""
        with requests.Session() as opened:
            opened.mount(orders.url, ServerAdapter(server=ORDERS, source=source, pool_maxsize=2))
            assert opened.get(orders.url, timeout=5).text == "ok"

    def test_removed_root(self, kubetls_source):
        """A server under a root that was removed is not reached over a kept connection."""
        ca = DevelopmentCA("example.org")
        source = kubetls_source("/ns/shop/sa/web", ca=ca)
        server = stock_server_context(ca.issue("/ns/shop/sa/orders"))
        with Origin.running(server) as origin, session(server=ORDERS, source=source) as opened:
            opened.get(origin.url, timeout=5)
            source.replace(bundles=TrustBundleSet([CA.bundle]))
            with pytest.raises(requests.exceptions.SSLError):
                opened.get(origin.url, timeout=5)
            assert len(origin.requests) == 1


def _peer_error(err):
    seen = set()
    while err is not None and id(err) not in seen:
        seen.add(id(err))
        if isinstance(err, PeerError):
            return err
        nested = [each for each in (*err.args, getattr(err, "reason", None)) if _is_error(each)]
        err = err.__cause__ or err.__context__ or (nested[0] if nested else None)
    return None


def _is_error(value):
    return isinstance(value, BaseException)
