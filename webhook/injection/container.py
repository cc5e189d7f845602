# SPDX-License-Identifier: Apache-2.0
"""One container: its mounts of our volumes, and its environment.

Rules:
    1. What the author wrote is never replaced: the same is fine, anything else is refused with the
       names of the container and the field.
    2. Nothing may be mounted at the place of a volume or below it, where it would hide files;
       nor read only above it, where the place could not be made.

Spec: RFC 6902 §4.1, RFC 6901 for the operations.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from webhook.exceptions import AdmissionDenied
from webhook.injection.shape import flag_in, mappings_in, text_in
from webhook.injection.trust_store import OPTION_LISTS
from webhook.names import TRUST_STORE_PLACES, TRUST_STORE_VOLUME, VOLUME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

__all__ = (
    "CREDENTIAL_FOLDER",
    "OUR_VOLUMES",
    "STORE_MOUNTS",
    "TRUST_DOMAIN",
    "Equipment",
    "Mount",
    "Operation",
    "appended",
)

CREDENTIAL_FOLDER: Final = "SPIFFE_CREDENTIAL_FOLDER"
TRUST_DOMAIN: Final = "KUBETLS_TRUST_DOMAIN"
OUR_VOLUMES: Final = frozenset({VOLUME, TRUST_STORE_VOLUME})

Operation = dict[str, Any]
"""One operation of a JSON Patch."""


class Mount(NamedTuple):
    """Where a volume is in a container."""

    volume: str
    path: str


STORE_MOUNTS: Final = tuple(Mount(TRUST_STORE_VOLUME, path) for path in TRUST_STORE_PLACES)


@dataclass(frozen=True, slots=True)
class Equipment:
    """What each container of a pod gets.

    Attributes:
        mounts: Where our volumes are; none of them below another.
        environment: Variables and their values.
        read_only_volumes: Names of volumes in which nobody can make a folder; ours are.
    """

    mounts: Sequence[Mount]
    environment: Mapping[str, str]
    read_only_volumes: Set[str] = OUR_VOLUMES

    def operations(self, container: Mapping[str, Any], pointer: str) -> list[Operation]:
        """Equip a container.

        Args:
            container: As it came.
            pointer: JSON Pointer to it.

        Raises:
            AdmissionDenied: The author wrote something that contradicts it.
        """
        name = text_in(container, "name")
        mounts = self._mounts(container, f"{pointer}/volumeMounts", name)
        return mounts + self._environment(container, f"{pointer}/env", name)

    def _mounts(self, container: Mapping[str, Any], pointer: str, name: str) -> list[Operation]:
        operations: list[Operation] = []
        missing = []
        existing = mappings_in(container, "volumeMounts")
        for wanted in self.mounts:
            found = False
            for index, mount in enumerate(existing):
                if _is_that(mount, wanted):
                    operations += _protected(mount, f"{pointer}/{index}")
                    found = True
                else:
                    self._check_mount(mount, wanted.path, name)
            if not found:
                added = {"name": wanted.volume, "mountPath": wanted.path, "readOnly": True}
                missing.append(added)
        return operations + appended(container.get("volumeMounts"), pointer, missing)

    def _check_mount(self, mount: Mapping[str, Any], wanted: str, name: str) -> None:
        path, volume = text_in(mount, "mountPath"), text_in(mount, "name")
        other, place = _place(path), _place(wanted)
        is_below = other[: len(place)] == place
        is_above = place[: len(other)] == other and (
            flag_in(mount, "readOnly") or volume in self.read_only_volumes
        )
        if is_below or is_above:
            raise AdmissionDenied(
                f"container {name!r}: expected nothing else mounted at {wanted},"
                f" below it or read only above it, got volume {volume!r} at {path!r}"
            )

    def _environment(
        self, container: Mapping[str, Any], pointer: str, name: str
    ) -> list[Operation]:
        written = set()
        for variable in mappings_in(container, "env"):
            wanted = self.environment.get(text_in(variable, "name"))
            if wanted is not None:
                _check_variable(variable, wanted, name)
                written.add(variable["name"])
        missing = [
            {"name": key, "value": value}
            for key, value in self.environment.items()
            if key not in written
        ]
        return appended(container.get("env"), pointer, missing)


def appended(existing: Any, pointer: str, values: list[dict[str, Any]]) -> list[Operation]:
    """Make the operations that add values to a list that may be absent."""
    if not values:
        return []
    if existing is None:
        return [{"op": "add", "path": pointer, "value": values}]
    return [{"op": "add", "path": f"{pointer}/-", "value": value} for value in values]


def _is_that(mount: Mapping[str, Any], wanted: Mount) -> bool:
    """Whether our volume is mounted there, all of it: a sub path is never refreshed."""
    part = mount.get("subPath") or mount.get("subPathExpr")
    is_ours = text_in(mount, "name") == wanted.volume and not part
    return is_ours and _place(text_in(mount, "mountPath")) == _place(wanted.path)


def _protected(mount: Mapping[str, Any], pointer: str) -> list[Operation]:
    if flag_in(mount, "readOnly"):
        return []
    return [{"op": "add", "path": f"{pointer}/readOnly", "value": True}]


def _check_variable(variable: Mapping[str, Any], wanted: str, name: str) -> None:
    value = text_in(variable, "value")  # it is absent beside `valueFrom`
    is_list = variable["name"] in OPTION_LISTS
    if value != wanted and not (is_list and wanted in value.split(" ")):
        raise AdmissionDenied(
            f"container {name!r}: expected variable {variable['name']}"
            f" to {'have' if is_list else 'be'} {wanted!r} or absent, got another value"
        )


def _place(path: str) -> list[str]:
    """The folders of a path as a container runtime sees it; `/var/run` is a link to `/run`."""
    parts = [part for part in posixpath.normpath(f"/{path}").split("/") if part]
    return parts[1:] if parts[:2] == ["var", "run"] else parts
