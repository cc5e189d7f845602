# SPDX-License-Identifier: Apache-2.0
"""One rule of an Istio AuthorizationPolicy: `from`, `to` and `when`.

Rules:
    1. Each source becomes a rule of its own, because its address block and its user belong to it.
    2. Wildcards are carried over where they end at a whole segment; others are errors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.fields import Fields
from kubetls_sdk.authz.istio_operation import convert_operation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.authz.yaml_node import Node

__all__ = ("convert_rule",)

_SOURCE = frozenset(
    {"principals", "notPrincipals", "namespaces", "notNamespaces", "serviceAccounts",
     "notServiceAccounts", "requestPrincipals", "ipBlocks", "notIpBlocks"}
)  # fmt: skip
_HEADER = re.compile(r"request\.headers\[([^\]]+)\]")
_CLAIM = re.compile(r"request\.auth\.claims((?:\[[^\]']+\])+)")
_FIXED_KEYS = {
    "source.ip": "source.address",
    "destination.port": "request.port",
    "request.auth.presenter": "user.azp",
}


def convert_rule(
    node: Node, name: str, *, file: str, namespace: str | None, is_deny: bool
) -> Iterator[dict[str, Any]]:
    """Convert one rule into one or more.

    Raises:
        PolicyError: A field that cannot be carried over.
    """
    rule = Fields(node, file=file, known=frozenset({"from", "to", "when"}), rule=name)
    conditions = [text for each in rule.nodes("when") for text in _when(each, rule)]
    targets = [
        target
        for each in rule.nodes("to")
        for target in convert_operation(_inner(each, "operation", rule), rule, is_deny=is_deny)
    ] or _everything(is_deny=is_deny)
    sources = rule.nodes("from")
    if not sources:
        anybody = {} if is_deny else {"from": [{"trustDomain": "*"}, {"anonymous": True}]}
        yield _rule(name, anybody, targets, conditions)
    for index, each in enumerate(sources):
        known = Fields(_inner(each, "source", rule), file=file, known=_SOURCE, rule=name)
        people, extra = _source(known, namespace, is_deny=is_deny)
        label = name if len(sources) == 1 else f"{name}-{index}"
        yield _rule(label, {"from": people}, targets, conditions + extra)


def _rule(
    name: str, people: dict[str, Any], targets: list[Any], conditions: list[str]
) -> dict[str, Any]:
    rule: dict[str, Any] = {"name": name, **people}
    if targets:
        rule["to"] = targets
    if conditions:
        rule["when"] = conditions
    return rule


def _everything(*, is_deny: bool) -> list[Any]:
    return [] if is_deny else [{"paths": "/**"}, {"paths": "/**", "websocket": True}]


def _inner(node: Node, field: str, rule: Fields) -> Node:
    wrapper = Fields(node, file=rule.file, known=frozenset({field}), rule=rule.rule)
    return wrapper.nodes(field)[0]


def _source(
    source: Fields, namespace: str | None, *, is_deny: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    groups = [n for n in ("principals", "namespaces", "serviceAccounts") if source.has(n)]
    if len(groups) > 1:
        raise source.error(f"{groups[0]} together with {groups[1]}: write it as spiffeId yourself")
    positive: list[dict[str, Any]] = [*_principals(source), *_accounts(source, namespace)]
    negative = _negative(source)
    people = [{**item, **negative} for item in positive or [{"trustDomain": "*"}]]
    if not positive and (is_deny or not negative):
        people.append({"anonymous": True})  # who has no certificate is not excluded by name
    return people, [*_blocks(source), *_users(source)]


def _principals(source: Fields) -> Iterator[dict[str, Any]]:
    for text in source.texts("principals"):
        yield {"trustDomain": "*"} if text == "*" else {"spiffeId": _spiffe_id(text, source)}


def _spiffe_id(text: str, source: Fields) -> str:
    if text.endswith("/*") and text.count("/") > 1:
        text = f"{text}*"
    elif "*" in text:
        raise source.error(f"principal {text!r}: a wildcard that is not a whole last part")
    return f"spiffe://{text}"


def _accounts(source: Fields, own: str | None) -> Iterator[dict[str, Any]]:
    for text in source.texts("namespaces"):
        if "*" in text and text != "*":
            raise source.error(f"namespace {text!r}: a wildcard inside a name")
        yield {"trustDomain": "*", "namespace": text}
    for text in source.texts("serviceAccounts"):
        namespace, slash, account = text.rpartition("/")
        if not slash and own is None:
            raise source.error(f"service account {text!r} without a namespace")
        yield {"trustDomain": "*", "namespace": namespace or own, "serviceAccount": account}


def _negative(source: Fields) -> dict[str, Any]:
    if source.has("notServiceAccounts"):
        raise source.error("notServiceAccounts: write it as notSpiffeId yourself")
    found: dict[str, Any] = {}
    if source.has("notPrincipals"):
        found["notSpiffeId"] = [_spiffe_id(t, source) for t in source.texts("notPrincipals")]
    if source.has("notNamespaces"):
        found["notNamespace"] = list(source.texts("notNamespaces"))
    return found


def _blocks(source: Fields) -> Iterator[str]:
    if source.has("ipBlocks"):
        yield f"source.address in {_list(source.texts('ipBlocks'), source)}"
    if source.has("notIpBlocks"):
        yield f"source.address not in {_list(source.texts('notIpBlocks'), source)}"


def _users(source: Fields) -> Iterator[str]:
    users = source.texts("requestPrincipals")
    if not users:
        return
    if len(users) > 1 or ("*" in users[0] and users[0] != "*"):
        raise source.error("requestPrincipals with several values or a part wildcard")
    if users[0] == "*":
        yield "user.sub present"
        return
    issuer, _, subject = users[0].rpartition("/")
    yield f"user.iss == {_quoted(issuer, source)}"
    yield f"user.sub == {_quoted(subject, source)}"


def _when(node: Node, rule: Fields) -> Iterator[str]:
    known = frozenset({"key", "values", "notValues"})
    condition = Fields(node, file=rule.file, known=known, rule=rule.rule)
    attribute = _attribute(condition.text("key"), condition)
    for name, operator in (("values", "in"), ("notValues", "not in")):
        if condition.has(name):
            texts = condition.texts(name)
            if texts == ("*",) and attribute != "source.address":
                yield f"{attribute} {'present' if operator == 'in' else 'absent'}"
            elif attribute == "request.port":
                yield f"{attribute} {operator} [{', '.join(texts)}]"
            else:
                yield f"{attribute} {operator} {_list(texts, condition)}"


def _attribute(key: str, condition: Fields) -> str:
    header = _HEADER.fullmatch(key)
    if header:
        return f"header['{header[1].lower()}']"
    claim = _CLAIM.fullmatch(key)
    if claim:
        return "user" + re.sub(r"\[([^\]]+)\]", r"['\1']", claim[1])
    if key not in _FIXED_KEYS:
        raise condition.error(f"condition key {key!r} has no counterpart")
    return _FIXED_KEYS[key]


def _list(texts: tuple[str, ...], where: Fields) -> str:
    return f"[{', '.join(_quoted(text, where) for text in texts)}]"


def _quoted(text: str, where: Fields) -> str:
    if "'" in text or "\\" in text or "*" in text:
        raise where.error(f"value {text!r}: a wildcard, quote or backslash")
    return f"'{text}'"
