# SPDX-License-Identifier: Apache-2.0
"""Ephemeral containers that are added to an injected pod, for debugging.

They get what the pod's other containers have, whatever the configuration says by now.

Rules:
    1. Debugging is never refused: a container with something else at the place stays as it is,
       with a warning.
    2. Only new ones are touched: the API server lets nobody change those that run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from webhook.exceptions import AdmissionDenied
from webhook.injection.container import (
    CREDENTIAL_FOLDER,
    STORE_MOUNTS,
    TRUST_DOMAIN,
    Equipment,
    Mount,
)
from webhook.injection.shape import mapping_in, mappings_in, text_in
from webhook.injection.trust_store import VARIABLES
from webhook.names import TRUST_STORE_VOLUME, VOLUME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from webhook.injection.container import Operation

__all__ = ("equip_ephemeral",)

_KIND: Final = "ephemeralContainers"
_VARIABLES: Final = (CREDENTIAL_FOLDER, TRUST_DOMAIN)


def equip_ephemeral(
    pod: Mapping[str, Any], old_pod: Mapping[str, Any]
) -> tuple[list[Operation], list[str]]:
    """Equip the ephemeral containers that the old pod does not have.

    Returns:
        Operations, and the names of containers that were left alone.
    """
    spec = mapping_in(pod, "spec")
    equipment = _equipment_of(mappings_in(spec, "containers"))
    known = {text_in(each, "name") for each in mappings_in(mapping_in(old_pod, "spec"), _KIND)}
    operations: list[Operation] = []
    refused: list[str] = []
    for index, container in enumerate(mappings_in(spec, _KIND)):
        name = text_in(container, "name")
        if equipment is None or name in known:
            continue
        try:
            operations += equipment.operations(container, f"/spec/{_KIND}/{index}")
        except AdmissionDenied:
            refused.append(name)
    return operations, refused


def _equipment_of(containers: Iterable[Mapping[str, Any]]) -> Equipment | None:
    """What the first container with the volume has; None: none has it."""
    for container in containers:
        mounts = {
            text_in(mount, "name"): text_in(mount, "mountPath")
            for mount in reversed(mappings_in(container, "volumeMounts"))
        }
        if VOLUME in mounts:
            environment = {
                text_in(each, "name"): text_in(each, "value")
                for each in mappings_in(container, "env")
                if text_in(each, "name") in _VARIABLES
            }
            has_store = mounts.get(TRUST_STORE_VOLUME) == STORE_MOUNTS[0].path
            store = STORE_MOUNTS if has_store else ()
            return Equipment(
                mounts=(Mount(VOLUME, mounts[VOLUME]), *store),
                environment={**environment, **(VARIABLES if store else {})},
            )
    return None
