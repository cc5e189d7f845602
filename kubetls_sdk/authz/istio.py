# SPDX-License-Identifier: Apache-2.0
"""Istio AuthorizationPolicy manifests to our format.

Rules:
    1. What cannot be carried over is an error that names the field; nothing is dropped.
    2. An allow rule never becomes wider; where Istio and we differ, the difference is spelled out
       in the result (HEAD beside GET, `/a/*` without `/a`, WebSocket handshakes).
    3. Without any ALLOW policy Istio allows; we deny. That is said, not imitated.

Spec: istio.io/api security/v1 AuthorizationPolicy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from kubetls_sdk.authz.fields import Fields
from kubetls_sdk.authz.istio_rule import convert_rule
from kubetls_sdk.authz.policy_set import PolicySet
from kubetls_sdk.authz.yaml_node import Mapping, Scalar, YamlReader

if TYPE_CHECKING:
    import collections.abc as abc

    from kubetls_sdk.authz.yaml_node import Node
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("import_istio",)

_KIND = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_METADATA = frozenset(
    {"name", "namespace", "annotations", "labels", "uid", "resourceVersion", "generation",
     "creationTimestamp", "managedFields"}
)  # fmt: skip
_SPEC = frozenset({"selector", "action", "rules"})
_ANNOTATION = "istio.io/dry-run"


class _Plain(yaml.SafeDumper):
    """Writes what two rules share twice: the result is for people to read and change."""

    def ignore_aliases(self, data: object) -> bool:
        """Write no anchors, whatever is shared."""
        return True


def import_istio(
    text: str,
    *,
    file: str,
    trust_domain: TrustDomain,
    labels: abc.Mapping[str, str] | None = None,
) -> str:
    """Convert manifests to one policy file.

    Args:
        text: YAML with one or more AuthorizationPolicy documents.
        file: Its name, for errors.
        trust_domain: Our own.
        labels: Of the workload that the result is for; needed when a manifest has a selector.
            Manifests that do not select it are left out.

    Returns:
        The policy file, which has been parsed.

    Raises:
        PolicyError: A document is something else, or cannot be carried over.
    """
    reader = YamlReader(text, file=file)
    try:
        policies = list(_documents(reader, labels))
    except yaml.YAMLError as err:
        raise reader.broken(err) from None
    document = {"version": 1, "policies": policies}
    result = yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100)
    PolicySet.parse({f"{file} (imported)": result}, trust_domain=trust_domain)
    return result


def _documents(
    reader: YamlReader, labels: abc.Mapping[str, str] | None
) -> abc.Iterator[dict[str, Any]]:
    reader.start()
    more = True
    while more:
        converted = _document(reader.node(), reader.file, labels)
        if converted is not None:
            yield converted
        more = reader.next_document()


def _document(node: Node, file: str, labels: abc.Mapping[str, str] | None) -> dict[str, Any] | None:
    fields = Fields(node, file=file, known=_KIND)
    if fields.text("kind") != "AuthorizationPolicy":
        raise fields.error(f"expected kind AuthorizationPolicy, got {fields.text('kind')!r}")
    if not fields.text("apiVersion").startswith("security.istio.io/"):
        raise fields.error("expected apiVersion security.istio.io/v1", fields.line_of("apiVersion"))
    metadata = Fields(fields.nodes("metadata")[0], file=file, known=_METADATA)
    spec = fields.nodes("spec")
    rules = Fields(spec[0], file=file, known=_SPEC) if spec else None
    if rules is not None and not _selects(rules, labels):
        return None
    return _policy(metadata, rules)


def _selects(spec: Fields, labels: abc.Mapping[str, str] | None) -> bool:
    if not spec.has("selector"):
        return True
    selector = Fields(spec.nodes("selector")[0], file=spec.file, known=frozenset({"matchLabels"}))
    if labels is None:
        raise selector.error("expected the labels of the workload, since there is a selector")
    nodes = selector.nodes("matchLabels")
    wanted = nodes[0].entries if nodes and isinstance(nodes[0], Mapping) else {}
    return all(
        isinstance(value, Scalar) and labels.get(name) == value.value
        for name, value in wanted.items()
    )


def _policy(metadata: Fields, spec: Fields | None) -> dict[str, Any]:
    action = spec.text("action") if spec is not None and spec.has("action") else "ALLOW"
    if action not in ("ALLOW", "DENY"):
        raise metadata.error(f"expected action ALLOW or DENY, got {action!r}: no such thing here")
    namespace = metadata.text("namespace") if metadata.has("namespace") else None
    name = metadata.text("name")
    policy: dict[str, Any] = {"name": f"{namespace}.{name}" if namespace else name}
    if _is_dry_run(metadata):
        policy["mode"] = "shadow"
    rules = [
        rule
        for index, node in enumerate(spec.nodes("rules") if spec is not None else [])
        for rule in convert_rule(
            node, f"rule-{index}", file=metadata.file, namespace=namespace, is_deny=action == "DENY"
        )
    ]
    if rules:
        policy[action.lower()] = rules
    return policy


def _is_dry_run(metadata: Fields) -> bool:
    for node in metadata.nodes("annotations"):
        value = node.entries.get(_ANNOTATION) if isinstance(node, Mapping) else None
        if isinstance(value, Scalar):
            return value.value == "true"
    return False
