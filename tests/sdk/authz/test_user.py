# SPDX-License-Identifier: Apache-2.0
"""Rules and end users: which are fine without one, and whose users a rule speaks of."""

from __future__ import annotations

import pytest

from kubetls_sdk import SpiffeId, TrustDomain
from kubetls_sdk.authz import Kind, PolicySet, RequestDetails
from kubetls_sdk.authz.issuers import check_issuers
from kubetls_sdk.authz.lint import lint
from kubetls_sdk.authz.schema import policy_schema
from kubetls_sdk.exceptions import PolicyError

WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
LOGIN, PARTNER = "https://login.example.com/", "https://partner.example/"


def rule(name, *lines):
    head = [f"- name: {name}", "  from: {namespace: shop}", "  to: {methods: GET, paths: /x}"]
    return "\n".join([*head, *(f"  {line}" for line in lines)])


def policies(*rules, effect="allow"):
    body = "\n".join("      " + line for each in rules for line in each.splitlines())
    text = f"version: 1\npolicies:\n  - name: p\n    {effect}:\n{body}\n"
    return PolicySet.parse({"p.yaml": text}, trust_domain=TrustDomain("example.org"))


def decide(found, user=None):
    return found.decide(WEB, "GET", "/x", RequestDetails(user=user))


class TestUserOptional:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [((), False), (("user: required",), False), (("user: optional",), True)],
        ids=["by default", "required", "optional"],
    )
    def test_decision(self, lines, expected):
        """The decision tells whether its rule is fine without a user."""
        found = decide(policies(rule("a", *lines)))
        assert found.allowed
        assert found.is_user_optional is expected

    def test_found_first(self):
        """A rule that needs no user decides before one that does, whatever their names."""
        found = policies(rule("a"), rule("b", "user: optional"))
        assert decide(found).rule == "b"
        assert decide(policies(rule("b"), rule("a", "user: optional"))).rule == "a"

    def test_deny_goes_before(self):
        """A deny rule still overrides it."""
        allow = rule("a", "user: optional")
        deny = "\n".join(("- name: d", "  to: {paths: /x}", "  when: user.sub absent"))
        text = "version: 1\npolicies:\n  - name: p\n    allow:\n"
        text += "\n".join("      " + line for line in allow.splitlines()) + "\n    deny:\n"
        text += "\n".join("      " + line for line in deny.splitlines()) + "\n"
        found = PolicySet.parse({"p.yaml": text}, trust_domain=TrustDomain("example.org"))
        assert decide(found).kind is Kind.DENIED
        assert decide(found, {"sub": "alice"}).allowed

    def test_not_shadowed(self):
        """A rule that needs a user leaves requests without one to the rule that does not."""
        found = policies(rule("a"), rule("b", "user: optional"))
        assert [each.rule for each in lint(found) if each.code == "shadowed"] == ["a"]

    @pytest.mark.parametrize("word", ["true", "none", "Optional", "~"])
    def test_other_words(self, word):
        """Anything else is an error with its line."""
        with pytest.raises(PolicyError) as caught:
            policies(rule("a", f"user: {word}"))
        assert (caught.value.line, caught.value.rule) == (8, "a")

    def test_deny_rule(self):
        """A deny rule has no say in it."""
        with pytest.raises(PolicyError, match="allow rules only"):
            policies(rule("a", "user: optional"), effect="deny")

    def test_schema(self):
        """Editors know the two words."""
        assert policy_schema()["$defs"]["rule"]["properties"]["user"]["enum"] == [
            "required",
            "optional",
        ]


class TestCheckIssuers:
    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param(("when: user.sub == 'alice'",), id="a subject"),
            pytest.param(("when: user.sub present",), id="any user"),
            pytest.param(("when: user.iss != 'https://partner.example/'",), id="not that issuer"),
            pytest.param(("when: user.iss present",), id="any issuer"),
            pytest.param(("when: user.iss startsWith 'https://login'",), id="a prefix"),
        ],
    )
    def test_several(self, lines):
        """With several issuers a rule about users has to say whose."""
        found = policies(rule("a", *lines))
        check_issuers(found, [LOGIN])
        with pytest.raises(PolicyError, match=r"user\.iss") as caught:
            check_issuers(found, [LOGIN, PARTNER])
        assert (caught.value.file, caught.value.rule) == ("p.yaml", "a")

    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param((), id="no user"),
            pytest.param((f"when: [user.sub == 'a', user.iss == '{LOGIN}']",), id="one"),
            pytest.param((f"when: user.iss in ['{LOGIN}', '{PARTNER}']",), id="both"),
        ],
    )
    def test_named(self, lines):
        """A rule that names its issuers is fine."""
        quoted = tuple(_quoted(line) for line in lines)
        check_issuers(policies(rule("a", *quoted)), [LOGIN, PARTNER])

    def test_unknown(self):
        """An issuer that vouches for nobody here is a mistake, also where there is only one."""
        found = policies(rule("a", "when: user.iss == 'https://login.example.com'"))
        with pytest.raises(PolicyError, match=r"got 'https://login\.example\.com'"):
            check_issuers(found, [LOGIN])

    def test_deny_rule(self):
        """A deny rule may mean the users of all issuers."""
        deny = rule("d", "when: user.suspended == true")
        check_issuers(policies(deny, effect="deny"), [LOGIN, PARTNER])


def _quoted(line):
    """A `when` with a list of conditions, each in YAML quotes."""
    if not line.startswith("when: [user"):
        return line
    conditions = line.removeprefix("when: [").removesuffix("]").split(", ")
    return "when: [" + ", ".join(f'"{each}"' for each in conditions) + "]"
