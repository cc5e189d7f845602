# SPDX-License-Identifier: Apache-2.0
"""The validation beside a mutation by policy, in CEL: the pod has all, and nothing contradicts it.

Rules:
    1. What the mutation left alone, because the author wrote something else, is refused here.
    2. A wrong annotation is refused with its own message, and nothing else is looked at.
"""

from __future__ import annotations

from webhook.choice import TRUST_STORE
from webhook.injection.cel import HAS_STORE, IS_CSI, literal
from webhook.injection.container import CREDENTIAL_FOLDER, STORE_MOUNTS, TRUST_DOMAIN
from webhook.injection.policy_mutation import ENVIRONMENT, IS_OURS, IS_STORE
from webhook.injection.trust_store import FILES, OPTION_LISTS, VARIABLES
from webhook.names import (
    CREDENTIAL_BUNDLE,
    CSI_DRIVER,
    TRUST_DOMAIN_LABEL,
    TRUST_STORE_VOLUME,
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
        *_store_validations(),
    ]


def _store_validations() -> list[dict[str, str]]:
    """What holds of the trust store of a pod that has one."""
    places = " and ".join(path for _, path in STORE_MOUNTS)
    expected = {
        _has_store(): f"volume {TRUST_STORE_VOLUME} to be the one that is added",
        _all_containers(_has_store_mounts()): f"volume {TRUST_STORE_VOLUME}, read only, in each"
        f" container at {places}, and nothing else there or below",
        _all_containers(_has_store_variables()): "in each container the variables of the trust"
        f" store, or none: {_variables_text()}",
    }
    return [
        {
            "expression": f'variables.refusal != "" || !({HAS_STORE}) || ({condition})',
            "message": f"annotation {TRUST_STORE}: expected {what}",
            "reason": "Forbidden",
        }
        for condition, what in expected.items()
    ]


def _variables_text() -> str:
    return ", ".join(f"{name} of {value}" for name, value in VARIABLES.items())


def _all_containers(condition: str) -> str:
    """Whether a condition on `c` holds for all; lists of the two kinds cannot be joined."""
    return (
        f"object.spec.containers.all(c, {condition})"
        f" && object.spec.?initContainers.orValue([]).all(c, {condition})"
    )


def _is_mounted() -> str:
    return _is_mounted_at(VOLUME, "variables.mountPath")


def _is_mounted_at(volume: str, place: str) -> str:
    whole = (
        f"m.name == {literal(volume)} && m.mountPath == {place}"
        " && m.?readOnly.orValue(false)"
        ' && m.?subPath.orValue("") == "" && m.?subPathExpr.orValue("") == ""'
    )
    below = f'm.mountPath.startsWith({place} + "/")'
    return f"c.?volumeMounts.orValue([]).exists(m, {whole}) && c.volumeMounts.all(m, !{below})"


def _has_store_mounts() -> str:
    return " && ".join(_is_mounted_at(volume, literal(path)) for volume, path in STORE_MOUNTS)


def _has_store_variables() -> str:
    lists = {name: VARIABLES[name] for name in OPTION_LISTS}
    plain = {name: value for name, value in VARIABLES.items() if name not in lists}
    return (
        f"{literal(plain)}.all(n, c.?env.orValue([]).exists(e, e.name == n)"
        f' && c.env.all(e, e.name != n || e.?value.orValue("") == {literal(plain)}[n]))'
        f" && {literal(lists)}.all(n, c.?env.orValue([]).exists(e, e.name == n) && c.env.all(e,"
        f' e.name != n || {literal(lists)}[n] in e.?value.orValue("").split(" ")))'
    )


def _has_environment() -> str:
    return " && ".join(
        f"c.?env.orValue([]).exists(e, e.name == {literal(name)})"
        f' && c.env.all(e, e.name != {literal(name)} || e.?value.orValue("") == {value})'
        for name, value in ENVIRONMENT.items()
    )


def _has_volume() -> str:
    """Whether the volume is the driver's, or has exactly the sources that are added."""
    projected = (
        "has(v.projected)"
        " && size(v.projected.sources) == 2 + size(variables.partners)"
        f" && {_has_certificate()} && {_has_partner_bundles()}"
        f""" && {_has_own_bundle("1", 'variables.trustDomain + ".trust-bundle.pem"')}"""
    )
    return (
        f"object.spec.?volumes.orValue([]).exists(v, {IS_OURS}"
        f" && ({IS_CSI} ? {_is_of_driver()} : {projected}))"
    )


def _is_of_driver() -> str:
    return (
        f"has(v.csi) && v.csi.driver == {literal(CSI_DRIVER)} && v.csi.?readOnly.orValue(false)"
        " && !has(v.csi.fsType) && !has(v.csi.volumeAttributes)"
        " && !has(v.csi.nodePublishSecretRef)"
    )


def _has_store() -> str:
    bundles = (_has_own_bundle(str(at), literal(file)) for at, file in enumerate(FILES))
    return (
        f"object.spec.?volumes.orValue([]).exists(v, {IS_STORE} && has(v.projected)"
        f" && size(v.projected.sources) == {len(FILES)} && {' && '.join(bundles)})"
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


def _has_own_bundle(index: str, file: str) -> str:
    return (
        f"v.projected.sources[{index}].?clusterTrustBundle.optMap(s,"
        ' s.?signerName.orValue("") == variables.signer && !has(s.name)'
        " && !s.?optional.orValue(false)"
        f" && s.?labelSelector.?matchLabels.orValue({{}}) == {{{literal(TRUST_DOMAIN_LABEL)}:"
        " variables.trustDomain}"
        " && !has(s.labelSelector.matchExpressions)"
        f" && s.path == {file}).orValue(false)"
    )


def _has_partner_bundles() -> str:
    return (
        "variables.partners.all(p, v.projected.sources.exists(o, o.?clusterTrustBundle.optMap(s,"
        ' s.?signerName.orValue("") == variables.partnerSigners[p] && !has(s.name)'
        " && s.?optional.orValue(false)"
        " && s.?labelSelector.?matchLabels.orValue({}) == variables.partnerLabels[p]"
        " && !has(s.labelSelector.matchExpressions)"
        ' && s.path == variables.partnerDomains[p] + ".trust-bundle.pem").orValue(false)))'
    )
