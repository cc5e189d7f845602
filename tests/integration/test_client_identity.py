# SPDX-License-Identifier: Apache-2.0
"""Whom the httpx clients talk to: every flavour, on real connections."""

from __future__ import annotations

import ssl
from datetime import timedelta

import pytest

from kubetls_sdk import PeerUnauthorizedError, PeerVerificationError, TrustBundleSet
from kubetls_sdk._context import server_context
from kubetls_sdk.exceptions import PeerError
from kubetls_sdk.expectation import AnyMember
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.calling import FLAVOURS, Flavour
from tests.integration.origin import Origin, stock_server_context

CA = DevelopmentCA("example.org")
PARTNER = DevelopmentCA("partner.example")
STRANGER = DevelopmentCA("example.org")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"
BILLING = "/ns/shop/sa/billing"
EXPIRED = {"ttl": timedelta(minutes=-1)}


@pytest.fixture(params=FLAVOURS)
def flavour(request, monkeypatch):
    return Flavour(request.param, monkeypatch)


@pytest.fixture
def source(kubetls_source):
    return kubetls_source("/ns/shop/sa/web", ca=CA, trust=[PARTNER])


@pytest.fixture
def orders_source(kubetls_source):
    return kubetls_source("/ns/shop/sa/orders", ca=CA, trust=[PARTNER], dns_names=["localhost"])


@pytest.fixture
def orders(orders_source):
    with Origin.running(server_context(orders_source)) as origin:
        yield origin


class TestRightServer:
    def test_answers(self, flavour, source, orders):
        """A server that proves the expected identity is called, and the response says who it is."""
        with flavour.client(server=ORDERS, source=source) as client:
            response = client.get(f"{orders.url}/orders/42")
        assert response.status_code == 200
        assert response.text == "ok"
        assert str(response.extensions["verified_peer"].spiffe_id) == ORDERS

    def test_sees_who_calls(self, flavour, source, orders_source):
        """The server sees our SPIFFE ID, and so can authorize us."""
        seen = []
        context = server_context(orders_source)
        with Origin.running(context) as origin:
            origin._ok = _answer_with_peer(origin, seen)
            with flavour.client(server=ORDERS, source=source) as client:
                client.get(origin.url)
        assert [str(peer.spiffe_id) for peer in seen] == ["spiffe://example.org/ns/shop/sa/web"]

    @pytest.mark.parametrize(
        "expected",
        [
            pytest.param({"server": "spiffe://example.org/ns/*/sa/orders"}, id="pattern"),
            pytest.param({"server": [ORDERS, "spiffe://example.org/x"]}, id="one-of"),
            pytest.param({"server": AnyMember(CA.trust_domain)}, id="any-member"),
            pytest.param({"servers": {"localhost": ORDERS}}, id="host"),
            pytest.param({"service_names": True}, id="service-name"),
        ],
    )
    def test_ways_to_expect(self, flavour, source, orders, expected):
        """Each way to say who is expected finds the right server."""
        with flavour.client(source=source, **expected) as client:
            assert client.get(orders.url).status_code == 200

    def test_connection_is_reused(self, flavour, source, orders):
        """Requests one after the other share one connection."""
        with flavour.client(server=ORDERS, source=source) as client:
            for _ in range(5):
                client.get(orders.url)
        assert orders.connections == 1

    def test_leaf_with_only_a_spiffe_id(self, flavour, source):
        """A server leaf without any DNS name is found by its SPIFFE ID."""
        with (
            Origin.running(stock_server_context(CA.issue("/ns/shop/sa/orders"))) as origin,
            flavour.client(server=ORDERS, source=source) as client,
        ):
            assert client.get(origin.url).text == "ok"


WRONG = [
    pytest.param(lambda: CA.issue(BILLING), PeerUnauthorizedError, id="other-workload"),
    pytest.param(
        lambda: CA.issue(BILLING, dns_names=["localhost"]),
        PeerUnauthorizedError,
        id="other-workload-with-the-dns-name",
    ),
    pytest.param(
        lambda: PARTNER.issue("/ns/shop/sa/orders"),
        PeerUnauthorizedError,
        id="other-trusted-domain",
    ),
    pytest.param(
        lambda: PARTNER.issue_for("example.org", "/ns/shop/sa/orders"),
        PeerVerificationError,
        id="forged-by-a-trusted-domain",
    ),
    pytest.param(
        lambda: STRANGER.issue("/ns/shop/sa/orders"), PeerVerificationError, id="wrong-authority"
    ),
    pytest.param(
        lambda: CA.issue("/ns/shop/sa/orders", **EXPIRED), PeerVerificationError, id="expired"
    ),
    *(
        pytest.param(
            lambda fault=fault: CA.issue_faulty(fault, "/ns/shop/sa/orders"),
            PeerVerificationError,
            id=fault,
        )
        for fault in ("dns_only", "no_san", "two_uris", "ca_leaf", "client_only_eku")
    ),
]


