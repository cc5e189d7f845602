# SPDX-License-Identifier: Apache-2.0
"""An explanation says the same as the decision, and why."""

from __future__ import annotations

from hypothesis import given, settings

from kubetls_sdk.authz import PolicySet, RequestDetails
from kubetls_sdk.authz.explanation import explain
from kubetls_sdk.authz.model import Mode
from tests.sdk.authz.policies import BILLING, WEB, parse, rules
from tests.sdk.authz.test_properties import _policies, _requests, _rule_lists


class TestExplain:
    @given(_rule_lists, _requests)
    @settings(max_examples=100)
    def test_agrees_with_decide(self, rule_list, request):
        """The rules that match are those that decide, for every request."""
        policies = PolicySet(_policies(rule_list))
        explained = explain(policies, *request)
        decision = policies.decide(*request)
        assert explained.is_allowed is decision.allowed
        assert explained.decision == decision
        if decision.rule is not None:
            deciding = (decision.policy, decision.rule)
            assert deciding in {(v.policy, v.rule) for v in explained.verdicts if v.is_match}

    def test_says_what_is_missing(self):
        """Caller, method, path and each condition."""
        text = rules(
            allow="""
            - {name: r, from: {namespace: shop}, to: {methods: GET, paths: "/a/{x}"},
               when: ["user.sub present", "path.x == user.sub"]}
            """
        )
        policies = parse(text)
        assert explain(policies, BILLING, "POST", "/b").verdicts[0].misses == (
            "caller: expected spiffe://example.org/ns/shop/sa/*, got "
            "spiffe://example.org/ns/finance/sa/billing",
            "method: expected GET, HEAD, got POST",
            "path: expected /a/*, got /b",
        )
        known = RequestDetails(user={"sub": "bob"})
        assert explain(policies, WEB, "GET", "/a/1", known).verdicts[0].misses == (
            "condition: expected path.x == user.sub",
        )
        assert explain(policies, WEB, "GET", "/a/bob", known).verdicts[0].is_match

    def test_never_quotes_claims(self):
        """An explanation may be shown; claims may not."""
        text = rules(
            allow="- {name: r, from: {namespace: shop}, to: {paths: /**}, when: user.a == 1}"
        )
        explained = explain(parse(text), WEB, "GET", "/", RequestDetails(user={"a": "s3cret"}))
        assert "s3cret" not in str(explained)

    def test_shadow_rules_are_marked(self):
        """They match, and do not count."""
        text = rules(mode="shadow", allow="- {name: r, from: {namespace: shop}, to: {paths: /**}}")
        explained = explain(parse(text), WEB, "GET", "/")
        assert explained.verdicts[0].is_match
        assert explained.verdicts[0].mode is Mode.SHADOW
        assert explained.is_allowed is explained.decision.allowed is False
