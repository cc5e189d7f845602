# SPDX-License-Identifier: Apache-2.0
"""The mutation of a MutatingAdmissionPolicy, in CEL: what `mutation` does, one pod at a time.

Rules:
    1. What the author wrote is never replaced: only what is not there is added.
    2. The volume goes by JSON Patch: its lists are atomic, and no apply configuration may set them.
"""

from __future__ import annotations

from typing import Final

from webhook.choice import INJECTED
from webhook.config import Mode
from webhook.injection.cel import literal
from webhook.injection.container import CREDENTIAL_FOLDER, TRUST_DOMAIN
from webhook.injection.volume import DEFAULT_MODE
from webhook.names import (
    CREDENTIAL_BUNDLE,
    PARTNER_LABEL,
    PARTNER_SIGNER_NAME,
    TRUST_DOMAIN_LABEL,
    VOLUME,
)

__all__ = ("ENVIRONMENT", "IS_OURS", "added_volume", "equipped_containers")

ENVIRONMENT: Final = {
    CREDENTIAL_FOLDER: "variables.mountPath",
    TRUST_DOMAIN: "variables.trustDomain",
}
"""Environment variables, and the expressions of their values."""

IS_OURS: Final = f"v.name == {literal(VOLUME)}"
"""Whether a volume `v` has our name."""

_VOLUMES: Final = "Object.spec.volumes"
_SOURCES: Final = f"{_VOLUMES}.projected.sources"


def equipped_containers() -> str:
    """Mounts and variables that are not there yet, for each container; and the annotation."""
    containers = _equipped("containers")
    init = _equipped("initContainers")
    return (
        'variables.refusal != "" ? Object{} : Object{'
        "metadata: Object.metadata{annotations: "
        f"{literal({INJECTED: Mode.POD_CERTIFICATE.value})}}},"
        f" spec: Object.spec{{containers: {containers},"
        f" ?initContainers: has(object.spec.initContainers) ? optional.of({init})"
        " : optional.none()}}"
    )


def _equipped(kind: str) -> str:
    path = f"Object.spec.{kind}"
    mount = (
        f"{path}.volumeMounts{{name: {literal(VOLUME)}, mountPath: variables.mountPath,"
        " readOnly: true}"
    )
    is_mounted = "c.?volumeMounts.orValue([]).exists(m, m.mountPath == variables.mountPath)"
    variables = ", ".join(
        f"{path}.env{{name: {literal(name)}, value: {value}}}"
        for name, value in ENVIRONMENT.items()
    )
    is_new = "!c.?env.orValue([]).exists(w, w.name == e.name)"
    return (
        f"object.spec.{kind}.map(c, {path}{{name: c.name,"
        f" volumeMounts: {is_mounted} ? [] : [{mount}],"
        f" env: [{variables}].filter(e, {is_new})}})"
    )


def added_volume() -> str:
    """The volume, where it is not there yet; the list, where there is none."""
    exists = f"object.spec.?volumes.orValue([]).exists(v, {IS_OURS})"
    empty = '(has(object.spec.volumes) ? [] : [JSONPatch{op: "add", path: "/spec/volumes",'
    added = f'JSONPatch{{op: "add", path: "/spec/volumes/-", value: {_volume()}}}'
    return f'variables.refusal != "" || {exists} ? [] : {empty} value: []}}]) + [{added}]'


def _volume() -> str:
    sources = (
        f"[{_certificate_source()}, {_bundle_source(_own_bundle())}]"
        f" + variables.partners.map(p, {_bundle_source(_partner_bundle())})"
    )
    return (
        f"{_VOLUMES}{{name: {literal(VOLUME)}, projected: {_VOLUMES}.projected{{"
        f"sources: {sources}, defaultMode: {DEFAULT_MODE}}}}}"
    )


def _certificate_source() -> str:
    return (
        f"{_SOURCES}{{podCertificate: {_SOURCES}.podCertificate{{"
        "signerName: variables.signer, keyType: variables.keyType,"
        " maxExpirationSeconds: variables.lifetime,"
        f" credentialBundlePath: {literal(CREDENTIAL_BUNDLE)}}}}}"
    )


def _bundle_source(fields: str) -> str:
    return f"{_SOURCES}{{clusterTrustBundle: {_SOURCES}.clusterTrustBundle{{{fields}}}}}"


def _own_bundle() -> str:
    selector = f"{_SOURCES}.clusterTrustBundle.labelSelector"
    return (
        "signerName: variables.signer,"
        f" labelSelector: {selector}{{matchLabels: {{{literal(TRUST_DOMAIN_LABEL)}:"
        " variables.trustDomain}},"
        ' path: variables.trustDomain + ".trust-bundle.pem"'
    )


def _partner_bundle() -> str:
    return (
        f"signerName: {literal(PARTNER_SIGNER_NAME)}, optional: true,"
        f" labelSelector: {_SOURCES}.clusterTrustBundle.labelSelector"
        f"{{matchLabels: {{{literal(PARTNER_LABEL)}: p}}}},"
        ' path: variables.partnerDomains[p] + ".trust-bundle.pem"'
    )
