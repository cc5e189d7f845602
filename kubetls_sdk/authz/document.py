# SPDX-License-Identifier: Apache-2.0
"""The policy file: YAML text to frozen policies.

    version: 1
    policies:
      - name: orders
        mode: enforce                 # or shadow
        allow:
          - name: web-reads
            from: {namespace: shop, serviceAccount: web}
            to: {methods: GET, paths: "/orders/{id}"}
            when: user.sub present
        deny:
          - name: nobody-deletes
            to: {methods: DELETE}

Rules:
    1. Unknown fields and versions, and names used twice, are errors with file, line and rule.
    2. An allow rule has `from` and `to`; a deny rule without one means everyone, everything.
    3. Rules are read one by one, so that a long file costs little memory.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from kubetls_sdk.authz.contradiction import check_satisfiable
from kubetls_sdk.authz.expression import parse_condition
from kubetls_sdk.authz.fields import Fields
from kubetls_sdk.authz.model import EVERYONE, Effect, Identity, Mode, Operation, Policy, Rule
from kubetls_sdk.authz.operation import ANYTHING, OPERATION_FIELDS, parse_operation
from kubetls_sdk.authz.selector import IDENTITY_FIELDS, parse_identity
from kubetls_sdk.authz.yaml_node import Mapping, Node, Scalar, YamlReader
from kubetls_sdk.exceptions import ConfigurationError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("parse_document",)

VERSION = "1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_TOP_FIELDS = frozenset({"version", "policies"})
_POLICY_FIELDS = frozenset({"name", "description", "mode", "allow", "deny"})
_RULE_FIELDS = frozenset({"name", "description", "from", "to", "when", "user"})
_MAX_BRANCHES = 10_000


def parse_document(
    text: str, *, file: str, trust_domain: TrustDomain, pause: Callable[[], None] = lambda: None
) -> tuple[Policy, ...]:
    """Parse one policy file.

    Args:
        text: The YAML text.
        file: Its name, for errors.
        trust_domain: Our own.
        pause: Called after each rule.

    Raises:
        PolicyError: Not a valid policy file.
    """
    reader = YamlReader(text, file=file)
    try:
        return _document(reader, trust_domain, pause)
    except yaml.YAMLError as err:
        raise reader.broken(err) from None


def _document(
    reader: YamlReader, own: TrustDomain, pause: Callable[[], None]
) -> tuple[Policy, ...]:
    reader.start()
    policies: list[Policy] = []
    version = False
    for key, line in reader.pairs():
        if key == "version":
            _check_version(reader)
            version = True
        elif key == "policies":
            policies += [_policy(reader, own, pause) for _ in reader.items()]
        else:
            raise _unknown(reader, key, line, _TOP_FIELDS)
    if not version:
        raise reader.error(f"expected 'version: {VERSION}'", 1)
    reader.finish()
    return tuple(policies)


def _check_version(reader: YamlReader) -> None:
    node = reader.node()
    if not isinstance(node, Scalar) or node.value != VERSION:
        raise reader.error(f"expected version {VERSION}", node.line)


def _policy(reader: YamlReader, own: TrustDomain, pause: Callable[[], None]) -> Policy:
    start = reader.line
    texts: dict[str, str] = {}
    rules: list[Rule] = []
    for key, line in reader.pairs():
        if key in ("allow", "deny"):
            for _ in reader.items():
                rules.append(_rule(reader.node(), Effect(key), own, reader))
                pause()
        elif key in _POLICY_FIELDS:
            fields = Fields(
                Mapping({key: reader.node()}, line, lines={key: line}),
                file=reader.file, known=_POLICY_FIELDS,
            )  # fmt: skip
            texts[key] = fields.text(key)
        else:
            raise _unknown(reader, key, line, _POLICY_FIELDS)
    name = _name(texts.get("name"), "policy", reader, start)
    mode = texts.get("mode", "enforce")
    if mode not in tuple(Mode):
        raise reader.error(f"expected mode enforce or shadow, got {mode!r}", start)
    _check_names(rules, reader)
    return Policy(name, tuple(rules), Mode(mode), reader.file, start)


def _rule(node: Node, effect: Effect, own: TrustDomain, reader: YamlReader) -> Rule:
    named = node.entries.get("name") if isinstance(node, Mapping) else None
    name = _name(named.value if isinstance(named, Scalar) else None, "rule", reader, node.line)
    fields = Fields(node, file=reader.file, known=_RULE_FIELDS, rule=name)
    conditions = fields.values("when", parse_condition)
    if fields.has("description"):
        fields.text("description")
    rule = Rule(
        name,
        effect,
        tuple(_identities(fields, effect, own)),
        tuple(_operations(fields, effect)),
        conditions,
        node.line,
        _is_user_optional(fields, effect),
    )
    _check_conditions(fields, rule)
    _check_size(fields, rule)
    return rule


def _is_user_optional(fields: Fields, effect: Effect) -> bool:
    if not fields.has("user"):
        return False
    line = fields.line_of("user")
    if effect is Effect.DENY:
        raise fields.error("expected 'user' in allow rules only", line)
    word = fields.text("user")
    if word not in ("required", "optional"):
        raise fields.error(f"expected user to be required or optional, got {word!r}", line)
    return word == "optional"


def _identities(fields: Fields, effect: Effect, own: TrustDomain) -> Iterator[Identity]:
    if not fields.has("from"):
        if effect is Effect.ALLOW:
            raise fields.error("expected 'from': an allow rule says whom it allows")
        yield EVERYONE
    for node in fields.nodes("from"):
        part = Fields(node, file=fields.file, rule=fields.rule, known=IDENTITY_FIELDS)
        yield parse_identity(part, own=own, effect=effect)


def _operations(fields: Fields, effect: Effect) -> Iterator[Operation]:
    if not fields.has("to"):
        if effect is Effect.ALLOW:
            raise fields.error("expected 'to': an allow rule says what it allows")
        yield ANYTHING
    for node in fields.nodes("to"):
        part = Fields(node, file=fields.file, rule=fields.rule, known=OPERATION_FIELDS)
        yield parse_operation(part, effect=effect)


def _check_conditions(fields: Fields, rule: Rule) -> None:
    if not rule.conditions:
        return
    try:
        check_satisfiable(rule.conditions, closed=rule.effect is Effect.DENY)
    except ConfigurationError as err:
        raise fields.error(str(err), fields.line_of("when")) from None
    asked = {name for condition in rule.conditions for name in condition.variables}
    for operation in rule.operations if asked else ():
        for template in operation.templates:
            missing = asked - {name for name, _ in template.variables}
            if missing:
                raise fields.error(
                    f"expected path variable {min(missing)!r} in every path, got {str(template)!r}"
                )


def _check_size(fields: Fields, rule: Rule) -> None:
    identities = sum([max(1, len(identity.patterns)) for identity in rule.identities])
    operations = sum(
        [len(each.templates) * max(1, len(each.methods or ())) for each in rule.operations]
    )
    if identities * operations > _MAX_BRANCHES:
        raise fields.error(f"expected at most {_MAX_BRANCHES} combinations in one rule")


def _check_names(rules: list[Rule], reader: YamlReader) -> None:
    seen: dict[str, int] = {}
    for rule in rules:
        if rule.name in seen:
            raise PolicyError(
                f"expected each rule name once in a policy (first in line {seen[rule.name]})",
                file=reader.file, line=rule.line, rule=rule.name,
            )  # fmt: skip
        seen[rule.name] = rule.line


def _name(text: str | None, noun: str, reader: YamlReader, line: int) -> str:
    if text is None:
        raise reader.error(f"expected a name of the {noun}", line)
    if not _NAME.fullmatch(text):
        raise reader.error(
            f"expected a {noun} name of letters, digits, '.', '-' and '_', got {text[:80]!r}", line
        )
    return text


def _unknown(reader: YamlReader, key: str, line: int, known: frozenset[str]) -> PolicyError:
    return reader.error(f"unknown field {key!r}, expected one of {', '.join(sorted(known))}", line)
