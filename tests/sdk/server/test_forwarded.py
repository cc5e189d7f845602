# SPDX-License-Identifier: Apache-2.0
"""Clients that a proxy has forwarded: whom the middleware believes, and what a policy may say."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from prometheus_client import CollectorRegistry

from kubetls_sdk import SpiffeId, TrustBundleSet, audit, metrics, verify_svid
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server import identity_headers, refusal_log
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorize import authorize
from kubetls_sdk.server.authorizer import AnyCaller, AnyVerified
from kubetls_sdk.server.caller import caller
from kubetls_sdk.server.connection import with_connection
from kubetls_sdk.server.forwarded import ForwardedFrom
from kubetls_sdk.testing import DevelopmentCA
from tests.sdk.server.forwarding import client_cert, forwarded_client_cert
from tests.sdk.server.scopes import Recorder, World, call, http_scope, websocket_scope

PROXY = "spiffe://example.org/ns/edge/sa/envoy"
PHONE = "spiffe://example.org/ns/shop/sa/phone"
FORMS = {"client-cert": client_cert, "x-forwarded-client-cert": forwarded_client_cert}
POLICY = """
version: 1
policies:
  - name: edge
    allow:
      - name: phones-read
        from: {namespace: edge, serviceAccount: envoy}
        to: {methods: GET, paths: "/orders/{id}"}
        when: forwarded.spiffeId == 'spiffe://example.org/ns/shop/sa/phone'
      - name: partners-ask
        from: {namespace: edge, serviceAccount: envoy}
        to: {methods: GET, paths: /partners}
        when: forwarded.trustDomain in ['partner.example']
      - name: direct
        from: {namespace: shop, serviceAccount: phone}
        to: {methods: GET, paths: /inside}
      - name: anybody
        from: {namespace: edge, serviceAccount: envoy}
        to: {methods: GET, paths: /open}
      - name: phones-refund
        from: {namespace: edge, serviceAccount: envoy}
        to: {actions: refund, resources: order}
        when: forwarded.spiffeId present
