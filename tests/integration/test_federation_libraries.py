# SPDX-License-Identifier: Apache-2.0
"""What go-spiffe does with what a bundle endpoint answers, and what we do: rows of its table."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import pytest

from kubetls_sdk.federation.fetch import FetchError, fetch_bundle
from kubetls_sdk.federation.partner import Endpoint
from kubetls_sdk.spiffe_id import SpiffeId
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.bundle_server import BundleServer, redirect_to, web_context
from tests.integration.origin import stock_server_context
from tests.sdk.federation.libraries.table import of

CA = DevelopmentCA("partner.example")
SERVER_PATH = "/ns/spire/sa/bundles"


@pytest.fixture
def web(web_ca):
    with BundleServer.running(web_context(web_ca, "localhost")) as server:
        server.publish(CA.bundle)
        yield server


def _compressed(web):
    web.body = gzip.compress(web.body)
    web.headers["content-encoding"] = "gzip"


# What is done to an honest https_web endpoint.
ACTS = {
    "a good answer under web roots": lambda web: None,
    "an empty body": lambda web: setattr(web, "body", b""),
    "a good body with status 500": lambda web: setattr(web, "status", 500),
    "a good body as text/html": lambda web: web.headers.update({"content-type": "text/html"}),
    "a good body without a content type": lambda web: web.headers.clear(),
    "a body compressed with gzip": _compressed,
    "a redirect to https": lambda web: setattr(web, "act", redirect_to("/a", times=1)),
    "a redirect to plain http": lambda web: setattr(
        web, "act", redirect_to("http://localhost:{port}/a", times=1)
    ),
    "four redirects": lambda web: setattr(web, "act", redirect_to("/{n}", times=4)),
    "a redirect in a circle": lambda web: setattr(web, "act", redirect_to("/bundle.json?v=1")),
}
SPIFFE = {
    "a good answer under SPIFFE authentication": CA.spiffe_id(SERVER_PATH),
    "another SPIFFE ID": SpiffeId.parse("spiffe://partner.example/other"),
}
PROXY = "a dead proxy in the environment"


def fetched(endpoint, known=None):
    """`accepted` or `refused`, with the authorities of the partner and nothing else."""
    try:
        found = asyncio.run(
            fetch_bundle(CA.trust_domain, endpoint, known=known, timeout_seconds=10)
        )
    except FetchError:
        return "refused"
    assert found.bundle.authorities == CA.bundle.authorities
    return "accepted"


class TestEndpoints:
    @pytest.mark.parametrize("row", of("endpoints"))
    def test_row(self, row, web, roots, monkeypatch):
        """An answer is taken, or refused, as the table says."""
        if row.given in SPIFFE:
            assert self._spiffe(row) == row.ours
            return
        if row.given == PROXY:
            for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, "http://127.0.0.1:9")
        else:
            ACTS[row.given](web)
        assert fetched(Endpoint(url=web.url, profile="https_web", ca_file=roots)) == row.ours

    def _spiffe(self, row):
        context = stock_server_context(CA.issue(SERVER_PATH))
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(BundleServer.running(context))
            server.publish(CA.bundle)
            endpoint = Endpoint(url=server.url, profile="https_spiffe", spiffe_id=SPIFFE[row.given])
            return fetched(endpoint, CA.bundle)

    def test_all_are_used(self):
        """Nothing is prepared that is in no table."""
        assert {each.values[0].given for each in of("endpoints")} == {*ACTS, *SPIFFE, PROXY}
