# SPDX-License-Identifier: Apache-2.0
"""Warnings: what is valid and probably not meant."""

from __future__ import annotations

import pytest

from kubetls_sdk.authz.lint import lint
from kubetls_sdk.exceptions import PolicyError
from tests.sdk.authz.policies import parse, rules

NARROW = "- {name: n, from: {namespace: shop}, to: {methods: GET, paths: '/a/{x}'}}"


class TestLint:
    @pytest.mark.parametrize(
        ("allow", "deny", "expected"),
        [
            pytest.param(NARROW, "", [], id="nothing"),
            pytest.param(
                "- {name: w, from: {trustDomain: '*', namespace: a}, to: {paths: /a}}", "",
                [("too-wide", "w")], id="every-domain",
            ),
            pytest.param(
                "- {name: w, from: {trustDomain: example.org}, to: {paths: /**}}", "",
                [("too-wide", "w")], id="whole-domain",
            ),
            pytest.param(
                "- {name: w, from: {anonymous: true}, to: {paths: /**}}", "",
                [("too-wide", "w")], id="anonymous",
            ),
            pytest.param(
                f"{NARROW}\n- {{name: w, from: {{namespace: shop}}, to: {{paths: /a/**}}}}", "",
                [("shadowed", "n")], id="shadowed-allow",
            ),
            pytest.param(
                f"{NARROW}\n- {{name: w, from: {{namespace: shop}}, to: {{paths: /a/**}}, "
                "when: user.sub present}", "", [], id="a-conditional-rule-shadows-nothing",
            ),
            pytest.param(
                NARROW, "- {name: d, to: {paths: /a/secret}}\n- {name: e, to: {paths: /a/secret/}}",
                [("shadowed", "e"), ("ineffective-deny", "e")], id="shadowed-deny",
            ),
            pytest.param(
                NARROW, "- {name: d, to: {methods: POST}}", [("ineffective-deny", "d")], id="method"
            ),
            pytest.param(
                NARROW, "- {name: d, from: {namespace: x}, to: {paths: /a/b}}",
                [("ineffective-deny", "d")], id="other-caller",
            ),
            pytest.param(NARROW, "- {name: d, to: {paths: /*/b}}", [], id="overlap"),
            pytest.param(
                NARROW, "- {name: d, to: {methods: [DELTE, GTE], paths: '/**'}}",
                [("ineffective-deny", "d"), ("unknown-method", "d")], id="method-misspelt",
            ),
            pytest.param(
                "- {name: w, from: {namespace: shop}, to: {methods: [PURGE, REPORT, PATCH]}}", "",
                [], id="methods-of-one's-own",
            ),
            pytest.param(
                "- {name: w, from: {namespace: shop}, to: {grpc: shop.Orders/*}}", "", [], id="grpc"
            ),
            pytest.param(
                "- {name: w, from: {namespace: shop}, to: {websocket: true, paths: /chat}}", "",
                [], id="websocket",
            ),
        ],
    )  # fmt: skip
    def test_findings(self, allow, deny, expected):
        """Each with code and rule."""
        found = lint(parse(rules(allow=allow, deny=deny)))
        assert {(each.code, each.rule) for each in found} == set(expected)


class TestUnreachable:
    @pytest.mark.parametrize(
        "deny",
        [
            "- {name: d}",
            "- {name: d, from: {namespace: shop}}",
            "- {name: d, from: {namespace: '*'}, to: {methods: [GET, HEAD], paths: /a/**}}",
            "- {name: d, from: {spiffeId: 'spiffe://example.org/**'}, to: {paths: '/{y}/*'}}",
        ],
    )
    def test_an_allow_rule_that_is_always_denied_is_an_error(self, deny):
        """With file, line and rule."""
        with pytest.raises(PolicyError, match=r"policy\.yaml:6: rule 'n': unreachable: .* p/d"):
            parse(rules(allow=NARROW, deny=deny))

    @pytest.mark.parametrize(
        "deny",
        [
            "- {name: d, when: user.sub absent}",
            "- {name: d, from: {notNamespace: shop}}",
            "- {name: d, to: {methods: GET, hosts: a.org}}",
            "- {name: d, to: {methods: HEAD}}",
            "- {name: d, to: {paths: /a/b}}",
            "- {name: d, from: {namespace: shop, serviceAccount: web}}",
            "- {name: d, from: {anonymous: true}}",
        ],
    )
    def test_what_leaves_something_is_fine(self, deny):
        """No false alarm."""
        parse(rules(allow=NARROW, deny=deny))

    def test_a_shadow_deny_covers_nothing(self):
        """It does not count yet."""
        text = rules(allow=NARROW) + "  - {name: s, mode: shadow, deny: [{name: d}]}\n"
        parse(text)
