# SPDX-License-Identifier: Apache-2.0
"""Who gets what from orders: over real mutual TLS, without a cluster, each test in milliseconds."""
# ruff: noqa: S101 - pytest's assert

import ssl
from pathlib import Path

import httpx
import pytest
from conftest import RunningOrders

from kubetls_sdk import TrustBundleSet
from kubetls_sdk.client.httpx import Client
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.testing.pytest_plugin import SourceFactory


def is_served(client: Client) -> bool:
    """Whether a request is served; a refused one has its connection closed, or another status."""
    try:
        return client.get("/orders/42").is_success
    except httpx.TransportError:
        return False


def test_web_reads_an_order(orders: RunningOrders, kubetls_source: SourceFactory) -> None:
    """An allowed caller is served, and the application knows who it is."""
    with orders.client(kubetls_source("/ns/shop/sa/web")) as client:
        response = client.get("/orders/42")
    assert response.status_code == 200
    assert response.json() == {"order": "42", "caller": "spiffe://example.org/ns/shop/sa/web"}


def test_billing_is_denied(orders: RunningOrders, kubetls_source: SourceFactory) -> None:
    """A caller for whom there is no rule gets 403."""
    with orders.client(kubetls_source("/ns/shop/sa/billing")) as client:
        assert client.get("/orders/42").status_code == 403


def test_a_partner_is_a_stranger(
    orders: RunningOrders,
    kubetls_ca: DevelopmentCA,
    kubetls_partner_ca: DevelopmentCA,
    kubetls_source: SourceFactory,
) -> None:
    """A trust domain without a bundle here is refused in the handshake, before any request."""
    shop = kubetls_source("/ns/sales/sa/shop", ca=kubetls_partner_ca, trust=[kubetls_ca])
    with orders.client(shop) as client, pytest.raises(httpx.TransportError):
        client.get("/orders/42")


def test_the_caller_checks_us_too(
    orders: RunningOrders, kubetls_ca: DevelopmentCA, kubetls_source: SourceFactory
) -> None:
    """A caller that expects orders sends nothing to somebody else at the same address."""
    web = kubetls_source("/ns/shop/sa/web")
    with orders.client(web) as client:
        orders.source.replace(svid=kubetls_ca.issue("/ns/shop/sa/impostor"))
        with pytest.raises(httpx.ConnectError, match="impostor"):
            client.get("/orders/42")


def test_rotation(
    orders: RunningOrders, kubetls_ca: DevelopmentCA, kubetls_source: SourceFactory
) -> None:
    """Both sides get new keys and certificates under a living client; no request notices."""
    web = kubetls_source("/ns/shop/sa/web")
    serials = set()
    with orders.client(web) as client:
        for _ in range(3):
            response = client.get("/orders/42")
            assert response.status_code == 200
            serials.add(response.extensions["verified_peer"].leaf.serial_number)
            orders.source.replace(svid=kubetls_ca.issue("/ns/shop/sa/orders"))
            web.replace(svid=kubetls_ca.issue("/ns/shop/sa/web"))
    assert len(serials) == 3


def test_a_root_is_withdrawn(
    orders: RunningOrders, kubetls_ca: DevelopmentCA, kubetls_source: SourceFactory
) -> None:
    """A caller under a root that is no longer trusted is refused, also over a living connection."""
    with orders.client(kubetls_source("/ns/shop/sa/web")) as client:
        assert is_served(client)
        kubetls_ca.add_root()
        kubetls_ca.activate_root()
        kubetls_ca.retire_root()
        orders.source.replace(bundles=TrustBundleSet([kubetls_ca.bundle]))
        assert not is_served(client)


@pytest.mark.parametrize(
    "fault", ["expired", "not_yet_valid", "two_uris", "no_san", "ca_leaf", "untrusted_root"]
)
def test_a_faulty_certificate(
    orders: RunningOrders, kubetls_ca: DevelopmentCA, tmp_path: Path, fault: str
) -> None:
    """A certificate with a fault is refused; `kubetls_sdk.testing.FAULTS` lists them all."""
    chain = kubetls_ca.issue_faulty(fault, "/ns/shop/sa/web")
    (tmp_path / "web.pem").write_bytes(chain.certificates_pem() + chain.private_key_pem())
    context = ssl.create_default_context(cadata=kubetls_ca.bundle.to_pem().decode())
    context.check_hostname = False  # a client that is not ours, and checks no SPIFFE ID
    context.load_cert_chain(tmp_path / "web.pem")
    with httpx.Client(verify=context) as client, pytest.raises(httpx.TransportError):
        client.get(f"{orders.url}/orders/42")
