# SPDX-License-Identifier: Apache-2.0
"""What is added to a pod: volumes, their mounts and environment in every container, annotations.

A pure function of the pod as it came. On a pod that has everything it returns nothing; where
another webhook added a container meanwhile, it returns what that one lacks.

Rules:
    1. Nothing is removed or replaced, our own annotations apart.
    2. Nothing secret is in it: whoever reaches the port can ask for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from webhook.choice import INJECTED, SECRET
from webhook.config import Mode, TrustStore
from webhook.exceptions import AdmissionDenied
from webhook.injection.container import (
    CREDENTIAL_FOLDER,
    OUR_VOLUMES,
    STORE_MOUNTS,
    TRUST_DOMAIN,
    Equipment,
    Mount,
    appended,
)
from webhook.injection.shape import mapping_in, mappings_in, text_in, texts_in
from webhook.injection.trust_store import VARIABLES
from webhook.injection.volume import build_volumes, existing_secret
from webhook.names import VOLUME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.choice import Choice
    from webhook.injection.container import Operation

__all__ = ("existing_volume", "mutate")

_CONTAINERS: Final = ("initContainers", "containers")
_READ_ONLY_KINDS: Final = frozenset({"configMap", "downwardAPI", "image", "projected", "secret"})


def mutate(pod: Mapping[str, Any], *, choice: Choice, mode: Mode, secret: str) -> list[Operation]:
    """Make the operations that inject a pod.

    Args:
        pod: As it came; not changed.
        choice: What it gets.
        mode: How.
        secret: Name for a new Secret; only for that mode.

    Raises:
        AdmissionDenied: Something in the pod contradicts it.
        ReviewError: The object is not a pod.
    """
    spec = mapping_in(pod, "spec")
    annotations = texts_in(mapping_in(pod, "metadata"), "annotations")
    existing = existing_volume(spec)
    if existing is not None:
        secret = existing_secret(existing, annotations) or secret
    volumes = build_volumes(choice, mode, secret=secret)
    missing = [volume for volume in volumes if not _has(spec, volume)]
    operations = appended(spec.get("volumes"), "/spec/volumes", missing)
    equipment = _equipment(choice, spec)
    for kind in _CONTAINERS:
        for index, container in enumerate(mappings_in(spec, kind)):
            operations += equipment.operations(container, f"/spec/{kind}/{index}")
    wanted = {INJECTED: mode.value, **({SECRET: secret} if mode is Mode.SECRET else {})}
    return operations + _annotated(pod, annotations, wanted)


def existing_volume(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """The volume of our name."""
    return _named(spec, VOLUME)


def _named(spec: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    volumes = mappings_in(spec, "volumes")
    return next((each for each in volumes if text_in(each, "name") == name), None)


def _has(spec: Mapping[str, Any], volume: Mapping[str, Any]) -> bool:
    existing = _named(spec, volume["name"])
    if existing is not None and existing != volume:
        raise AdmissionDenied(
            f"volume {volume['name']!r}: expected no volume of this name, as it is the one that is"
            " added; got another one"
        )
    return existing is not None


def _equipment(choice: Choice, spec: Mapping[str, Any]) -> Equipment:
    has_store = choice.trust_store is TrustStore.INTERNAL
    return Equipment(
        mounts=(Mount(VOLUME, choice.mount_path), *(STORE_MOUNTS if has_store else ())),
        environment={
            CREDENTIAL_FOLDER: choice.mount_path,
            TRUST_DOMAIN: str(choice.zone.trust_domain),
            **(VARIABLES if has_store else {}),
        },
        read_only_volumes=OUR_VOLUMES
        | {
            text_in(volume, "name")
            for volume in mappings_in(spec, "volumes")
            if not _READ_ONLY_KINDS.isdisjoint(volume)
        },
    )


def _annotated(
    pod: Mapping[str, Any], annotations: Mapping[str, str], wanted: Mapping[str, str]
) -> list[Operation]:
    missing = {name: value for name, value in wanted.items() if annotations.get(name) != value}
    if not missing:
        return []
    if pod.get("metadata") is None:
        return [{"op": "add", "path": "/metadata", "value": {"annotations": missing}}]
    if mapping_in(pod, "metadata").get("annotations") is None:
        return [{"op": "add", "path": "/metadata/annotations", "value": missing}]
    return [
        {"op": "add", "path": f"/metadata/annotations/{name.replace('/', '~1')}", "value": value}
        for name, value in missing.items()
    ]
