# SPDX-License-Identifier: Apache-2.0
"""Istio manifests become policies that decide the same, or an error."""

from __future__ import annotations

import textwrap

import pytest

from kubetls_sdk.authz import WEBSOCKET, PolicySet, RequestDetails
from kubetls_sdk.authz.istio import import_istio
from kubetls_sdk.exceptions import PolicyError
from kubetls_sdk.spiffe_id import SpiffeId
from tests.sdk.authz.policies import BILLING, OWN, PARTNER, WEB


def manifest(spec: str, *, action: str = "ALLOW", annotations: str = "{}") -> str:
    head = f"""
        apiVersion: security.istio.io/v1
        kind: AuthorizationPolicy
        metadata: {{name: a, namespace: shop, annotations: {annotations}}}
        spec:
          action: {action}
        """
    return textwrap.dedent(head) + textwrap.indent(textwrap.dedent(spec).strip(), "  ") + "\n"


def imported(text: str, **options) -> PolicySet:
    result = import_istio(text, file="istio.yaml", trust_domain=OWN, **options)
    return PolicySet.parse({"imported": result}, trust_domain=OWN)


def source(fields: str) -> str:
    return f"rules: [{{from: [{{source: {fields}}}]}}]"


def operation(fields: str) -> str:
    return f"rules: [{{to: [{{operation: {fields}}}]}}]"


EVERYBODY = [WEB, BILLING, PARTNER, None]


class TestSources:
    @pytest.mark.parametrize(
        ("fields", "allowed"),
        [
            ("{principals: [example.org/ns/shop/sa/web]}", [WEB]),
            ("{principals: [example.org/ns/*]}", [WEB, BILLING]),
            ("{principals: ['*']}", [WEB, BILLING, PARTNER]),
            ("{namespaces: [shop]}", [WEB, PARTNER]),
            ("{serviceAccounts: [finance/billing]}", [BILLING]),
            ("{serviceAccounts: [web]}", [WEB, PARTNER]),
            ("{principals: ['*'], notPrincipals: [example.org/ns/finance/*]}", [WEB, PARTNER]),
            ("{notNamespaces: [finance]}", [WEB, PARTNER]),
        ],
    )
    def test_allow(self, fields, allowed):
        """Exactly those callers."""
        policies = imported(manifest(source(fields)))
        assert [c for c in EVERYBODY if policies.decide(c, "GET", "/x").allowed] == allowed

    def test_deny_by_exclusion_counts_for_the_anonymous(self):
        """A caller without certificate is in no namespace, so it is denied."""
        rule = source("{notNamespaces: [shop]}")
        text = (
            manifest("rules: [{}]")
            + "---\n"
            + manifest(rule, action="DENY").replace("name: a", "name: b")
        )
        policies = imported(text)
        assert [c for c in EVERYBODY if policies.decide(c, "GET", "/").allowed] == [WEB, PARTNER]

    def test_address_blocks_belong_to_their_source(self):
        """Two sources become two rules."""
        rules = """
            rules:
              - from:
                  - source: {namespaces: [shop], ipBlocks: [10.0.0.0/8]}
                  - source: {namespaces: [finance]}
            """
        policies = imported(manifest(rules))
        inside, outside = RequestDetails(source="10.1.1.1"), RequestDetails(source="11.1.1.1")
        assert policies.decide(WEB, "GET", "/", inside).allowed
        assert not policies.decide(WEB, "GET", "/", outside).allowed
        assert policies.decide(BILLING, "GET", "/", outside).allowed

    def test_request_principals(self):
        """The pair of issuer and subject, split at the last slash."""
        policies = imported(manifest(source("{requestPrincipals: ['https://i/x/bob']}")))
        bob = RequestDetails(user={"iss": "https://i/x", "sub": "bob"})
        other = RequestDetails(user={"iss": "https://j", "sub": "bob"})
        assert policies.decide(WEB, "GET", "/", bob).allowed
        assert not policies.decide(WEB, "GET", "/", other).allowed


class TestOperations:
    ASKED = ("GET /a", "HEAD /a", "POST /a", "GET /a/", "GET /a/b", "GET /a/b/c", "GET /b/x/c")

    @pytest.mark.parametrize(
        ("fields", "allowed"),
        [
            ("{methods: [GET], paths: [/a]}", {"GET /a"}),
            ("{methods: [GET, HEAD], paths: [/a]}", {"GET /a", "HEAD /a"}),
            ("{paths: [/a]}", {"GET /a", "HEAD /a", "POST /a"}),
            ("{paths: [/a/*]}", {"GET /a/", "GET /a/b", "GET /a/b/c"}),
            ("{paths: ['/b/{*}/c']}", {"GET /b/x/c"}),
            ("{methods: [POST]}", {"POST /a"}),
            ("{methods: [GET], notPaths: [/a/*]}", {"GET /a", "GET /b/x/c"}),
        ],
    )
    def test_allow(self, fields, allowed):
        """GET is not HEAD, and `/a/*` is not `/a`."""
        policies = imported(manifest(operation(fields)))
        found = {each for each in self.ASKED if policies.decide(WEB, *each.split()).allowed}
        assert found == allowed

    def test_websocket_handshakes_are_gets(self):
        """In Istio; here they have to be spelled out."""
        policies = imported(manifest(operation("{methods: [GET], paths: [/a]}")))
        assert policies.decide(WEB, WEBSOCKET, "/a").allowed
        policies = imported(manifest(operation("{methods: [POST], paths: [/a]}")))
        assert not policies.decide(WEB, WEBSOCKET, "/a").allowed

    def test_hosts_and_ports(self):
        """Without case; `h:*` is any port."""
        policies = imported(manifest(operation("{hosts: ['Shop.org', 'Shop.org:*'], ports: ['80']}")
                                     .replace("'Shop.org', ", "")))  # fmt: skip
        assert policies.decide(WEB, "GET", "/", RequestDetails(host="shop.ORG:1", port=80)).allowed
        assert not policies.decide(WEB, "GET", "/", RequestDetails(host="x.org", port=80)).allowed