"""


class Edge:
    """A proxy that calls for its clients, and the application behind the middleware."""

    def __init__(self, header="client-cert", *, policy=None, app=None):
        self.world = World()
        self.header = header
        self.app = Recorder() if app is None else app
        self.proxy = self.world.connection(self.world.ca.issue("/ns/edge/sa/envoy"))
        self.phone = self.world.ca.issue("/ns/shop/sa/phone", intermediates=1)
        chosen = AnyVerified() if policy is None else policies(policy)
        self.middleware = KubeTLSMiddleware(
            self.app,
            policy=chosen,
            optional=True,
            forwarded=ForwardedFrom(proxies=[PROXY], header=header),
        )

    def fields(self, svid=None):
        return FORMS[self.header]((svid or self.phone).chain)

    def request(self, fields, *, connection=None, **values):
        """Send a request; what was answered."""
        scope = http_scope(connection or self.proxy, **values)
        scope["headers"] += fields
        return call(self.middleware, scope)

    def status(self, fields, **values):
        return self.request(fields, **values)[0]["status"]


def policies(text):
    return PolicySet.parse({"policy.yaml": text}, trust_domain=World().ca.trust_domain)


@pytest.fixture(autouse=True)
def _fresh_quotas(monkeypatch):
    monkeypatch.setattr(identity_headers, "_quota", refusal_log.LogQuota(burst=1, per_second=0))
    monkeypatch.setattr(refusal_log, "_quotas", {})


@pytest.fixture(params=FORMS)
def edge(request):
    return Edge(request.param)


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"proxies": []}, id="nobody"),
            pytest.param({"proxies": PROXY}, id="one-text"),
            pytest.param({"proxies": ["envoy"]}, id="no-spiffe-id"),
            pytest.param({"proxies": ["spiffe://example.org"]}, id="a-trust-domain"),
            pytest.param({"proxies": ["spiffe://example.org/*"]}, id="pattern"),
            pytest.param({"proxies": [PROXY], "header": "forwarded"}, id="header"),
        ],
    )
    def test_contradictions(self, settings):
        """Proxies are named exactly, one by one, and the form is one that we know."""
        with pytest.raises(ConfigurationError):
            ForwardedFrom(**settings)

    def test_pickle(self):
        """Settings go to worker processes."""
        settings = ForwardedFrom(proxies=(PROXY,), header="x-forwarded-client-cert")
        assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own
        assert settings.proxies == (SpiffeId.parse(PROXY),)

    def test_costs_nothing_without(self):
        """Who names no proxy does not even import what reads certificates from headers."""
        program = (
            "import sys, kubetls_sdk.server.asgi as asgi, kubetls_sdk.server.authorizer as a\n"
            "asgi.KubeTLSMiddleware(None, policy=a.AnyVerified())\n"
            "print([name for name in sys.modules if '_forward' in name or 'client_cert' in name])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == "[]"


class TestBelieved:
    def test_application(self, edge):
        """The application sees the proxy as caller, its client beside it, and no header of it."""
        assert edge.status(edge.fields()) == 204
        (scope,) = edge.app.scopes
        found = caller(scope)
        assert found is scope["state"]["caller"]
        assert (str(found), str(found.spiffe_id)) == (PROXY, PROXY)
        assert found.peer is edge.proxy.peer
        assert (str(found.forwarded), str(found.forwarded.spiffe_id)) == (PHONE, PHONE)
        assert found.forwarded.certificate == edge.phone.leaf
        assert found.forwarded.trust_domain == edge.world.ca.trust_domain
        assert scope["headers"] == [(b"host", b"orders")]

    def test_partner(self, edge):
        """A client of a partner is one of the partner's trust domain."""
        assert edge.status(edge.fields(edge.world.partner.issue("/app"))) == 204
        assert str(caller(edge.app.scopes[0]).forwarded) == "spiffe://partner.example/app"

    def test_websocket(self, edge):
        """WebSockets have forwarded clients as well."""
        scope = websocket_scope(edge.proxy)
        scope["headers"] += edge.fields()
        call(edge.middleware, scope)
        assert str(caller(edge.app.scopes[0]).forwarded) == PHONE
        assert scope["headers"] == [(b"host", b"orders")]

    def test_client_without_certificate(self, edge):
        """A request without the field has no forwarded client, whatever came before it."""
        edge.status(edge.fields())
        edge.status([])
        assert [caller(scope).forwarded is None for scope in edge.app.scopes] == [False, True]

    def test_other_claims(self, edge):
        """Other fields that claim an identity are removed, of this proxy too."""
        assert edge.status([*edge.fields(), (b"x-spiffe-id", b"spiffe://a/b")]) == 204
        assert edge.app.scopes[0]["headers"] == [(b"host", b"orders")]

    def test_quick_way(self, edge):
        """Requests in turn with and without client never get what belongs to another one."""
        edge.proxy.requests = list
        edge.middleware._verdicts.holder.current = policies(POLICY)
        other = edge.fields(edge.world.ca.issue("/ns/shop/sa/other"))

        async def main():
            app = with_connection(edge.middleware, {}, edge.proxy)
            for fields in ([], edge.fields(), [], other, edge.fields(), []):
                scope = http_scope(path="/open")
                scope["headers"] += fields
                await app(scope, None, _ignore)

        asyncio.run(main())
        assert [str(caller(scope).forwarded).rpartition("/")[2] for scope in edge.app.scopes] == [
            "None", "phone", "None", "other", "phone", "None",
        ]  # fmt: skip

    def test_is_verified_once(self, edge, monkeypatch):
        """A client that comes again costs no second verification."""
        seen = []
        monkeypatch.setattr(
            "kubetls_sdk.server._forwarding.verify_svid",
            lambda *given, **named: seen.append(1) or verify_svid(*given, **named),
        )
        for _ in range(3):
            assert edge.status(edge.fields()) == 204
        assert len(seen) == 1

    def test_many_fields(self, edge):
        """Fields are not compared with each other: what thousands cost grows with their number."""
        compared = []

        class Field(tuple):
            __slots__ = ()
            __hash__ = tuple.__hash__

            def __eq__(self, other):
                compared.append(other)
                return tuple.__eq__(self, other)

        names = [b"client-cert-chain", b"accept"] * 50
        fields = [Field((name, str(number).encode())) for number, name in enumerate(names)]
        assert edge.status(fields) == 400
        assert len(compared) <= len(fields)

    def test_memory(self, edge, monkeypatch):
        """What is remembered is bounded."""
        monkeypatch.setattr("kubetls_sdk.server._forwarding._REMEMBERED", 2)
        for number in range(4):
            edge.status(edge.fields(edge.world.ca.issue(f"/c/{number}")))
        assert len(edge.middleware._forwarding._known) == 2


