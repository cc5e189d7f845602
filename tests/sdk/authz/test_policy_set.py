# SPDX-License-Identifier: Apache-2.0
"""Who may do what: each sentence of the semantics as a table of cases."""

from __future__ import annotations

import pytest

from kubetls_sdk.authz import ACTION, GRPC, WEBSOCKET, Kind, PolicySet, RequestDetails
from kubetls_sdk.authz.model import Effect, Identity, Policy, Rule
from kubetls_sdk.authz.operation import ANYTHING
from kubetls_sdk.exceptions import PolicyError
from kubetls_sdk.spiffe_id import SpiffeId
from tests.sdk.authz.policies import BILLING, ODD, PARTNER, WEB, parse, rules, workload

ALL = "{paths: /**}"
SHOP = "{namespace: shop}"


def allow(identity: str = SHOP, operation: str = ALL, when: str = "", deny: str = "") -> PolicySet:
    extra = f", when: {when}" if when else ""
    item = f"- {{name: r, from: {identity}, to: {operation}{extra}}}"
    return parse(rules(allow=item, deny=deny))


class TestDefaults:
    def test_no_policy_denies(self):
        """Nothing configured means nothing allowed."""
        decision = PolicySet.deny_all().decide(WEB, "GET", "/")
        assert (decision.allowed, decision.kind) == (False, Kind.NO_POLICY)
        assert decision.needed == ("a policy",)

    def test_a_policy_without_rules_denies(self):
        """So does an empty policy."""
        assert parse(rules()).decide(WEB, "GET", "/").kind is Kind.NO_POLICY

    def test_a_caller_that_no_rule_names_is_denied(self):
        """And the decision says which step refused."""
        assert allow().decide(BILLING, "GET", "/").kind is Kind.NO_RULE_FOR_CALLER

    def test_an_operation_that_no_rule_names_is_denied(self):
        """And the decision says which step refused."""
        policies = allow(operation="{methods: GET, paths: /a}")
        assert policies.decide(WEB, "GET", "/b").kind is Kind.NO_RULE_FOR_OPERATION
        assert policies.decide(WEB, "POST", "/a").kind is Kind.NO_RULE_FOR_OPERATION

    def test_an_allowing_decision_names_policy_and_rule(self):
        """For the audit record."""
        decision = allow().decide(WEB, "GET", "/")
        assert (decision.allowed, decision.kind) == (True, Kind.ALLOWED)
        assert (decision.policy, decision.rule) == ("p", "r")
        assert decision.reason == "rule 'r' of policy 'p' allows"

    def test_an_allow_rule_for_nobody_cannot_be_made_in_python(self):
        """The Python API closes the same door as the parser."""
        rule = Rule("r", Effect.ALLOW, (Identity(),), (ANYTHING,))
        with pytest.raises(PolicyError, match="say whom"):
            PolicySet([Policy("p", (rule,))])

    def test_what_was_decided_does_not_depend_on_what_was_asked_before(self):
        """The cache of callers changes nothing."""
        policies = allow(operation="{methods: GET, paths: '/a/{id}'}")
        for _ in range(3):
            assert policies.decide(WEB, "GET", "/a/1").allowed
            assert not policies.decide(PARTNER, "GET", "/a/1").allowed
            assert not policies.decide(None, "GET", "/a/1").allowed
            assert not policies.decide(WEB, "POST", "/a/1").allowed

    def test_the_cache_of_callers_is_bounded(self):
        """Many callers do not make it grow for ever."""
        policies = allow(identity="{trustDomain: example.org}")
        for index in range(9000):
            assert policies.decide(workload("n", f"a{index}"), "GET", "/").allowed
        cached = policies._enforced._callers["example.org"]
        assert len(cached) <= 8192

    def test_many_rules_for_one_caller(self):
        """Compiled when loaded; each is found, and the others do not get in its way."""
        items = [
            f"- {{name: r{index}, from: {SHOP}, to: {{methods: GET, paths: '/s{index}/{{x}}'}}}}"
            for index in range(100)
        ]
        policies = parse(rules(allow="\n".join(items)))
        for index in range(100):
            assert policies.decide(WEB, "GET", f"/s{index}/a").rule == f"r{index}"
            assert not policies.decide(WEB, "GET", f"/s{index}").allowed

    def test_odd_paths_get_the_same_answer_again(self):
        """The remembered way knows empty segments and stars in requests for what they are."""
        policies = allow(operation="{methods: GET, paths: ['/a/{x}', '/b/{x}/c']}")
        asked = ["/a/*", "/a/", "/a//", "//a", "/a", "", "/b//c", "/b/*/c", "/b/x/c/", "a/x"]
        expected = {"/a/*", "/b/*/c"}
        for _ in range(3):
            assert {p for p in asked if policies.decide(WEB, "GET", p).allowed} == expected

    def test_paths_and_odd_methods_are_not_remembered(self):
        """What an attacker chooses takes no memory."""
        policies = allow()
        for index in range(100):
            policies.decide(WEB, "X" * (index + 1), f"/{index}")
        assert set(policies._enforced._callers.get("example.org", {}).get(WEB.path, {})) <= {"GET"}


