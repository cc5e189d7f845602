# SPDX-License-Identifier: Apache-2.0
"""The YAML format: what is refused, where the error points, and what YAML may not change."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import PolicyError
from tests.sdk.authz.policies import OWN, WEB, parse, rules, workload

GOOD = "- {name: a, from: {namespace: shop}, to: {paths: /a}}"
FROM = "from: {namespace: shop}"
TO = "to: {paths: /a}"


def allowing(item: str) -> str:
    return rules(allow=f"- {{name: r, {item}}}")


def denying(item: str) -> str:
    return rules(deny=f"- {{name: r, {item}}}")


BAD_RULES = [
    pytest.param(allowing(f"{TO}"), "expected 'from'", id="allow-without-from"),
    pytest.param(allowing(f"{FROM}"), "expected 'to'", id="allow-without-to"),
    pytest.param(allowing(f"{FROM}, {TO}, host: x"), "unknown field 'host'", id="unknown-field"),
    pytest.param(
        allowing(f"from: {{namespaces: x}}, {TO}"), "unknown", id="unknown-identity-field"
    ),
    pytest.param(allowing(f"{FROM}, to: {{path: /a}}"), "unknown", id="unknown-operation-field"),
    pytest.param(
        allowing(f"from: {{notNamespace: x}}, {TO}"), "only negative", id="allow-only-negative"
    ),
    pytest.param(
        allowing(f"from: {{anonymous: true, namespace: x}}, {TO}"),
        "nothing beside",
        id="anonymous+",
    ),
    pytest.param(allowing(f"from: {{anonymous: yes}}, {TO}"), "true or false", id="yaml-yes"),
    pytest.param(allowing(f"from: {{anonymous: on}}, {TO}"), "true or false", id="yaml-on"),
    pytest.param(allowing(f"from: {{anonymous: 'true'}}, {TO}"), "true or false", id="quoted-true"),
    pytest.param(allowing(f"from: {{anonymous: false}}, {TO}"), "or absent", id="anonymous-false"),
    pytest.param(allowing(f"from: {{}}, {TO}"), "got none", id="empty-identity"),
    pytest.param(allowing(f"from: [], {TO}"), "at least one", id="empty-from"),
    pytest.param(allowing(f"from: {{namespace: []}}, {TO}"), "at least one", id="empty-list"),
    pytest.param(allowing(f"from: {{namespace: }}, {TO}"), "have a value", id="null"),
    pytest.param(allowing(f"from: {{namespace: ~}}, {TO}"), "have a value", id="tilde"),
    pytest.param(allowing(f"from: {{namespace: ''}}, {TO}"), "non-empty", id="empty-text"),
    pytest.param(allowing(f"from: {{namespace: [a, a]}}, {TO}"), "once", id="value-twice"),
    pytest.param(allowing(f"from: {{namespace: a/b}}, {TO}"), "expected letters", id="slash"),
    pytest.param(allowing(f"from: {{namespace: web-*}}, {TO}"), "expected letters", id="part-star"),
    pytest.param(
        allowing(f"from: {{spiffeId: 'spiffe://*/ns/a'}}, {TO}"), "spiffeId", id="star-domain"
    ),
    pytest.param(
        allowing(f"from: {{spiffeId: 'spiffe://Example.org/a'}}, {TO}"), "a-z", id="upper-domain"
    ),
    pytest.param(
        allowing(f"from: {{spiffeId: 'spiffe://a/b', namespace: x}}, {TO}"), "either", id="both-ids"
    ),
    pytest.param(
        allowing(f"from: {{namespace: x, notNamespace: x}}, {TO}"), "contradictory", id="ns-not-ns"
    ),
    pytest.param(allowing(f"{FROM}, to: {{methods: get}}"), "upper case", id="lower-method"),
    pytest.param(allowing(f"{FROM}, to: {{methods: GET, grpc: a.B/C}}"), "different", id="mix"),
    pytest.param(allowing(f"{FROM}, to: {{paths: a}}"), "starts with '/'", id="relative-path"),
    pytest.param(allowing(f"{FROM}, to: {{paths: /a//b}}"), "empty or dot", id="double-slash"),
    pytest.param(allowing(f"{FROM}, to: {{paths: /a/../b}}"), "empty or dot", id="dot-segment"),
    pytest.param(
        allowing(f"{FROM}, to: {{paths: /a/**/b}}"), "'**' only at", id="star-star-inside"
    ),
    pytest.param(allowing(f"{FROM}, to: {{paths: /a*}}"), "whole segments", id="part-star-path"),
    pytest.param(allowing(f"{FROM}, to: {{paths: '/{{id}}.json'}}"), "whole", id="part-variable"),
    pytest.param(allowing(f"{FROM}, to: {{paths: '/{{a}}/{{a}}'}}"), "once", id="variable-twice"),
    pytest.param(allowing(f"{FROM}, to: {{paths: /a%20b}}"), "whole", id="encoded-path"),
    pytest.param(allowing(f"{FROM}, to: {{ports: 0443}}"), "port from", id="octal-port"),
    pytest.param(allowing(f"{FROM}, to: {{ports: 1_000}}"), "port from", id="underscore-port"),
    pytest.param(allowing(f"{FROM}, to: {{ports: 65536}}"), "port from", id="large-port"),
    pytest.param(allowing(f"{FROM}, to: {{hosts: 'a.org:443'}}"), "without port", id="host-port"),
    pytest.param(allowing(f"{FROM}, to: {{grpc: Orders}}"), "Service/Method", id="grpc-no-method"),
    pytest.param(
        allowing(f"{FROM}, to: {{actions: read}}"), "expected resources", id="no-resource"
    ),
    pytest.param(
        allowing(f"{FROM}, to: {{methods: GET, notMethods: GET}}"), "contradictory", id="no-method"
    ),
    pytest.param(
        allowing(f"{FROM}, to: {{paths: /a/b, notPaths: /a/**}}"), "contradictory", id="no-path"
    ),
    pytest.param(
        allowing(f"{FROM}, {TO}, when: 'user.a ='"), "attribute operator", id="no-operator"
    ),
    pytest.param(
        allowing(f"{FROM}, {TO}, when: 'path.id present'"), "every path", id="no-variable"
    ),
    pytest.param(
        allowing(f"{FROM}, {TO}, when: [\"user.a == 'x'\", \"user.a == 'y'\"]"),
        "contradictory",
        id="two-values",
    ),
    pytest.param(denying("to: {websocket: false}"), "or absent", id="websocket-false"),
    pytest.param(rules(allow=f"{GOOD}\n{GOOD}"), "each rule name once", id="rule-name-twice"),
    pytest.param(
        rules(allow=GOOD, deny="- {name: all}"),
        "unreachable: the deny rule p/all",
        id="unreachable",
    ),
]

BAD_FILES = [
    pytest.param("", "empty file", id="empty"),
    pytest.param("# only\n", "empty file", id="comment-only"),
    pytest.param("policies: []\n", "version: 1", id="no-version"),
    pytest.param("version: 2\npolicies: []\n", "expected version 1", id="unknown-version"),
    pytest.param("version: 1.0\npolicies: []\n", "expected version 1", id="float-version"),
    pytest.param("version: 1\nrules: []\n", "unknown field 'rules'", id="unknown-top-field"),
    pytest.param("version: 1\nversion: 1\n", "each key once", id="duplicate-key"),
    pytest.param("[]\n", "expected a mapping", id="list"),
    pytest.param("version: 1\n---\nversion: 1\n", "one YAML document", id="two-documents"),
    pytest.param("version: 1\npolicies: [a]\n", "expected a mapping", id="policy-text"),
    pytest.param("version: 1\npolicies:\n  - mode: enforce\n", "expected a name", id="no-name"),
    pytest.param("version: 1\npolicies: [{name: a, mode: off}]\n", "enforce or shadow", id="off"),
    pytest.param("version: 1\npolicies: [{name: 'a b'}]\n", "policy name of", id="odd-name"),
    pytest.param("version: 1\npolicies: [{name: a}, {name: a}]\n", "once", id="policy-twice"),
    pytest.param("version: !!int 1\n", "no YAML tag", id="tag"),
    pytest.param("version: !!python/object:os.system 1\n", "no YAML tag", id="python-tag"),
    pytest.param("version: 1\npolicies: [{name: a, <<: {mode: shadow}}]\n", "unknown", id="merge"),
    pytest.param("version: *x\n", "an anchor before", id="unknown-alias"),
    pytest.param("version: [1\n", "expected YAML", id="syntax"),
    pytest.param("version: \x00\n", "expected YAML", id="nul"),
    pytest.param("version: 1\npolicies: " + "[" * 5000, "expected", id="deep-flow"),
    pytest.param("version: " + "- " * 5000 + "1", "expected", id="deep-block"),
]


class TestErrors:
    @pytest.mark.parametrize(("text", "message"), BAD_RULES)
    def test_rule_errors_name_file_line_and_rule(self, text, message):
        """Each mistake in a rule is an error that says where and what."""
        with pytest.raises(PolicyError) as caught:
            parse(text)
        assert message in str(caught.value)
        assert caught.value.file == "policy.yaml"
        assert caught.value.line in (6, 7)
        assert caught.value.rule in ("r", "a")

    @pytest.mark.parametrize(("text", "message"), BAD_FILES)
    def test_file_errors_name_file_and_line(self, text, message):
        """Each mistake outside of rules is an error with file and line."""
        with pytest.raises(PolicyError) as caught:
            parse(text)
        assert message in str(caught.value)
        assert caught.value.file == "policy.yaml"
        assert caught.value.line is not None or "nul" in text or "\x00" in text

    def test_names_are_unique_across_files(self):
        """Two files may not both define a policy of one name."""
        text = rules(allow=GOOD)
        with pytest.raises(PolicyError, match=r"b\.yaml:3: .*first in a\.yaml:3"):
            PolicySet.parse({"a.yaml": text, "b.yaml": text}, trust_domain=OWN)

    def test_too_long_a_text_is_refused(self):
        """The size is bounded before anything is parsed."""
        with pytest.raises(PolicyError, match="at most"):
            parse("#" * (16 * 1024 * 1024 + 1))

    def test_aliases_are_bounded(self):
        """A list that is repeated through aliases may not explode."""
        many = ", ".join(f"/p{index}" for index in range(1000))
        text = "version: 1\npolicies:\n  - name: p\n    deny:\n"
        text += f"      - {{name: first, to: {{paths: &many [{many}]}}}}\n"
        for index in range(100):
            text += f"      - {{name: r{index}, to: {{paths: *many}}}}\n"
        with pytest.raises(PolicyError, match="aliases that expand to less"):
            parse(text)

    def test_combinations_are_bounded(self):
        """One rule may not multiply into millions of entries."""
        names = ", ".join(f"n{index}" for index in range(200))
        item = f"- {{name: r, from: {{namespace: [{names}], serviceAccount: [{names}]}}, {TO}}}"
        with pytest.raises(PolicyError, match="combinations"):
            parse(rules(allow=item))


class TestMeaning:
    @pytest.mark.parametrize("name", ["no", "on", "y", "0123", "1e3", "0x1F", "true"])
    def test_yaml_words_stay_what_was_written(self, name):
        """A namespace called `no` is `no`, not false; `0123` is not 83."""
        policies = parse(allowing(f"from: {{namespace: {name}}}, {TO}"))
        assert policies.decide(workload(name, "x"), "GET", "/a").allowed
        assert not policies.decide(workload("False", "x"), "GET", "/a").allowed

    def test_one_value_is_a_list_of_one(self):
        """`methods: GET` and `methods: [GET]` are the same."""
        one = parse(allowing(f"{FROM}, to: {{methods: GET, paths: /a}}"))
        other = parse(allowing("from: [{namespace: [shop]}], to: [{methods: [GET], paths: [/a]}]"))
        assert one.policies[0].rules[0].identities == other.policies[0].rules[0].identities
        assert one.policies[0].rules[0].operations == other.policies[0].rules[0].operations

    def test_aliases_mean_what_they_stand_for(self):
        """An anchor saves typing."""
        policies = parse("""
            version: 1
            policies:
              - name: p
                allow:
                  - {name: a, from: &web {namespace: shop}, to: {paths: /a}}
                  - {name: b, from: *web, to: {paths: /b}}
            """)
        assert policies.decide(WEB, "GET", "/b").rule == "b"

    def test_several_files_add_up(self):
        """A deny rule in one file overrides an allow rule in another."""
        texts = {
            "allow.yaml": rules(allow=GOOD, name="one"),
            "deny.yaml": rules(deny="- {name: no-posts, to: {methods: POST}}", name="two"),
        }
        policies = PolicySet.parse(texts, trust_domain=OWN)
        assert policies.decide(WEB, "GET", "/a").allowed
        assert policies.decide(WEB, "POST", "/a").policy == "two"

    def test_rules_know_their_lines(self):
        """For coverage reports and editors."""
        policies = parse(rules(allow=GOOD))
        assert policies.policies[0].rules[0].line == 6

    @given(
        st.lists(
            st.tuples(
                st.floats(0, 1),
                st.integers(0, 12),
                st.one_of(
                    st.text(max_size=4),
                    st.sampled_from(["*", "**", "&a", "*a", "!!str", "~", "null", "<<", "- ", "---",
                                     "...", "%YAML 1.1", "\n", "'", '"', "|", "\t", "\ud800", "{"]),
                ),
            ),
            min_size=1, max_size=4,
        )
    )  # fmt: skip
    @settings(max_examples=150)
    def test_whatever_the_text_there_is_a_policy_or_an_error(self, edits):
        """A typing mistake never becomes another kind of exception."""
        text = rules(
            allow="""
            - {name: a, from: [{anonymous: true}, {spiffeId: "spiffe://example.org/a/**"}],
               to: [{grpc: a.B/C}, {hosts: "*.a.example", ports: 80, notPaths: /x}],
               when: [user.a == 1, "source.address in '10.0.0.0/8'", "time.clock < '08:00'"]}
            """,
            deny="- {name: d, from: {notNamespace: b}, to: {paths: '/a/{b}'}, when: path.b == 'x'}",
        )
        for place, length, new in edits:
            at = int(place * len(text))
            text = text[:at] + new + text[at + length :]
        with contextlib.suppress(PolicyError):
            assert PolicySet.parse({"policy.yaml": text}, trust_domain=OWN).policies is not None
