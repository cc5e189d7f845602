# SPDX-License-Identifier: Apache-2.0
"""What a pod chooses, in CEL: the rules of `webhook.choice` for clusters without our webhook.

Rules:
    1. Every text of the configuration is a literal; nothing of it is read as an expression.
    2. Expressions never fail: a value that is not allowed makes `variables.refusal` a message.

Spec: Common Expression Language; https://kubernetes.io/docs/reference/using-api/cel/.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from webhook.choice import (
    CHOSEN,
    INJECT,
    KEY_TYPE,
    LIFETIME,
    MODE,
    MOUNT_PATH,
    PARTNERS,
    TRUST_STORE,
    WRITTEN,
    ZONE,
    duration_text,
)
from webhook.config import SHORTEST_LIFETIME, Mode, TrustStore
from webhook.names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webhook.config import NamePattern, NamespaceRule, PlatformConfig

__all__ = (
    "HAS_STORE",
    "IS_CSI",
    "chosen_variables",
    "literal",
    "names_namespace",
    "native_zones",
    "policy_modes",
    "selects",
)

HAS_STORE: Final = f'variables.trustStore == "{TrustStore.INTERNAL}"'
"""Whether the pod's programs are to believe the zone alone."""

IS_CSI: Final = f'variables.mode == "{Mode.CSI}"'
"""Whether the pod gets the volume of our CSI driver; else one with a pod certificate."""

_DURATION: Final = "^[1-9][0-9]{0,6}[smhd]$"


def literal(value: Any) -> str:
    """Write a text, a list or a map of texts as a CEL literal."""
    return json.dumps(value)


def names_namespace(patterns: Iterable[NamePattern]) -> str:
    """Whether the request's namespace is one of those named."""
    parts = [
        f"request.namespace.startsWith({literal(pattern.text[:-1])})"
        if pattern.text.endswith("*")
        else f"request.namespace == {literal(pattern.text)}"
        for pattern in patterns
    ]
    return f"({' || '.join(parts)})"


def selects(rule: NamespaceRule) -> str:
    """Whether the pod's label, or the rule where there is none, asks for an injection.

    A label that is neither `true` nor `false` asks, and is refused then.
    """
    default = "true" if rule.injects_all else "false"
    label = f"object.metadata.?labels[?{literal(INJECT)}].orValue({literal(default)})"
    return f'{label} != "false"'


def chosen_variables(config: PlatformConfig, rule: NamespaceRule) -> dict[str, str]:
    """Make the variables of a policy for one rule, in the order in which they need each other."""
    zones = {name: config.zones[name] for name in native_zones(config, rule)}
    partners = config.partners.values()
    return {
        "annotations": "object.metadata.?annotations.orValue({})",
        "zone": _annotation(ZONE, rule.zones[0]),
        "signer": _looked_up({name: zone.signer_name for name, zone in zones.items()}, "zone"),
        "trustDomain": _looked_up(
            {name: str(zone.trust_domain) for name, zone in zones.items()}, "zone"
        ),
        "keyType": _annotation(KEY_TYPE, rule.key_types[0].value),
        "mountPath": _annotation(MOUNT_PATH, rule.mount_paths[0]),
        "mode": _annotation(MODE, policy_modes(rule)[0].value),
        "trustStore": _annotation(TRUST_STORE, rule.trust_stores[0]),
        "lifetimeText": _annotation(LIFETIME, duration_text(rule.lifetime.default)),
        "lifetime": _seconds("variables.lifetimeText"),
        "partnersText": f"{_annotation(PARTNERS, '')}.trim()",
        "partnersAsked": (
            'variables.partnersText == "" ? [] : variables.partnersText.split(",").map(p, p.trim())'
        ),
        "visiblePartners": _visible_partners(config),
        "partnerDomains": literal({each.name: str(each.trust_domain) for each in partners}),
        "partnerSigners": literal({each.name: each.signer_name for each in partners}),
        "partnerLabels": literal({each.name: each.labels for each in partners}),
        "partners": (
            "variables.partnersAsked.filter(p, !(p in variables.partnerDomains)"
            " || variables.partnerDomains[p] != variables.trustDomain)"
        ),
        "refusal": _refusal(rule, tuple(zones)),
    }