class TestDeny:
    def test_deny_overrides_allow(self):
        """Whatever the order."""
        policies = allow(deny="- {name: d, from: {serviceAccount: web}, to: {methods: POST}}")
        decision = policies.decide(WEB, "POST", "/")
        assert (decision.kind, decision.rule) == (Kind.DENIED, "d")
        assert policies.decide(WEB, "GET", "/").allowed

    @pytest.mark.parametrize("caller", [None, WEB, BILLING, PARTNER, ODD])
    def test_deny_without_from_means_everyone(self, caller):
        """The anonymous caller included."""
        policies = parse(rules(deny="- {name: d, to: {paths: /admin/**}}"))
        assert policies.decide(caller, "GET", "/admin/x").kind is Kind.DENIED

    @pytest.mark.parametrize("method", ["GET", "PURGE", WEBSOCKET, GRPC, ACTION])
    def test_deny_without_to_means_everything(self, method):
        """Pseudo-methods included."""
        policies = parse(rules(deny="- {name: d, from: {namespace: shop}}"))
        assert policies.decide(WEB, method, "/any/thing").kind is Kind.DENIED

    @pytest.mark.parametrize("method", ["GET", "HEAD", WEBSOCKET])
    def test_deny_get_covers_head_and_websocket(self, method):
        """Both are answered by what GET reaches."""
        policies = parse(rules(deny="- {name: d, to: {methods: GET, paths: /a}}"))
        assert policies.decide(WEB, method, "/a").kind is Kind.DENIED

    def test_deny_post_covers_grpc(self):
        """A gRPC call is a POST; an allow rule for POST opens none."""
        policies = parse(
            rules(
                allow="- {name: r, from: {namespace: shop}, to: [{grpc: a.B/*}, {methods: PUT}]}",
                deny="- {name: d, to: {methods: POST, paths: /a.B/Stop}}",
            )
        )
        assert policies.decide(WEB, GRPC, "/a.B/Stop").rule == "d"
        assert policies.decide(WEB, GRPC, "/a.B/Start").allowed
        post = allow(operation="{methods: POST}")
        assert not post.decide(WEB, GRPC, "/a.B/Start").allowed

    def test_deny_covers_the_trailing_slash(self):
        """Some frameworks serve `/admin/` as `/admin`."""
        policies = allow(deny="- {name: d, to: {paths: [/admin, '/x/{id}']}}")
        assert policies.decide(WEB, "GET", "/admin/").kind is Kind.DENIED
        assert policies.decide(WEB, "GET", "/x/1/").kind is Kind.DENIED
        assert policies.decide(WEB, "GET", "/admin/x").allowed

    def test_deny_over_a_missing_attribute_matches(self):
        """A negative condition that cannot be decided closes."""
        policies = allow(deny="""- {name: d, when: "user.mfa != true"}""")
        assert policies.decide(WEB, "GET", "/").kind is Kind.DENIED
        known = RequestDetails(user={"mfa": True})
        assert policies.decide(WEB, "GET", "/", known).allowed

    @pytest.mark.parametrize("caller", [None, BILLING, PARTNER, ODD])
    def test_deny_with_negative_identity_spares_only_whom_it_names(self, caller):
        """No certificate, no namespace, another domain's namespace of that name: all denied."""
        policies = parse(
            rules(
                allow="- {name: r, from: [{trustDomain: '*'}, {anonymous: true}], "
                "to: {paths: /**}}",
                deny="- {name: d, from: {notNamespace: shop}}",
            )
        )
        assert policies.decide(caller, "GET", "/").kind is Kind.DENIED
        assert policies.decide(WEB, "GET", "/").allowed


