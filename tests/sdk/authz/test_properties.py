# SPDX-License-Identifier: Apache-2.0
"""What holds for every policy set, tried on generated ones against a naive reading of the rules."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubetls_sdk.authz import GRPC, WEBSOCKET, Decision, PolicySet, RequestDetails
from kubetls_sdk.authz.coverage import check_reachable
from kubetls_sdk.authz.explanation import explain
from kubetls_sdk.authz.expression import parse_condition
from kubetls_sdk.authz.model import CallerPattern, Effect, Identity, Mode, Operation, Policy, Rule
from kubetls_sdk.authz.template import PathTemplate
from kubetls_sdk.exceptions import PolicyError
from kubetls_sdk.spiffe_id import SpiffeId

_names = st.sampled_from(["a", "b"])
_segments = st.lists(st.sampled_from(["a", "b", "*"]), max_size=4).map(tuple)
_patterns = st.builds(
    CallerPattern,
    st.sampled_from(["x.org", "y.org", None]),
    _segments,
    is_prefix=st.booleans(),
    needs_more=st.just(False),
)
_exclusions = st.frozensets(_names, max_size=1)
_identities = st.one_of(
    st.just(Identity(is_anonymous=True)),
    st.builds(
        Identity,
        st.lists(_patterns, min_size=1, max_size=2).map(tuple),
        not_trust_domains=st.frozensets(st.sampled_from(["x.org"]), max_size=1),
        not_ids=st.lists(_patterns, max_size=1).map(tuple),
    ),
)
_templates = st.builds(
    lambda parts, end: PathTemplate.parse("/" + "/".join([*parts, *end])),
    st.lists(st.sampled_from(["a", "b", "*", "{v}"]), max_size=3).filter(
        lambda parts: parts.count("{v}") < 2
    ),
    st.sampled_from([(), ("**",)]),
)
_methods = st.one_of(
    st.none(), st.frozensets(st.sampled_from(["GET", "HEAD", "POST", WEBSOCKET, GRPC]), min_size=1)
)
_conditions = st.lists(
    st.sampled_from(
        ["user.sub == 'a'", "user.sub != 'a'", "user.sub present", "user.age < 5", "path.v == 'a'"]
    ).map(parse_condition),
    max_size=2,
    unique=True,
).map(tuple)
_operations = st.builds(
    Operation, _methods, st.lists(_templates, min_size=1, max_size=2).map(tuple)
)


def _rule(effect: Effect) -> st.SearchStrategy[Rule]:
    return st.builds(
        Rule,
        st.just("r"),
        st.just(effect),
        st.lists(_identities, min_size=1, max_size=2).map(tuple),
        st.lists(_operations, min_size=1, max_size=2).map(tuple),
        _conditions,
    )


def _policies(rules: list[Rule], mode: Mode = Mode.ENFORCE) -> list[Policy]:
    named = [
        Rule(f"r{index}", r.effect, r.identities, r.operations, r.conditions)
        for index, r in enumerate(rules)
    ]
    return [Policy("even", tuple(named[::2]), mode), Policy("odd", tuple(named[1::2]), mode)]


_rule_lists = st.lists(st.one_of(_rule(Effect.ALLOW), _rule(Effect.DENY)), max_size=6)
_callers = st.one_of(
    st.none(),
    st.builds(
        lambda domain, parts: SpiffeId.parse("/".join([f"spiffe://{domain}", *parts])),
        st.sampled_from(["x.org", "y.org"]),
        st.lists(_names, max_size=4),
    ),
)
_paths = st.builds(
    lambda parts, end: "/" + "/".join(parts) + (end if parts else ""),
    st.lists(st.sampled_from(["a", "b", "c", "*"]), max_size=4),
    st.sampled_from(["", "/"]),
)
_details = st.sampled_from(
    [
        RequestDetails(),
        RequestDetails(user={"sub": "a"}),
        RequestDetails(user={"sub": "b", "age": 3}),
        RequestDetails(user={"sub": ["a"], "age": "x"}),
    ]
)
_requests = st.tuples(
    _callers, st.sampled_from(["GET", "HEAD", "POST", "PUT", WEBSOCKET, GRPC]), _paths, _details
)


_TRIED = [
    (caller, method, path, RequestDetails(user={"sub": "a", "age": 3}))
    for caller in [
        None,
        *(
            SpiffeId.parse(f"spiffe://{d}{p}")
            for d in ("x.org", "y.org")
            for p in ("", "/a", "/b/a")
        ),
    ]
    for method in ("GET", "HEAD", "POST", "PUT", WEBSOCKET, GRPC)
    for path in ("/", "/a", "/a/", "/b/a", "/a/b/c")
]


def _answer(decision: Decision) -> tuple[object, ...]:
    return decision.allowed, decision.kind, decision.policy, decision.rule, decision.needed


class TestPolicySet:
    @given(_rule_lists, _requests, st.randoms())
    @settings(max_examples=60)
    def test_order_has_no_meaning(self, rules, request, random):
        """A policy set and its reordering decide the same, by the same rule."""
        policies = _policies(rules)
        shuffled = [
            Policy(p.name, tuple(random.sample(p.rules, len(p.rules))), p.mode)
            for p in reversed(policies)
        ]
        expected = _answer(PolicySet(policies).decide(*request))
        assert expected == _answer(PolicySet(shuffled).decide(*request))

    @given(_rule_lists, _rule(Effect.DENY), _requests)
    @settings(max_examples=60)
    def test_a_deny_never_allows_more(self, rules, deny, request):
        """Adding a deny rule never turns a deny into an allow."""
        more = PolicySet([*_policies(rules), Policy("more", (deny,))])
        if more.decide(*request).allowed:
            assert PolicySet(_policies(rules)).decide(*request).allowed

    @given(_rule_lists, _rule(Effect.ALLOW), _requests)
    @settings(max_examples=60)
    def test_an_allow_never_denies_more(self, rules, allow, request):
        """Adding an allow rule never turns an allow into a deny."""
        if PolicySet(_policies(rules)).decide(*request).allowed:
            more = PolicySet([*_policies(rules), Policy("more", (allow,))])
            assert more.decide(*request).allowed

    @given(_rule_lists, _rule_lists, _requests)
    @settings(max_examples=60)
    def test_shadow_policies_change_nothing(self, rules, shadow, request):
        """Whatever they say, the answer is that of the enforced ones."""
        trial = [Policy(f"s-{p.name}", p.rules, Mode.SHADOW) for p in _policies(shadow)]
        expected = _answer(PolicySet(_policies(rules)).decide(*request))
        assert expected == _answer(PolicySet([*_policies(rules), *trial]).decide(*request))

    @given(_rule_lists, _requests)
    @settings(max_examples=60)
    def test_asking_again_gives_the_same_answer(self, rules, request):
        """The remembered way and the first way agree."""
        policies = PolicySet(_policies(rules))
        answers = {_answer(policies.decide(*request)) for _ in range(3)}
        assert len(answers) == 1

    @given(_rule_lists, _requests)
    @settings(max_examples=200)
    def test_explanations_agree(self, rules, request):
        """What each rule says, one by one, adds up to the decision, and names its rule."""
        explained = explain(PolicySet(_policies(rules)), *request)
        decision = explained.decision
        assert explained.is_allowed is decision.allowed
        if decision.rule is not None:
            assert (decision.policy, decision.rule) in {
                (v.policy, v.rule) for v in explained.verdicts if v.is_match
            }

    @given(_rule_lists)
    @settings(max_examples=100)
    def test_unreachable_rules_never_allow(self, rules):
        """A rule that is refused as unreachable never decides about any request tried."""
        policies = _policies(rules)
        with contextlib.suppress(PolicyError):
            check_reachable(policies)
            return
        with pytest.raises(PolicyError) as caught:
            check_reachable(policies)
        deciding = {PolicySet(policies).decide(*request).rule for request in _TRIED}
        assert caught.value.rule not in deciding

    @given(_rule_lists, _requests)
    @settings(max_examples=200)
    def test_agrees_with_a_naive_reading(self, rules, request):
        """The index finds what trying every rule, one by one, finds."""
        policies = PolicySet(_policies(rules))
        assert policies.decide(*request).allowed is _naive(rules, *request)


def _naive(rules, caller, method, path, details) -> bool:
    matching = {
        rule.effect
        for rule in rules
        if any(_is_meant(identity, caller, rule.effect) for identity in rule.identities)
        and any(
            _fits(operation, template, method, path, rule.effect)
            and _conditions_hold(rule, template, path, details)
            for operation in rule.operations
            for template in operation.templates
        )
    }
    return matching == {Effect.ALLOW}


def _is_meant(identity, caller, effect) -> bool:
    if identity.is_anonymous or caller is None:
        return identity.is_anonymous and caller is None
    if not any(pattern.matches(caller) for pattern in identity.patterns):
        return False
    return identity.admits(caller, effect)


def _fits(operation, template, method, path, effect) -> bool:
    deny = effect is Effect.DENY
    methods = set(operation.methods or ())
    if "GET" in methods:
        methods |= {"HEAD", WEBSOCKET} if deny else {"HEAD"}
    if "POST" in methods and deny:
        methods.add(GRPC)
    covered = method in methods if methods else (deny or method.isupper())
    bare = path[:-1] if deny and path.endswith("/") and path != "/" else path
    return covered and (template.matches(path) or template.matches(bare))


def _conditions_hold(rule, template, path, details) -> bool:
    deny = rule.effect is Effect.DENY
    user = details.user or {}
    segments = path.split("/")
    variables = {name: segments[index] for name, index in template.variables}

    def verdict(text) -> bool | None:
        if text == "user.sub present":
            return "sub" in user
        if text == "path.v == 'a'":
            return variables.get("v") == "a"
        if text == "user.age < 5":
            age = user.get("age")
            return age < 5 if isinstance(age, int) else None
        sub = user.get("sub")
        if sub is None:
            return False if "==" in text else None
        if not isinstance(sub, str):
            return None
        return (sub == "a") is ("==" in text)

    found = [verdict(condition.text) for condition in rule.conditions]
    return all(v is not False for v in found) if deny else all(v is True for v in found)


def test_the_generated_requests_reach_both_answers():
    """The properties above are not about denials alone."""
    rule = Rule(
        "r",
        Effect.ALLOW,
        (Identity((CallerPattern("x.org", is_prefix=True),)),),
        (Operation(None, (PathTemplate.parse("/**"),)),),
    )
    asked = itertools.product(
        [None, SpiffeId.parse("spiffe://x.org/a")], ["GET"], ["/a"], [RequestDetails()]
    )
    assert {_naive([rule], *request) for request in asked} == {True, False}