async def _ignore(_):
    pass


SPELLINGS = [
    b"x-forwarded-client-cert", b"X_Forwarded_Client_Cert", b"x-forwarded_client-cert",
    b"client-cert", b"CLIENT_CERT", b"client-cert-chain", b"Client_Cert_Chain",
]  # fmt: skip


class TestNotBelieved:
    @pytest.mark.parametrize("who", ["another-workload", "anonymous", "partner-of-that-name"])
    def test_others(self, edge, who):
        """Of anybody else the field is removed, and proves nothing; that is no error."""
        svid = {
            "another-workload": edge.world.ca.issue("/ns/edge/sa/envoy-2"),
            "anonymous": None,
            "partner-of-that-name": edge.world.partner.issue("/ns/edge/sa/envoy"),
        }[who]
        edge.middleware._verdicts.holder.current = AnyCaller()
        assert edge.status(edge.fields(), connection=edge.world.connection(svid)) == 204
        (scope,) = edge.app.scopes
        assert caller(scope).forwarded is None
        assert scope["headers"] == [(b"host", b"orders")]

    @pytest.mark.parametrize("name", SPELLINGS)
    def test_not_configured(self, name):
        """Without the setting nobody is believed, in no spelling."""
        world, app = World(), Recorder()
        connection = world.connection(world.ca.issue("/ns/edge/sa/envoy"))
        scope = http_scope(connection)
        scope["headers"].append((name, forwarded_client_cert(world.svid.chain)[0][1]))
        call(KubeTLSMiddleware(app, policy=AnyVerified()), scope)
        assert app.scopes[0]["headers"] == [(b"host", b"orders")]
        assert caller(app.scopes[0]).forwarded is None

    def test_count_and_log(self, edge, caplog):
        """What is removed is counted each time, and logged once in a while without its value."""
        metrics.enable(registry := CollectorRegistry())
        try:
            for _ in range(3):
                edge.status(edge.fields(), connection=edge.world.connection())
            count = registry.get_sample_value("kubetls_identity_headers_removed_total")
        finally:
            metrics.disable()
        assert count == 3 * len(edge.fields())
        (line,) = [r.getMessage() for r in caplog.records if "claim an identity" in r.getMessage()]
        assert repr(edge.header) in line
        assert "10.0.0.7" in line
        assert "MII" not in line


