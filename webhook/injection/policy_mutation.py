# SPDX-License-Identifier: Apache-2.0
"""The mutation of a MutatingAdmissionPolicy, in CEL: what `mutation` does, one pod at a time.

Rules:
    1. What the author wrote is never replaced: only what is not there is added.
    2. Volumes go by JSON Patch: their lists are atomic, and no apply configuration may set them.
"""

from __future__ import annotations

from typing import Final

from webhook.choice import INJECTED
from webhook.injection.cel import HAS_STORE, IS_CSI, literal
from webhook.injection.container import CREDENTIAL_FOLDER, STORE_MOUNTS, TRUST_DOMAIN
from webhook.injection.trust_store import FILES, VARIABLES
from webhook.injection.volume import DEFAULT_MODE
from webhook.names import (
    CREDENTIAL_BUNDLE,
    CSI_DRIVER,
    TRUST_DOMAIN_LABEL,
    TRUST_STORE_VOLUME,
    VOLUME,
)

__all__ = ("ENVIRONMENT", "IS_OURS", "IS_STORE", "added_volumes", "equipped_containers")

ENVIRONMENT: Final = {
    CREDENTIAL_FOLDER: "variables.mountPath",
    TRUST_DOMAIN: "variables.trustDomain",
}
"""Environment variables, and the expressions of their values."""

IS_OURS: Final = f"v.name == {literal(VOLUME)}"
"""Whether a volume `v` has our name."""

IS_STORE: Final = f"v.name == {literal(TRUST_STORE_VOLUME)}"
"""Whether a volume `v` has the trust store's name."""

_VOLUMES: Final = "Object.spec.volumes"
_SOURCES: Final = f"{_VOLUMES}.projected.sources"


def equipped_containers() -> str:
    """Mounts and variables that are not there yet, for each container; and the annotation."""
    containers = _equipped("containers")
    init = _equipped("initContainers")
    return (
        'variables.refusal != "" ? Object{} : Object{'
        f"metadata: Object.metadata{{annotations: {{{literal(INJECTED)}: variables.mode}}}},"
        f" spec: Object.spec{{containers: {containers},"
        f" ?initContainers: has(object.spec.initContainers) ? optional.of({init})"
        " : optional.none()}}"
    )


def _equipped(kind: str) -> str:
    path = f"Object.spec.{kind}"
    mounts = _with_store(
        [_mount(path, VOLUME, "variables.mountPath")],
        [_mount(path, volume, literal(place)) for volume, place in STORE_MOUNTS],
    )
    variables = _with_store(
        [_variable(path, name, value) for name, value in ENVIRONMENT.items()],
        [_variable(path, name, literal(value)) for name, value in VARIABLES.items()],
    )
    is_new_place = "!c.?volumeMounts.orValue([]).exists(w, w.mountPath == m.mountPath)"
    is_new = "!c.?env.orValue([]).exists(w, w.name == e.name)"
    return (
        f"object.spec.{kind}.map(c, {path}{{name: c.name,"
        f" volumeMounts: ({mounts}).filter(m, {is_new_place}),"
        f" env: ({variables}).filter(e, {is_new})}})"
    )


def _with_store(always: list[str], with_store: list[str]) -> str:
    return f"[{', '.join(always)}] + ({HAS_STORE} ? [{', '.join(with_store)}] : [])"


def _mount(path: str, volume: str, place: str) -> str:
    return f"{path}.volumeMounts{{name: {literal(volume)}, mountPath: {place}, readOnly: true}}"


def _variable(path: str, name: str, value: str) -> str:
    return f"{path}.env{{name: {literal(name)}, value: {value}}}"


def added_volumes() -> str:
    """The volumes that are not there yet; the list, where there is none."""
    exists = "object.spec.?volumes.orValue([]).exists(v, {})"
    is_there = f"{exists.format(IS_OURS)} && (!({HAS_STORE}) || {exists.format(IS_STORE)})"
    empty = '(has(object.spec.volumes) ? [] : [JSONPatch{op: "add", path: "/spec/volumes",'
    own, store = (
        f'JSONPatch{{op: "add", path: "/spec/volumes/-", value: {volume}}}'
        for volume in (_volume(), _store())
    )
    return (
        f'variables.refusal != "" || ({is_there}) ? [] : {empty} value: []}}])'
        f" + ({exists.format(IS_OURS)} ? [] : [{own}])"
        f" + ({exists.format(IS_STORE)} || !({HAS_STORE}) ? [] : [{store}])"
    )


def _volume() -> str:
    own = _bundle_source(_own_bundle('variables.trustDomain + ".trust-bundle.pem"'))
    partners = f"variables.partners.map(p, {_bundle_source(_partner_bundle())})"
    projected = _projected(VOLUME, f"[{_certificate_source()}, {own}] + {partners}")
    return f"{IS_CSI} ? {_of_driver()} : {projected}"


def _of_driver() -> str:
    return (
        f"{_VOLUMES}{{name: {literal(VOLUME)},"
        f" csi: {_VOLUMES}.csi{{driver: {literal(CSI_DRIVER)}, readOnly: true}}}}"
    )


def _store() -> str:
    sources = f"{literal(FILES)}.map(f, {_bundle_source(_own_bundle('f'))})"
    return _projected(TRUST_STORE_VOLUME, sources)


def _projected(name: str, sources: str) -> str:
    return (
        f"{_VOLUMES}{{name: {literal(name)}, projected: {_VOLUMES}.projected{{"
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


def _own_bundle(file: str) -> str:
    selector = f"{_SOURCES}.clusterTrustBundle.labelSelector"
    return (
        "signerName: variables.signer,"
        f" labelSelector: {selector}{{matchLabels: {{{literal(TRUST_DOMAIN_LABEL)}:"
        " variables.trustDomain}},"
        f" path: {file}"
    )


def _partner_bundle() -> str:
    return (
        "signerName: variables.partnerSigners[p], optional: true,"
        f" labelSelector: {_SOURCES}.clusterTrustBundle.labelSelector"
        "{matchLabels: variables.partnerLabels[p]},"
        ' path: variables.partnerDomains[p] + ".trust-bundle.pem"'
    )
