# SPDX-License-Identifier: Apache-2.0
"""Who is expected at a URL."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from kubetls_sdk import ConfigurationError, SpiffeIdError
from kubetls_sdk.client._servers import expected_servers
from kubetls_sdk.expectation import ServiceName

ORDERS = "spiffe://example.org/ns/shop/sa/orders"
BILLING = "spiffe://example.org/ns/shop/sa/billing"


def at(servers, host, port=None, scheme="https"):
    return str(servers.expected(url(host, port, scheme))).strip("'")


def url(host, port=None, scheme="https"):
    return SimpleNamespace(scheme=scheme, raw_host=host.encode(), port=port)


class TestArguments:
    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param({}, id="none"),
            pytest.param({"server": ORDERS, "service_names": True}, id="server-and-names"),
            pytest.param({"server": ORDERS, "servers": {"a": ORDERS}}, id="server-and-servers"),
            pytest.param({"servers": {"a": ORDERS}, "service_names": True}, id="servers-and-names"),
            pytest.param({"service_names": False}, id="names-off"),
        ],
    )
    def test_exactly_one(self, arguments):
        """There is no default, and two answers contradict each other."""
        with pytest.raises(ConfigurationError, match="expected exactly one of"):
            expected_servers(**arguments)

    @pytest.mark.parametrize("nobody", [{"servers": {}}, {"server": []}])
    def test_nobody(self, nobody):
        """An empty expectation is an error, not a client that trusts everybody or nobody."""
        with pytest.raises(ConfigurationError, match="expected at least one"):
            expected_servers(**nobody)

    @pytest.mark.parametrize("text", ["orders", "https://example.org/x", "spiffe://example.org/a*"])
    def test_not_a_spiffe_id(self, text):
        """What is not a SPIFFE ID or pattern is refused at construction."""
        with pytest.raises(SpiffeIdError):
            expected_servers(server=text)

    def test_unhashable(self):
        """An expectation that cannot be part of a pool's key is refused at construction."""

        @dataclass
        class Unhashable:
            def is_met_by(self, peer, *, own):
                return True

        with pytest.raises(ConfigurationError, match="hashable"):
            expected_servers(server=Unhashable())


class TestByOrigin:
    SERVERS = expected_servers(
        servers={
            "orders.shop.svc": ORDERS,
            "Mixed.Case.": ORDERS,
            "both": ORDERS,
            "both:8443": BILLING,
            "https://origin": ORDERS,
            "[::1]:8443": ORDERS,
        }
    )

    @pytest.mark.parametrize(
        ("host", "port", "expected"),
        [
            pytest.param("orders.shop.svc", None, ORDERS, id="default-port"),
            pytest.param("orders.shop.svc", 8443, ORDERS, id="any-port"),
            pytest.param("ORDERS.shop.svc.", None, ORDERS, id="case-and-dot-of-the-url"),
            pytest.param("mixed.case", None, ORDERS, id="case-and-dot-of-the-key"),
            pytest.param("both", 8443, BILLING, id="port-before-host"),
            pytest.param("both", 443, ORDERS, id="host-for-other-ports"),
            pytest.param("origin", None, ORDERS, id="origin-default-port"),
            pytest.param("origin", 443, ORDERS, id="origin-explicit-port"),
            pytest.param("::1", 8443, ORDERS, id="ipv6"),
        ],
    )
    def test_found(self, host, port, expected):
        """The most specific entry for host and port decides."""
        assert at(self.SERVERS, host, port) == expected

    @pytest.mark.parametrize(
        ("host", "port"),
        [
            ("other", None),
            ("origin", 8443),
            ("::1", None),
            ("evil.orders.shop.svc", None),
            ("orders.shop.svc.evil", None),
            ("", None),
        ],
    )
    def test_nobody_expected(self, host, port):
        """Everything else is refused."""
        with pytest.raises(ConfigurationError, match="no identity is expected there"):
            at(self.SERVERS, host, port)

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "host:",
            "host:port",
            "host:99999",
            "host/path",
            "https://host/",
            "https://user@host",
            "user@host",
            "bücher.example",
            "[::1",
            "[1::2::3]",
            "::1",
            "host?x",
            "a b",
            "*.shop.svc",
        ],
    )
    def test_bad_key(self, key):
        """A key that is not a host or origin is an error that shows it."""
        with pytest.raises(ConfigurationError) as caught:
            expected_servers(servers={key: ORDERS})
        assert repr(key) in str(caught.value)

    def test_plain_http_key(self):
        """An origin without TLS cannot be expected."""
        with pytest.raises(ConfigurationError, match="expected an https URL"):
            expected_servers(servers={"http://orders": ORDERS})

    def test_same_server_twice(self):
        """Two entries for one server contradict each other."""
        with pytest.raises(ConfigurationError, match="each server once"):
            expected_servers(servers={"a": ORDERS, "A.": BILLING})


class TestSchemes:
    @pytest.mark.parametrize(
        "servers",
        [
            expected_servers(server=ORDERS),
            expected_servers(servers={"a": ORDERS}),
            expected_servers(service_names=True),
        ],
    )
    @pytest.mark.parametrize("scheme", ["http", "ws", "", "HTTPS", "ftp"])
    def test_only_tls(self, servers, scheme):
        """Every kind of expectation refuses a scheme without TLS."""
        with pytest.raises(ConfigurationError, match="expected an https URL"):
            servers.expected(url("a", scheme=scheme))

    def test_web_sockets(self):
        """A WebSocket over TLS is as good as https."""
        assert at(expected_servers(server=ORDERS), "a", scheme="wss") == ORDERS


class TestByServiceName:
    def test_name_of_the_url(self):
        """The URL's own host name is what the leaf must carry."""
        servers = expected_servers(service_names=True)
        assert servers.expected(url("Orders.Shop.svc.", 1)) == ServiceName("orders.shop.svc")

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
    def test_not_a_name(self, host):
        """An address, or nothing, is no service name."""
        with pytest.raises(ConfigurationError, match="expected a DNS name"):
            expected_servers(service_names=True).expected(url(host))