class TestRefused:
    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_beside_a_certificate(self, edge, spelling, caplog):
        """Another form, another spelling or a second value is what the proxy has let through."""
        if (edge.header, spelling) == ("client-cert", b"client-cert-chain"):
            spelling = b"client_cert-chain"
        value = edge.fields(edge.world.ca.issue("/victim"))[0][1]
        answer = edge.request([*edge.fields(), (spelling, value)])
        assert answer[0]["status"] == 400
        assert edge.app.scopes == []
        assert "forwarded certificate: expected" in caplog.text

    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_instead_of_a_certificate(self, spelling):
        """Alone, another form or spelling is refused as well: it did not come from the proxy."""
        for header in FORMS:
            edge = Edge(header)
            value = edge.fields(edge.world.ca.issue("/ns/shop/sa/app"))[0][1]
            is_form = spelling.decode() == header
            assert edge.status([(spelling, value)]) == (204 if is_form else 400)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda fields: fields + fields[:1], id="twice"),
            pytest.param(lambda fields: [(fields[0][0], b"")], id="empty"),
            pytest.param(lambda fields: [(fields[0][0], b"nonsense")], id="nonsense"),
            pytest.param(lambda fields: [(fields[0][0], b"a=" + b"A" * 40_000)], id="too-long"),
            pytest.param(lambda fields: [(fields[0][0], fields[0][1][:-9])], id="cut-off"),
            pytest.param(
                lambda fields: [(fields[0][0], b"URI=spiffe://example.org/x;Hash=00")], id="no-cert"
            ),
        ],
    )
    def test_malformed(self, edge, change, caplog):
        """What cannot be read is 400; the reason is in the log and not in the answer."""
        answer = edge.request(change(edge.fields()))
        assert answer[0]["status"] == 400
        assert b"certificate" not in answer[1]["body"]
        assert "forwarded certificate: expected" in caplog.text
        assert PROXY in caplog.text
        assert edge.app.scopes == []

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            pytest.param(
                lambda world: world.ca.issue_faulty("expired", path="/x").certificates,
                "expired",
                id="expired",
            ),
            pytest.param(
                lambda world: world.partner.issue_for("example.org", "/x").chain,
                "claims 'spiffe://example.org/x'",
                id="partner-mints-our-names",
            ),
            pytest.param(lambda _: World().ca.issue("/x").chain, "no authority", id="unknown-root"),
            pytest.param(
                lambda _: DevelopmentCA("other.example").issue("/x").chain,
                "no trust bundle",
                id="unknown-domain",
            ),
            pytest.param(lambda _: web_pki(), "URI", id="web-pki"),
            pytest.param(lambda world: (world.ca.authority,), "certificate", id="authority"),
        ],
    )
    def test_unproven(self, edge, make, reason, caplog):
        """A certificate that proves no identity of ours is 401; the proxy's connection lives on."""
        answer = edge.request(FORMS[edge.header](make(edge.world)))
        assert answer[0]["status"] == 401
        names = dict(answer[0]["headers"])
        assert names[b"www-authenticate"] == b"MutualTLS"
        assert b"connection" not in names
        assert "forwarded certificate" in caplog.text
        assert reason in caplog.text
        assert edge.app.scopes == []
        assert edge.status([]) == 204

    def test_root_removed(self, edge):
        """A client whose root is gone is refused at its next request, remembered or not."""
        phone = edge.fields(edge.world.partner.issue("/app"))
        assert edge.status(phone) == 204
        edge.world.source.replace(bundles=TrustBundleSet([edge.world.ca.bundle]))
        assert edge.status(phone) == 401
        assert edge.status(edge.fields()) == 204

    def test_expiry(self, edge, monkeypatch):
        """A client whose certificate expires is refused at its next request, remembered or not."""
        soon = edge.fields(edge.world.ca.issue("/soon", ttl=timedelta(minutes=5)))
        assert edge.status(soon) == 204
        later = datetime.now(UTC) + timedelta(minutes=6)
        monkeypatch.setattr("kubetls_sdk.server.connection.time", later.timestamp)
        monkeypatch.setattr("kubetls_sdk.server._forwarding.datetime", _Clock(later))
        assert edge.status(soon) == 401
        assert edge.status(edge.fields()) == 204


class _Clock:
    """Stands for `datetime`, at one moment."""

    def __init__(self, moment):
        self._moment = moment

    def now(self, _):
        return self._moment


def web_pki():
    issued = trustme.CA().issue_cert("phone@shop.example")
    return (x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()),)


