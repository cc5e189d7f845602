# SPDX-License-Identifier: Apache-2.0
"""The same injection without our webhook: policies that the API server itself runs.

For each rule of the configuration that allows pod certificates or our CSI driver: a
MutatingAdmissionPolicy that injects, a ValidatingAdmissionPolicy that refuses what the webhook
would refuse, and their bindings. Kubernetes 1.36 or later.

What differs from the webhook: the Secret mode is not possible, and what cluster and nodes can do is
not looked at: the first other mode of the rule is taken; there are no warnings; a partner that is
named twice, and a mount by hand that is not read only, are refused; a mount above the place is not
looked at, and one at the place or below it is seen only as the configuration writes the path;
ephemeral containers are left alone.

Rules:
    1. The mutation does nothing to a pod that is wrong; the validation refuses it with a message.
    2. The validation looks at the pod as it is after all mutations, so that a mutation that was
       not made is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from webhook.injection.cel import (
    chosen_variables,
    names_namespace,
    native_zones,
    policy_modes,
    selects,
)
from webhook.injection.policy_mutation import added_volumes, equipped_containers
from webhook.injection.policy_validation import validations
from webhook.names import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from webhook.config import NamespaceRule, PlatformConfig

__all__ = ("build_policies",)

_API: Final = "admissionregistration.k8s.io/v1"


def build_policies(
    config: PlatformConfig, *, excluded: Iterable[str] = (SYSTEM_NAMESPACE, "kube-system")
) -> list[dict[str, Any]]:
    """Make the manifests, in the order in which they may be applied.

    Args:
        config: The platform's.
        excluded: Namespaces that are never looked at.
    """
    manifests: list[dict[str, Any]] = []
    for index, rule in enumerate(config.rules):
        is_native = rule.zones[:1] == native_zones(config, rule)[:1]
        if policy_modes(rule) and is_native:
            name = f"kubetls-inject-{index + 1}"
            constraints = _constraints(rule, config.rules[:index], sorted(excluded))
            variables = _variables(chosen_variables(config, rule))
            manifests += _validating(name, constraints, variables)
            manifests += _mutating(name, constraints, variables)
    return manifests


def _mutating(
    name: str, constraints: Mapping[str, Any], variables: list[dict[str, str]]
) -> list[dict[str, Any]]:
    mutations = [
        {
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": equipped_containers()},
        },
        {"patchType": "JSONPatch", "jsonPatch": {"expression": added_volumes()}},
    ]
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        **constraints,
        "variables": variables,
        "mutations": mutations,
    }
    return [
        _manifest("MutatingAdmissionPolicy", name, spec),
        _manifest("MutatingAdmissionPolicyBinding", name, {"policyName": name}),
    ]


def _validating(
    name: str, constraints: Mapping[str, Any], variables: list[dict[str, str]]
) -> list[dict[str, Any]]:
    spec = {
        "failurePolicy": "Fail",
        **constraints,
        "variables": variables,
        "validations": validations(),
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    return [
        _manifest("ValidatingAdmissionPolicy", name, spec),
        _manifest("ValidatingAdmissionPolicyBinding", name, binding),
    ]


def _manifest(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "kubetls", "app.kubernetes.io/component": "injector"}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _variables(expressions: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "expression": text} for name, text in expressions.items()]


def _constraints(
    rule: NamespaceRule, earlier: Iterable[NamespaceRule], excluded: list[str]
) -> dict[str, Any]:
    not_earlier = [f"!{names_namespace(each.names)}" for each in earlier]
    conditions = {
        "the-rule-of-this-namespace": " && ".join([names_namespace(rule.names), *not_earlier]),
        "selected": selects(rule),
        "no-mirror-pod": '!("kubernetes.io/config.mirror" in'
        " object.metadata.?annotations.orValue({}))",
        "no-windows-pod": 'object.spec.?os.?name.orValue("") != "windows" &&'
        ' object.spec.?nodeSelector[?"kubernetes.io/os"].orValue("") != "windows"',
    }
    names = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": excluded}
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    return {
        "matchConstraints": {
            "namespaceSelector": {"matchExpressions": [names]},
            "resourceRules": [{**pods, "operations": ["CREATE"], "scope": "Namespaced"}],
        },
        "matchConditions": [
            {"name": name, "expression": text} for name, text in conditions.items()
        ],
    }
