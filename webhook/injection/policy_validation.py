# SPDX-License-Identifier: Apache-2.0
"""The validation beside a mutation by policy, in CEL: the pod has all, and nothing contradicts it.

Rules:
    1. What the mutation left alone, because the author wrote something else, is refused here.
    2. A wrong annotation is refused with its own message, and nothing else is looked at.
"""

from __future__ import annotations

from webhook.injection.cel import literal
from webhook.injection.container import CREDENTIAL_FOLDER, TRUST_DOMAIN
from webhook.injection.policy_mutation import ENVIRONMENT, IS_OURS
from webhook.names import (
    CREDENTIAL_BUNDLE,
    PARTNER_LABEL,
    PARTNER_SIGNER_NAME,
    TRUST_DOMAIN_LABEL,
    VOLUME,
)

__all__ = ("validations",)


def validations() -> list[dict[str, str]]:
    """Make the validations of one policy."""
    return [
        {
            "expression": 'variables.refusal == ""',
            "messageExpression": "variables.refusal",
            "reason": "Forbidden",
        },
        {
            "expression": f'variables.refusal != "" || {_has_volume()}',
            "message": f"expected volume {VOLUME} to be the one that is added",
            "reason": "Forbidden",
        },
        {
            "expression": f'variables.refusal != "" || {_all_containers(_is_mounted())}',
            "messageExpression": f'"expected volume {VOLUME}, read only, in each container at "'
            ' + variables.mountPath + ", and nothing else there or below"',
            "reason": "Forbidden",
        },
        {
            "expression": f'variables.refusal != "" || {_all_containers(_has_environment())}',
            "messageExpression": f'"expected variables {CREDENTIAL_FOLDER} of " +'
            f' variables.mountPath + " and {TRUST_DOMAIN} of " + variables.trustDomain'
            ' + ", or none, in each container"',
            "reason": "Forbidden",
        },
    ]


def _all_containers(condition: str) -> str:
    """Whether a condition on `c` holds for all; lists of the two kinds cannot be joined."""
    return (
        f"object.spec.containers.all(c, {condition})"
        f" && object.spec.?initContainers.orValue([]).all(c, {condition})"
    )


def _is_mounted() -> str:
    whole = (
        f"m.name == {literal(VOLUME)} && m.mountPath == variables.mountPath"
        " && m.?readOnly.orValue(false)"
        ' && m.?subPath.orValue("") == "" && m.?subPathExpr.orValue("") == ""'
    )
    below = 'm.mountPath.startsWith(variables.mountPath + "/")'
    return f"c.?volumeMounts.orValue([]).exists(m, {whole}) && c.volumeMounts.all(m, !{below})"


def _has_environment() -> str:
    return " && ".join(
        f"c.?env.orValue([]).exists(e, e.name == {literal(name)})"
        f' && c.env.all(e, e.name != {literal(name)} || e.?value.orValue("") == {value})'
        for name, value in ENVIRONMENT.items()
    )


def _has_volume() -> str:
    """Whether the volume has exactly the sources that are added."""
    return (
        f"object.spec.?volumes.orValue([]).exists(v, {IS_OURS} && has(v.projected)"
        " && size(v.projected.sources) == 2 + size(variables.partners)"
        f" && {_has_certificate()} && {_has_own_bundle()} && {_has_partner_bundles()})"
    )


def _has_certificate() -> str:
    return (
        "v.projected.sources[0].?podCertificate.optMap(s, s.signerName == variables.signer"
        " && s.keyType == variables.keyType"
        " && s.?maxExpirationSeconds.orValue(0) == variables.lifetime"
        f' && s.?credentialBundlePath.orValue("") == {literal(CREDENTIAL_BUNDLE)}'
        " && !has(s.keyPath) && !has(s.certificateChainPath) && !has(s.userAnnotations)"
        ").orValue(false)"
    )


def _has_own_bundle() -> str:
    return (
        "v.projected.sources[1].?clusterTrustBundle.optMap(s,"
        ' s.?signerName.orValue("") == variables.signer && !has(s.name)'
        " && !s.?optional.orValue(false)"
        f" && s.?labelSelector.?matchLabels.orValue({{}}) == {{{literal(TRUST_DOMAIN_LABEL)}:"
        " variables.trustDomain}"
        " && !has(s.labelSelector.matchExpressions)"
        ' && s.path == variables.trustDomain + ".trust-bundle.pem").orValue(false)'
    )


def _has_partner_bundles() -> str:
    return (
        "variables.partners.all(p, v.projected.sources.exists(o, o.?clusterTrustBundle.optMap(s,"
        f' s.?signerName.orValue("") == {literal(PARTNER_SIGNER_NAME)} && !has(s.name)'
        " && s.?optional.orValue(false)"
        f" && s.?labelSelector.?matchLabels.orValue({{}}) == {{{literal(PARTNER_LABEL)}: p}}"
        " && !has(s.labelSelector.matchExpressions)"
        ' && s.path == variables.partnerDomains[p] + ".trust-bundle.pem").orValue(false)))'
    )