class TestPolicy:
    @pytest.fixture
    def edge(self):
        return Edge(policy=POLICY)

    def test_condition(self, edge):
        """A rule may ask for the client, and lets nobody else's requests through."""
        other = edge.fields(edge.world.ca.issue("/ns/shop/sa/other"))
        for _ in range(2):  # what was allowed for one is not remembered for another
            assert edge.status(edge.fields()) == 204
            assert edge.status(other) == 403
            assert edge.status([]) == 403

    def test_trust_domain(self, edge):
        """A rule may ask for the trust domain of the client."""
        partner = edge.fields(edge.world.partner.issue("/app"))
        assert edge.status(partner, path="/partners") == 204
        assert edge.status(edge.fields(), path="/partners") == 403

    def test_direct_rule(self, edge):
        """A rule for a workload itself is never met by a request that is forwarded for it."""
        assert edge.status([], path="/inside", connection=edge.world.connection(edge.phone)) == 204
        assert edge.status(edge.fields(), path="/inside") == 403

    def test_conditioned_rule_and_direct_peer(self, edge):
        """The client itself, without the proxy, does not meet a rule for the proxy."""
        direct = edge.world.connection(edge.phone)
        assert edge.status([], connection=direct) == 403
        assert edge.status(edge.fields(), connection=direct) == 403

    def test_rule_without_condition(self, edge):
        """A rule that does not ask lets the proxy in, for whomever."""
        assert edge.status([], path="/open") == edge.status(edge.fields(), path="/open") == 204

    def test_action(self, edge):
        """The application's own questions know the client too."""
        for fields in (edge.fields(), []):
            edge.status(fields, path="/open")
        answers = [authorize(scope, "refund", "order").allowed for scope in edge.app.scopes]
        assert answers == [True, False]


class TestAudit:
    def test_both_are_named(self, monkeypatch):
        """A record has the proxy as identity and the client beside it, allowed or not."""
        monkeypatch.setattr(audit, "_log", logging.Logger(audit.LOGGER))
        edge, stream = Edge(policy=POLICY), io.StringIO()
        audit.enable(logging.StreamHandler(stream))
        try:
            for path, fields in (("/orders/1", edge.fields()), ("/x", edge.fields()), ("/x", [])):
                edge.status(fields, path=path)
        finally:
            audit.disable()
        records = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [(r["decision"], r["spiffe_id"], r["forwarded"]) for r in records] == [
            ("allow", PROXY, PHONE), ("deny", PROXY, PHONE), ("deny", PROXY, None),
        ]  # fmt: skip

    def test_denial_in_the_log(self, caplog):
        """The line about a denied request says on whose behalf it came."""
        edge = Edge(policy=POLICY)
        edge.status(edge.fields(), path="/x")
        assert f"on behalf of {PHONE}" in caplog.text


class TestUnderWay:
    @pytest.mark.parametrize("kind", ["http", "websocket"])
    def test_root_removed(self, edge, kind):
        """What runs for a client ends when its root is removed, and the proxy goes on."""

        async def main():
            began, gone = asyncio.Event(), asyncio.Event()

            async def app(scope, receive, send):
                if scope["type"] == "websocket":
                    await receive()
                    await send({"type": "websocket.accept"})
                began.set()
                await gone.wait()

            edge.middleware.app = app
            edge.proxy.end = lambda _: gone.set()
            make = http_scope if kind == "http" else websocket_scope
            scope = make(edge.proxy)
            scope["headers"] += edge.fields(edge.world.partner.issue("/app"))
            sent = []

            async def receive():
                return {"type": "websocket.connect"}

            async def send(message):
                sent.append(message)

            task = asyncio.ensure_future(edge.middleware(scope, receive, send))
            await asyncio.wait_for(began.wait(), 10)
            edge.world.source.replace(bundles=TrustBundleSet([edge.world.ca.bundle]))
            await asyncio.wait_for(gone.wait(), 10)
            await asyncio.wait_for(task, 10)
            return sent

        sent = asyncio.run(main())
        if kind == "websocket":
            assert sent[-1] == {"type": "websocket.close", "code": 1008}
        assert edge.proxy.refusal() is None