class TestIdentities:
    @pytest.mark.parametrize(
        ("identity", "allowed"),
        [
            pytest.param("{namespace: shop}", {WEB}, id="namespace-of-own-domain"),
            pytest.param("{serviceAccount: web}", {WEB}, id="account-of-own-domain"),
            pytest.param("{namespace: shop, trustDomain: partner.example}", {PARTNER}, id="domain"),
            pytest.param(
                "{namespace: shop, trustDomain: [example.org, partner.example]}",
                {WEB, PARTNER},
                id="domains",
            ),
            pytest.param("{namespace: shop, trustDomain: '*'}", {WEB, PARTNER}, id="all-domains"),
            pytest.param("{namespace: [shop, finance]}", {WEB, BILLING}, id="list"),
            pytest.param("{namespace: '*'}", {WEB, BILLING}, id="any-namespace"),
            pytest.param("{trustDomain: example.org}", {WEB, BILLING, ODD}, id="whole-domain"),
            pytest.param("{spiffeId: 'spiffe://example.org/ns/shop/sa/web'}", {WEB}, id="exact"),
            pytest.param("{spiffeId: 'spiffe://example.org/ns/*/sa/web'}", {WEB}, id="one-segment"),
            pytest.param("{spiffeId: 'spiffe://example.org/ns/**'}", {WEB, BILLING}, id="rest"),
            pytest.param("{spiffeId: 'spiffe://example.org/batch/nightly/**'}", set(), id="rest-1"),
            pytest.param(
                "{trustDomain: example.org, notNamespace: finance}", {WEB}, id="missing-namespace"
            ),
            pytest.param(
                "{trustDomain: '*', notTrustDomain: partner.example}",
                {WEB, BILLING, ODD},
                id="notTD",
            ),
            pytest.param("{namespace: '*', notServiceAccount: web}", {BILLING}, id="not-account"),
            pytest.param(
                "{trustDomain: example.org, notSpiffeId: 'spiffe://example.org/batch/**'}",
                {WEB, BILLING},
                id="not-id",
            ),
            pytest.param("{anonymous: true}", {None}, id="anonymous"),
            pytest.param(f"[{SHOP}, {{anonymous: true}}]", {WEB, None}, id="or"),
        ],
    )
    def test_from(self, identity, allowed):
        """Exactly those callers are allowed."""
        policies = allow(identity=identity)
        callers = {WEB, BILLING, PARTNER, ODD, None}
        assert {c for c in callers if policies.decide(c, "GET", "/x").allowed} == allowed

    @pytest.mark.parametrize(
        "caller",
        [
            "spiffe://example.org/ns/shop/sa/web/x",
            "spiffe://example.org/x/ns/shop/sa/web",
            "spiffe://example.org/ns/shop/sa/webX",
            "spiffe://example.org/ns/shop/sa/WEB",
            "spiffe://example.org",
        ],
    )
    def test_an_identity_is_matched_as_a_whole(self, caller):
        """Nothing before, after or beside."""
        policies = allow(identity="{namespace: shop, serviceAccount: web}")
        assert not policies.decide(SpiffeId.parse(caller), "GET", "/").allowed

    def test_dots_are_not_wildcards(self):
        """CVE-2026-39350: `cert-manager.io` is not `cert-managerXio`."""
        policies = allow(identity="{namespace: cert-manager.io}")
        assert policies.decide(workload("cert-manager.io", "a"), "GET", "/").allowed
        assert not policies.decide(workload("cert-managerXio", "a"), "GET", "/").allowed