class TestPolicies:
    def test_allow_nothing(self):
        """An empty spec allows nothing."""
        policies = imported(manifest("rules: []").replace("  rules: []\n", ""))
        assert not policies.decide(WEB, "GET", "/").allowed

    def test_allow_everything(self):
        """An empty rule matches all."""
        policies = imported(manifest("rules: [{}]"))
        assert all(policies.decide(caller, "GET", "/").allowed for caller in EVERYBODY)
        assert policies.decide(SpiffeId.parse("spiffe://x.org/y"), WEBSOCKET, "/").allowed

    def test_is_written_to_be_read(self):
        """What two rules share stands in both: no YAML anchors."""
        text = manifest(operation("{methods: [GET], paths: [/a]}"))
        assert "&id" not in import_istio(text, file="istio.yaml", trust_domain=OWN)

    def test_dry_run_is_shadow(self):
        """The annotation becomes the mode."""
        policies = imported(manifest("rules: [{}]", annotations='{istio.io/dry-run: "true"}'))
        decision = policies.decide(WEB, "GET", "/")
        assert not decision.allowed
        assert decision.shadow.allowed

    def test_selectors(self):
        """A policy that does not select the workload is left out."""
        text = manifest("selector: {matchLabels: {app: orders}}\nrules: [{}]")
        assert imported(text, labels={"app": "orders"}).decide(WEB, "GET", "/").allowed
        assert not imported(text, labels={"app": "web"}).decide(WEB, "GET", "/").allowed

    def test_conditions(self):
        """Headers, claims and addresses."""
        rules = """
            rules:
              - when:
                  - {key: "request.headers[X-Env]", values: [prod]}
                  - {key: "request.auth.claims[role][name]", values: [admin], notValues: [guest]}
                  - {key: source.ip, notValues: [10.0.0.0/8]}
            """
        policies = imported(manifest(rules))
        good = {"headers": [(b"x-env", b"prod")], "user": {"role": {"name": "admin"}}}
        assert policies.decide(WEB, "GET", "/", RequestDetails(source="9.9.9.9", **good)).allowed
        assert not policies.decide(
            WEB, "GET", "/", RequestDetails(source="10.0.0.1", **good)
        ).allowed

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (manifest("rules: [{}]", action="CUSTOM"), "ALLOW or DENY"),
            (manifest("rules: [{}]", action="AUDIT"), "ALLOW or DENY"),
            (manifest("rules: [{}]\nprovider: {name: x}"), "unknown field 'provider'"),
            (manifest("rules: [{}]\ntargetRefs: []"), "unknown field 'targetRefs'"),
            (manifest("selector: {matchLabels: {a: b}}\nrules: [{}]"), "labels of the workload"),
            (manifest(source("{principals: ['*/sa/web']}")), "whole last part"),
            (manifest(source("{principals: ['example.org/ns/shop*']}")), "whole last part"),
            (manifest(source("{namespaces: ['shop-*']}")), "wildcard inside"),
            (manifest(source("{principals: [a/b], namespaces: [x]}")), "together with"),
            (manifest(source("{remoteIpBlocks: [10.0.0.0/8]}")), "unknown field 'remoteIpBlocks'"),
            (manifest(source("{requestPrincipals: ['a/*']}")), "part wildcard"),
            (manifest(source("{notRequestPrincipals: ['*']}")), "unknown field"),
            (manifest(operation("{paths: ['*.js']}")), "whole last part"),
            (manifest(operation("{paths: ['/a*']}")), "whole last part"),
            (manifest(operation("{methods: ['G*']}")), "a wildcard"),
            (manifest(operation("{hosts: ['a.*']}")), "first label"),
            (manifest(operation("{hosts: ['a.org:80']}")), "a port"),
            (manifest("rules: [{when: [{key: connection.sni, values: [a]}]}]"), "no counterpart"),
            (manifest("rules: [{when: [{key: 'request.headers[te]', values: [a]}]}]"), "header"),
            ("apiVersion: v1\nkind: Pod\n", "kind AuthorizationPolicy"),
            ("kind: [", "expected YAML"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_carried_over_is_an_error(self, text, message):
        """Never dropped."""
        with pytest.raises(PolicyError) as caught:
            imported(text)
        assert message in str(caught.value)