class TestWrongServer:
    @pytest.mark.parametrize(("chain", "error"), WRONG)
    def test_is_refused_before_any_request(self, flavour, source, chain, error):
        """A server that is not the expected one gets no byte of the request."""
        with (
            Origin.running(stock_server_context(chain())) as origin,
            flavour.client(server=ORDERS, source=source) as client,
        ):
            with pytest.raises(flavour.library.ConnectError) as caught:
                client.post(origin.url, content=b"secret")
            assert isinstance(caught.value.__cause__, error)
            assert caught.value.request.url == origin.url
            assert origin.requests == []

    def test_error_says_expected_and_got(self, flavour, source):
        """The error's own message names both identities."""
        with (
            Origin.running(stock_server_context(CA.issue(BILLING))) as origin,
            flavour.client(server=ORDERS, source=source) as client,
            pytest.raises(flavour.library.ConnectError) as caught,
        ):
            client.get(origin.url)
        assert str(caught.value) == (
            f"peer is refused: expected {ORDERS!r}, got 'spiffe://example.org{BILLING}'"
        )

    def test_server_without_tls13(self, flavour, source):
        """A server that only speaks TLS 1.2 is refused."""
        context = stock_server_context(CA.issue("/ns/shop/sa/orders"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            Origin.running(context) as origin,
            flavour.client(server=ORDERS, source=source) as client,
            pytest.raises(flavour.library.ConnectError),
        ):
            client.get(origin.url)


class TestServiceNames:
    @pytest.mark.parametrize(
        "chain",
        [
            pytest.param(
                lambda: PARTNER.issue("/ns/shop/sa/orders", dns_names=["localhost"]), id="partner"
            ),
            pytest.param(lambda: CA.issue("/ns/shop/sa/orders"), id="no-dns-name"),
            pytest.param(lambda: CA.issue("/ns/shop/sa/orders", dns_names=["*"]), id="wildcard"),
            pytest.param(
                lambda: CA.issue("/ns/shop/sa/orders", dns_names=["localhost.evil"]), id="longer"
            ),
        ],
    )
    def test_only_our_own_domain_vouches(self, flavour, source, chain):
        """A DNS name is believed only when our own trust domain put exactly it in the leaf."""
        with (
            Origin.running(stock_server_context(chain())) as origin,
            flavour.client(service_names=True, source=source) as client,
        ):
            with pytest.raises(flavour.library.ConnectError) as caught:
                client.get(origin.url)
            assert isinstance(caught.value.__cause__, PeerUnauthorizedError)
            assert origin.requests == []

    def test_address_is_no_name(self, flavour, source, orders):
        """An IP address in the URL is refused before connecting."""
        with (
            flavour.client(service_names=True, source=source) as client,
            pytest.raises(flavour.library.UnsupportedProtocol, match="expected a DNS name"),
        ):
            client.get(f"https://127.0.0.1:{orders.port}")
        assert orders.connections == 0


class TestUrls:
    @pytest.mark.parametrize("scheme", ["http", "ws", "ftp"])
    def test_other_schemes(self, flavour, source, orders, scheme):
        """Only https is spoken; the rest is refused before connecting."""
        with (
            flavour.client(server=ORDERS, source=source) as client,
            pytest.raises(flavour.library.UnsupportedProtocol, match="expected an https URL"),
        ):
            client.get(f"{scheme}://localhost:{orders.port}/")
        assert orders.connections == 0

    def test_unknown_origin(self, flavour, source, orders):
        """An origin without an expected identity is refused before connecting."""
        with (
            flavour.client(servers={"orders.shop.svc": ORDERS}, source=source) as client,
            pytest.raises(flavour.library.UnsupportedProtocol, match="no identity is expected"),
        ):
            client.get(orders.url)
        assert orders.connections == 0

    @pytest.mark.parametrize("target", ["http://localhost:{port}/", "https://127.0.0.1:{port}/"])
    def test_redirect_elsewhere(self, flavour, source, orders, target):
        """A redirect to plain HTTP or to an origin without an expected identity is not followed."""
        location = target.format(port=orders.port)
        with (
            flavour.client(
                servers={"localhost": ORDERS}, source=source, follow_redirects=True
            ) as client,
            pytest.raises(flavour.library.UnsupportedProtocol),
        ):
            client.get(f"{orders.url}/redirect?{location}")
        assert orders.connections == 1
        assert len(orders.requests) == 1

    def test_redirect_to_another_expected_origin(self, flavour, source, orders):
        """A redirect is followed when the new origin proves what is expected of it."""
        with (
            Origin.running(stock_server_context(CA.issue(BILLING))) as billing,
            flavour.client(
                servers={
                    f"localhost:{orders.port}": ORDERS,
                    f"localhost:{billing.port}": f"spiffe://example.org{BILLING}",
                },
                source=source,
                follow_redirects=True,
            ) as client,
        ):
            response = client.get(f"{orders.url}/redirect?{billing.url}/there")
            assert str(response.extensions["verified_peer"].spiffe_id).endswith("/billing")
            assert [request.path for request in billing.requests] == ["/there"]

    def test_redirect_to_a_wrong_server(self, flavour, source, orders):
        """With one identity for all origins, a redirect to another workload is refused."""
        with (
            Origin.running(stock_server_context(CA.issue(BILLING))) as billing,
            flavour.client(server=ORDERS, source=source, follow_redirects=True) as client,
        ):
            with pytest.raises(flavour.library.ConnectError) as caught:
                client.get(f"{orders.url}/redirect?{billing.url}")
            assert isinstance(caught.value.__cause__, PeerUnauthorizedError)
            assert billing.requests == []

    def test_base_url(self, flavour, source, orders):
        """A relative URL goes to the base URL, verified like any other."""
        with flavour.client(server=ORDERS, source=source, base_url=f"{orders.url}/api") as client:
            client.get("orders/1")
        assert orders.requests[0].path == "/api/orders/1"


class TestOverrides:
    @pytest.mark.parametrize(
        "override",
        [
            pytest.param({"headers": {"Host": "billing"}}, id="host"),
            pytest.param({"extensions": {"sni_hostname": "billing"}}, id="sni"),
        ],
    )
    def test_do_not_change_who_is_required(self, flavour, source, orders, override):
        """Neither a Host header nor an SNI override makes a client accept, or look for, another."""
        servers = {"localhost": ORDERS, "billing": f"spiffe://example.org{BILLING}"}
        with (
            Origin.running(stock_server_context(CA.issue(BILLING))) as billing,
            flavour.client(servers=servers, source=source) as client,
        ):
            assert client.get(orders.url, **override).status_code == 200
            with pytest.raises(flavour.library.ConnectError) as caught:
                client.get(billing.url, **override)
            assert isinstance(caught.value.__cause__, PeerUnauthorizedError)
            assert billing.requests == []

    def test_identity_is_part_of_the_pools_key(self, flavour, kubetls_source, orders):
        """A connection made for one expected identity never serves a request for another."""
        source = kubetls_source("/ns/shop/sa/web", ca=CA)
        servers = {
            "localhost": ORDERS,
            f"https://localhost:{orders.port}": f"spiffe://example.org{BILLING}",
        }
        with flavour.client(server=ORDERS, source=source) as client:
            client.get(orders.url)
            with flavour.client(servers=servers, source=source) as other:
                with pytest.raises(flavour.library.ConnectError) as caught:
                    other.get(orders.url)
                assert isinstance(caught.value.__cause__, PeerUnauthorizedError)


class TestServerRefusesUs:
    @pytest.fixture
    def stranger(self, kubetls_source):
        source = kubetls_source("/ns/shop/sa/web", ca=STRANGER)
        source.replace(bundles=TrustBundleSet([CA.bundle]))
        return source

    def test_our_kind_of_server(self, flavour, stranger, orders):
        """A server that hangs up on us is reported as one that probably refused our identity."""
        with (
            flavour.client(server=ORDERS, source=stranger) as client,
            pytest.raises(flavour.library.TransportError) as caught,
        ):
            client.post(orders.url, content=b"order")
        assert "spiffe://example.org/ns/shop/sa/web" in str(caught.value)
        assert "refused our SPIFFE ID" in str(caught.value)
        assert not isinstance(caught.value, flavour.library.ConnectError)
        assert _peer_error(caught.value) is None

    def test_stock_server(self, flavour, stranger):
        """A server that sends a TLS alert is reported with the alert, and is asked only once."""
        context = stock_server_context(CA.issue("/ns/shop/sa/orders"), roots=CA.bundle.to_pem())
        with (
            Origin.running(context) as origin,
            flavour.client(server=ORDERS, source=stranger) as client,
        ):
            with pytest.raises(flavour.library.TransportError) as caught:
                client.get(origin.url)
            assert origin.connections == 1
        assert "refused our SPIFFE ID" in str(caught.value)

    def test_not_after_it_has_answered(self, flavour, source, orders):
        """A connection that breaks later is not taken for a refusal."""
        with flavour.client(server=ORDERS, source=source) as client:
            client.get(orders.url)
            with pytest.raises(flavour.library.RemoteProtocolError) as caught:
                client.get(f"{orders.url}/drop")
        assert "refused" not in str(caught.value)

    def test_is_not_asked_twice(self, flavour, source, orders):
        """A request that broke is never sent again."""
        with (
            flavour.client(server=ORDERS, source=source) as client,
            pytest.raises(flavour.library.TransportError),
        ):
            client.get(f"{orders.url}/drop")
        assert len(orders.requests) == 1

    def test_earlier_refusal_is_not_mixed_in(self, flavour, source, orders):
        """An error raised while a refusal is handled does not claim to be one."""
        with (
            Origin.running(stock_server_context(CA.issue(BILLING))) as billing,
            flavour.client(server=ORDERS, source=source) as client,
        ):
            client.get(orders.url)
            try:
                client.get(billing.url)
            except flavour.library.ConnectError:
                with pytest.raises(flavour.library.RemoteProtocolError):
                    client.get(f"{orders.url}/drop")


def _answer_with_peer(origin, seen):
    async def answer(writer, _argument):
        seen.append(writer.get_extra_info("ssl_object").verified_peer)
        return await origin._answer(writer, "200 OK", b"ok")

    return answer


def _peer_error(err):
    while err is not None:
        if isinstance(err, PeerError):
            return err
        err = err.__cause__
    return None