class TestOperations:
    @pytest.mark.parametrize(
        ("operation", "allowed"),
        [
            pytest.param("{methods: GET, paths: /a}", {"GET /a", "HEAD /a"}, id="get-covers-head"),
            pytest.param("{methods: HEAD, paths: /a}", {"HEAD /a"}, id="head-alone"),
            pytest.param("{paths: /a}", {"GET /a", "HEAD /a", "POST /a"}, id="any-http-method"),
            pytest.param(
                "{methods: POST}", {"POST /a", "POST /a/b", "POST /s.V1/Get"}, id="any-path"
            ),
            pytest.param(
                "{methods: GET, paths: '/a/{x}'}", {"GET /a/b", "GET /a/*"}, id="one-segment"
            ),
            pytest.param("{methods: GET, paths: /a/*}", {"GET /a/b", "GET /a/*"}, id="star"),
            pytest.param(
                "{methods: GET, paths: /a/**}",
                {"GET /a", "HEAD /a", "GET /a/", "GET /a/b", "GET /a/*", "GET /a/b/c"},
                id="rest",
            ),
            pytest.param("{methods: GET, paths: /a/}", {"GET /a/"}, id="trailing-slash"),
            pytest.param("{websocket: true, paths: /a}", {"websocket /a"}, id="websocket"),
            pytest.param("{websocket: true, methods: POST, paths: /a}",
                         {"websocket /a", "POST /a"}, id="websocket-and-method"),
            pytest.param("{grpc: s.V1/Get}", {"grpc /s.V1/Get"}, id="grpc-method"),
            pytest.param("{grpc: s.V1/*}", {"grpc /s.V1/Get", "grpc /s.V1/Put"}, id="grpc-service"),
            pytest.param("{paths: /a/**, notMethods: [GET, POST], notPaths: /a/**/x}", None,
                         id="misplaced"),
            pytest.param("{paths: /a, notMethods: GET}", {"POST /a"}, id="not-get-not-head"),
            pytest.param("{methods: GET, paths: /a/**, notPaths: [/a, '/a/{x}']}",
                         {"GET /a/b/c"}, id="not-paths-with-slash"),
        ],
    )  # fmt: skip
    def test_to(self, operation, allowed):
        """Exactly those operations are allowed."""
        if allowed is None:
            with pytest.raises(PolicyError):
                allow(operation=operation)
            return
        policies = allow(operation=operation)
        asked = [
            "GET /a", "HEAD /a", "POST /a", "GET /a/", "GET /a/b", "GET /a/*", "GET /a/b/c",
            "POST /a/b", "GET /A", "websocket /a", "grpc /s.V1/Get", "grpc /s.V1/Put",
            "POST /s.V1/Get",
        ]  # fmt: skip
        found = {each for each in asked if policies.decide(WEB, *each.split(" ")).allowed}
        assert found == allowed

    def test_literals_do_not_hide_wildcards(self):
        """A deny on `/a/{x}` counts for `/a/b` although another rule spells that out."""
        policies = allow(
            operation="{paths: [/a/b, /a/b/c, /**]}",
            deny="- {name: d, to: {paths: ['/a/{x}', '/{y}/b/c']}}",
        )
        assert policies.decide(WEB, "GET", "/a/b").kind is Kind.DENIED
        assert policies.decide(WEB, "GET", "/a/b/c").kind is Kind.DENIED
        assert policies.decide(WEB, "GET", "/a").allowed

    @pytest.mark.parametrize(
        ("host", "allowed"),
        [
            ("shop.example.org", True),
            ("SHOP.Example.ORG", True),
            ("shop.example.org:8443", True),
            ("shop.example.org.", True),
            ("a.sub.example.org", True),
            ("sub.example.org", False),
            ("shop.example.org.evil.test", False),
            ("", False),
            (None, False),
        ],
    )
    def test_hosts(self, host, allowed):
        """CVE-2021-39155: without case, port apart; a missing host matches nothing."""
        policies = allow(operation="{hosts: [Shop.example.org, '*.sub.example.org']}")
        assert policies.decide(WEB, "GET", "/", RequestDetails(host=host)).allowed is allowed

    def test_ports(self):
        """The port is the one of the connection, not the one in Host."""
        policies = allow(operation="{ports: 8443}")
        claimed = RequestDetails(host="a:8443", port=80)
        assert policies.decide(WEB, "GET", "/", RequestDetails(port=8443)).allowed
        assert not policies.decide(WEB, "GET", "/", claimed).allowed
        assert not policies.decide(WEB, "GET", "/").allowed

    @pytest.mark.parametrize(
        "host", ["a.example:1:2", "a.example:x", "u@a.example", "a.example/", "[a"]
    )
    def test_malformed_host_is_unknown(self, host):
        """No allow rule holds for it, and every deny rule for any host does."""
        details = RequestDetails(host=host)
        for operation in ("{hosts: a.example}", "{notHosts: b.example}", "{hosts: '*.example'}"):
            assert not allow(operation=operation).decide(WEB, "GET", "/", details).allowed
        text = rules(
            allow="- {name: a, from: {namespace: shop}, to: {paths: /**}}",
            deny="- {name: d, to: {hosts: a.example}}",
        )
        assert parse(text).decide(WEB, "GET", "/", details).rule == "d"

    def test_deny_by_missing_host_matches_when_negative(self):
        """`notHosts` in a deny rule closes when there is no host."""
        policies = allow(deny="- {name: d, to: {notHosts: a.example.org}}")
        assert policies.decide(WEB, "GET", "/").kind is Kind.DENIED
        assert policies.decide(WEB, "GET", "/", RequestDetails(host="A.example.org:1")).allowed


