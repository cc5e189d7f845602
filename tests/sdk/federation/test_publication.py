# SPDX-License-Identifier: Apache-2.0
"""What a bundle endpoint of ours answers, as a value and as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.exceptions import ConfigurationError, NotReadyError
from kubetls_sdk.federation.app import bundle_endpoint
from kubetls_sdk.federation.bundle_document import parse_document
from kubetls_sdk.federation.publication import Publication
from kubetls_sdk.source import StaticSource
from kubetls_sdk.testing import DevelopmentCA


@pytest.fixture
def ca():
    return DevelopmentCA("example.org")


@pytest.fixture
def source(ca):
    partner = DevelopmentCA("partner.example")
    return StaticSource(ca.issue(), TrustBundleSet([ca.bundle, partner.bundle]))


def sequence_of(answer):
    return json.loads(answer.body)["spiffe_sequence"]


class Nothing:
    """A source that has nothing yet."""

    @property
    def snapshot(self):
        raise NotReadyError("nothing")

    def subscribe(self, callback):
        del callback


class TestAnswer:
    def test_document(self, source, ca):
        """Our own bundle with sequence and hint, and nothing of our partners."""
        answer = Publication(source, refresh_hint=120).answer("GET")
        found = parse_document(ca.trust_domain, answer.body).bundle
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert found.authorities == ca.bundle.authorities
        assert found.refresh_hint == 120
        assert found.sequence > 1_700_000_000

    def test_sequence_grows(self, source, ca):
        """It grows with each change, within the same second too, and not without one."""
        publication = Publication(source)
        seen = [sequence_of(publication.answer("GET"))]
        source.replace(svid=ca.issue())
        assert sequence_of(publication.answer("GET")) == seen[0]
        for _ in range(3):
            ca.add_root()
            source.replace(bundles=TrustBundleSet([ca.bundle]))
            seen.append(sequence_of(publication.answer("GET")))
        assert seen == sorted(set(seen))

    @pytest.mark.parametrize(
        ("own", "given", "expected"), [(7, 99, 7), (None, 99, 99)], ids=["the bundle's", "ours"]
    )
    def test_sequence_of_others(self, ca, own, given, expected):
        """The bundle's own number is published, else that of who keeps one."""
        bundles = TrustBundleSet([replace(ca.bundle, sequence=own)])
        publication = Publication(StaticSource(ca.issue(), bundles), sequence=lambda _: given)
        assert sequence_of(publication.answer("GET")) == expected

    def test_sequence_never_goes_back(self, ca):
        """Not even when the platform's does."""
        source = StaticSource(ca.issue(), TrustBundleSet([replace(ca.bundle, sequence=9)]))
        publication = Publication(source)
        publication.answer("GET")
        source.replace(bundles=TrustBundleSet([replace(ca.bundle, sequence=3)]))
        assert sequence_of(publication.answer("GET")) == 10

    def test_revalidation(self, source, ca):
        """A client that has this very document gets 304, until a root changes."""
        publication = Publication(source)
        first = publication.answer("GET")
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for condition in (tag, f'"x", W/{tag}', "*"):
            assert publication.answer("GET", condition).status == 304
        assert publication.answer("GET", '"x"').status == 200
        ca.add_root()
        source.replace(bundles=TrustBundleSet([ca.bundle]))
        assert publication.answer("GET", tag).status == 200

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", ""])
    def test_methods(self, source, method):
        """Only GET and HEAD."""
        answer = Publication(source).answer(method)
        assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET, HEAD", b"")

    def test_nothing(self, ca):
        """Without a bundle there is no document: partners keep what they have for a while."""
        nobody = TrustBundle(ca.trust_domain, ())
        for source in (
            Nothing(),
            StaticSource(ca.issue(), TrustBundleSet()),
            StaticSource(ca.issue(), TrustBundleSet([nobody])),
        ):
            answer = Publication(source).answer("GET")
            assert (answer.status, answer.body) == (503, b"")

    def test_revoked(self, ca):
        """Whoever means to revoke everything says so."""
        source = StaticSource(ca.issue(), TrustBundleSet([TrustBundle(ca.trust_domain, ())]))
        answer = Publication(source, allow_empty=True).answer("GET")
        assert json.loads(answer.body)["keys"] == []

    def test_no_secret(self, source):
        """No private key is ever in an answer."""
        key = source.snapshot.svid.private_key_pem()
        assert b"PRIVATE" not in Publication(source).answer("GET").body
        assert key not in Publication(source).answer("GET").body

    @pytest.mark.parametrize("hint", [0, -1, 10**9])
    def test_hint(self, source, hint):
        """A hint is within reason."""
        with pytest.raises(ConfigurationError):
            Publication(source, refresh_hint=hint)


def call(app, method="GET", headers=(), kind="http"):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "lifespan.startup"}

    scope = {"type": kind, "method": method, "path": "/any/where", "headers": list(headers)}
    asyncio.run(app(scope, receive, send))
    return sent


class TestApplication:
    def test_get(self, source):
        """It answers wherever it is mounted."""
        start, body = call(bundle_endpoint(source))
        headers = dict(start["headers"])
        assert start["status"] == 200
        assert headers[b"content-type"] == b"application/json"
        assert int(headers[b"content-length"]) == len(body["body"]) > 100

    def test_head(self, source):
        """HEAD tells the length, without the document."""
        start, body = call(bundle_endpoint(source), "HEAD")
        assert int(dict(start["headers"])[b"content-length"]) > 100
        assert body["body"] == b""

    def test_not_modified(self, source):
        """Conditions are understood."""
        app = bundle_endpoint(source)
        tag = dict(call(app)[0]["headers"])[b"etag"]
        start, body = call(app, headers=[(b"if-none-match", tag)])
        assert (start["status"], body["body"]) == (304, b"")

    def test_websocket(self, source):
        """Nothing else is served."""
        assert call(bundle_endpoint(source), kind="websocket")[0]["type"] == "websocket.close"

    def test_lifespan(self, source):
        """It may be the whole application of a server."""
        types = [each["type"] for each in call(bundle_endpoint(source), kind="lifespan")]
        assert types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    def test_mounted(self, source):
        """It can be mounted in an application of a framework."""
        from starlette.applications import Starlette
        from starlette.routing import Mount
        from starlette.testclient import TestClient

        app = Starlette(routes=[Mount("/bundle", bundle_endpoint(source, refresh_hint=60))])
        with TestClient(app) as client:
            assert client.get("/bundle").json()["spiffe_refresh_hint"] == 60
            assert client.post("/bundle").status_code == 405