def native_zones(config: PlatformConfig, rule: NamespaceRule) -> tuple[str, ...]:
    """The zones of a rule that a policy can inject: those that we sign for."""
    return tuple(name for name in rule.zones if config.zones[name].external_signer is None)


def policy_modes(rule: NamespaceRule) -> tuple[Mode, ...]:
    """The modes of a rule that a policy can inject: a Secret's name must be made up."""
    return tuple(mode for mode in rule.modes if mode is not Mode.SECRET)


def _annotation(name: str, default: str) -> str:
    return f"variables.annotations[?{literal(name)}].orValue({literal(default)})"


def _looked_up(values: dict[str, str], name: str) -> str:
    return f'{literal(values)}[?variables.{name}].orValue("")'


def _seconds(text: str) -> str:
    units = literal({"s": 1, "m": 60, "h": 3600, "d": 86400})
    end = f"size({text}) - 1"
    number = f"int({text}.substring(0, {end})) * {units}[{text}.substring({end})]"
    return f"{text}.matches({literal(_DURATION)}) ? {number} : 0"


def _visible_partners(config: PlatformConfig) -> str:
    parts = [
        f"({names_namespace(each.namespaces)} ? [{literal(each.name)}] : [])"
        for each in config.partners.values()
    ]
    return " + ".join(parts) or 'dyn([]).filter(p, p == "")'


def _refusal(rule: NamespaceRule, zones: tuple[str, ...]) -> str:
    """The message for the first annotation that is wrong; empty: none is."""
    longest = int(rule.lifetime.maximum.total_seconds())
    shortest = int(SHORTEST_LIFETIME.total_seconds())
    span = f"{duration_text(SHORTEST_LIFETIME)} to {duration_text(rule.lifetime.maximum)}"
    label = f"object.metadata.?labels[?{literal(INJECT)}]"
    known = literal([*CHOSEN, *WRITTEN])
    checks = [
        (
            f'{label}.orValue("true") in ["true", "false"]',
            _message(INJECT, ("true", "false"), what="label"),
        ),
        (
            f"variables.annotations.all(n, !n.startsWith({literal(PREFIX + '/')}) || n in {known})",
            literal(f"unknown annotation of {PREFIX}, expected one of {', '.join(CHOSEN)}"),
        ),
        _listed("zone", ZONE, zones),
        _listed("keyType", KEY_TYPE, rule.key_types),
        _listed("mountPath", MOUNT_PATH, rule.mount_paths),
        _listed("trustStore", TRUST_STORE, rule.trust_stores),
        _listed("mode", MODE, policy_modes(rule)),
        (
            f"variables.lifetime >= {shortest} && variables.lifetime <= {longest}",
            literal(f"annotation {LIFETIME}: expected a duration from {span}"),
        ),
        (
            "variables.partnersAsked.all(p, p in variables.visiblePartners"
            " && variables.partnersAsked.exists_one(q, q == p))",
            f"{literal(f'annotation {PARTNERS}: expected some of ')}"
            ' + variables.visiblePartners.join(", ") + ", each once"',
        ),
    ]
    tail = '""'
    for condition, message in reversed(checks):
        tail = f"!({condition}) ? {message} : {tail}"
    return tail


def _listed(name: str, annotation: str, allowed: Iterable[str]) -> tuple[str, str]:
    values = [str(each) for each in allowed]
    return f"variables.{name} in {literal(values)}", _message(annotation, values)


def _message(name: str, allowed: Iterable[str], *, what: str = "annotation") -> str:
    listed = ", ".join(f"'{each}'" for each in allowed)
    return literal(f"{what} {name}: expected one of {listed}")