class TestConditions:
    def test_path_variables_compare_with_claims(self):
        """Resource level: a user reads only his own."""
        policies = allow(operation="{paths: '/users/{user}'}", when="path.user == user.sub")
        bob = RequestDetails(user={"sub": "bob"})
        assert policies.decide(WEB, "GET", "/users/bob", bob).allowed
        assert policies.decide(WEB, "GET", "/users/eve", bob).kind is Kind.CONDITION_UNMET

    def test_variables_belong_to_their_template(self):
        """The same name at different places of two templates."""
        policies = allow(operation="{paths: ['/u/{x}', '/a/b/{x}']}", when="path.x == 'me'")
        assert policies.decide(WEB, "GET", "/u/me").allowed
        assert policies.decide(WEB, "GET", "/a/b/me").allowed
        assert not policies.decide(WEB, "GET", "/a/me/b").allowed

    def test_without_a_user_the_decision_says_so(self):
        """An edge answers 401, not 403."""
        decision = allow(when="user.role == 'admin'").decide(WEB, "GET", "/")
        assert decision.kind is Kind.USER_REQUIRED
        assert decision.needed == ("user.role == 'admin'",)

    def test_all_conditions_are_needed(self):
        """`when` is a conjunction; what failed is named."""
        policies = allow(when='["user.a == 1", "user.b == 2"]')
        details = RequestDetails(user={"a": 1})
        assert policies.decide(WEB, "GET", "/", details).needed == ("user.b == 2",)

    def test_details_are_untouched_without_conditions(self):
        """A server may compute them lazily."""
        assert allow().decide(WEB, "GET", "/", object()).allowed


class TestAuthorize:
    POLICY = """
        - name: owners
          from: {namespace: shop}
          to: {actions: [read, write], resources: order}
          when: resource.owner == user.sub
        - {name: web, from: {namespace: shop}, to: {paths: /**}}
        """

    @pytest.mark.parametrize(
        ("user", "action", "resource", "allowed"),
        [
            ({"sub": "bob"}, "read", "order", True),
            ({"sub": "eve"}, "read", "order", False),
            (None, "read", "order", False),
            ({"sub": "bob"}, "delete", "order", False),
            ({"sub": "bob"}, "read", "invoice", False),
            ({"sub": "bob"}, "read/x", "order", False),
        ],
    )
    def test_decides_about_the_applications_own_resources(self, user, action, resource, allowed):
        """By caller, user, action and the resource's attributes; HTTP rules do not count."""
        policies = parse(rules(allow=self.POLICY))
        decision = policies.authorize(
            user, action, resource, caller=WEB, attributes={"owner": "bob"}
        )
        assert decision.allowed is allowed


class TestShadow:
    def test_a_shadow_deny_only_reports(self):
        """What would be decided stands beside what is decided."""
        text = rules(allow="- {name: r, from: {namespace: shop}, to: {paths: /**}}")
        text += "  - {name: trial, mode: shadow, deny: [{name: d, to: {methods: POST}}]}\n"
        policies = parse(text)
        decision = policies.decide(WEB, "POST", "/")
        assert decision.allowed
        assert (decision.shadow.allowed, decision.shadow.policy) == (False, "trial")
        assert policies.decide(WEB, "GET", "/").shadow is None

    def test_a_shadow_allow_never_relaxes(self):
        """It allows nothing, and says that it would."""
        text = rules(mode="shadow", allow="- {name: r, from: {namespace: shop}, to: {paths: /**}}")
        decision = parse(text).decide(WEB, "GET", "/")
        assert not decision.allowed
        assert decision.shadow.allowed
