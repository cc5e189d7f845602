# SPDX-License-Identifier: Apache-2.0
"""One container: its mount of the volume, and its environment.

Rules:
    1. What the author wrote is never replaced: the same is fine, anything else is refused with the
       names of the container and the field.
    2. Nothing may be mounted at the place of the volume or below it, where it would hide files;
       nor read only above it, where the place could not be made.

Spec: RFC 6902 §4.1, RFC 6901 for the operations.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from webhook.exceptions import AdmissionDenied
from webhook.injection.shape import flag_in, mappings_in, text_in
from webhook.names import VOLUME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

__all__ = ("CREDENTIAL_FOLDER", "TRUST_DOMAIN", "Equipment", "Operation", "appended")

CREDENTIAL_FOLDER: Final = "SPIFFE_CREDENTIAL_FOLDER"
TRUST_DOMAIN: Final = "KUBETLS_TRUST_DOMAIN"

Operation = dict[str, Any]
"""One operation of a JSON Patch."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What each container of a pod gets.

    Attributes:
        mount_path: Where the volume is.
        environment: Variables and their values.
        read_only_volumes: Names of volumes in which nobody can make a folder; ours is one.
    """

    mount_path: str
    environment: Mapping[str, str]
    read_only_volumes: Set[str] = frozenset({VOLUME})

    def operations(self, container: Mapping[str, Any], pointer: str) -> list[Operation]:
        """Equip a container.

        Args:
            container: As it came.
            pointer: JSON Pointer to it.

        Raises:
            AdmissionDenied: The author wrote something that contradicts it.
        """
        name = text_in(container, "name")
        mount = self._mount(container, f"{pointer}/volumeMounts", name)
        return mount + self._environment(container, f"{pointer}/env", name)

    def _mount(self, container: Mapping[str, Any], pointer: str, name: str) -> list[Operation]:
        mounts = mappings_in(container, "volumeMounts")
        place = _place(self.mount_path)
        found: list[Operation] | None = None
        for index, mount in enumerate(mounts):
            if _is_whole(mount) and _place(text_in(mount, "mountPath")) == place:
                found = _protected(mount, f"{pointer}/{index}")
            else:
                self._check_mount(mount, place, name)
        if found is not None:
            return found
        added = {"name": VOLUME, "mountPath": self.mount_path, "readOnly": True}
        return appended(container.get("volumeMounts"), pointer, [added])

    def _check_mount(self, mount: Mapping[str, Any], place: Sequence[str], name: str) -> None:
        path, volume = text_in(mount, "mountPath"), text_in(mount, "name")
        other = _place(path)
        is_below = other[: len(place)] == place
        is_above = place[: len(other)] == other and (
            flag_in(mount, "readOnly") or volume in self.read_only_volumes
        )
        if is_below or is_above:
            raise AdmissionDenied(
                f"container {name!r}: expected nothing else mounted at {self.mount_path},"
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


def _is_whole(mount: Mapping[str, Any]) -> bool:
    """Whether our volume is mounted, all of it: a sub path is never refreshed."""
    part = mount.get("subPath") or mount.get("subPathExpr")
    return text_in(mount, "name") == VOLUME and not part


def _protected(mount: Mapping[str, Any], pointer: str) -> list[Operation]:
    if flag_in(mount, "readOnly"):
        return []
    return [{"op": "add", "path": f"{pointer}/readOnly", "value": True}]


def _check_variable(variable: Mapping[str, Any], wanted: str, name: str) -> None:
    if text_in(variable, "value") != wanted:  # it is absent beside `valueFrom`
        raise AdmissionDenied(
            f"container {name!r}: expected variable {variable['name']} to be {wanted!r}"
            " or absent, got another value"
        )


def _place(path: str) -> list[str]:
    """The folders of a path as a container runtime sees it; `/var/run` is a link to `/run`."""
    parts = [part for part in posixpath.normpath(f"/{path}").split("/") if part]
    return parts[1:] if parts[:2] == ["var", "run"] else parts
