# SPDX-License-Identifier: Apache-2.0
"""What a container of a pod would see, told in paths of this machine: pure functions of the pod.

Rules:
1. A path below a mount becomes the path where the kubelet wrote that volume.
2. Only what the pod itself says is translated; the program's own defaults stay.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PLUGINS = {
    "projected": "projected",
    "secret": "secret",
    "configMap": "configmap",
    "emptyDir": "empty-dir",
    "csi": "csi",
}
_HOST_PATH = "hostPath"


def container_of(pod: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
    """A container by name, or the first one.

    Raises:
        KeyError: There is none of that name.
    """
    for container in pod["spec"]["containers"]:
        if name is None or container["name"] == name:
            found: dict[str, Any] = container
            return found
    raise KeyError(name)


def mounted_paths(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    volume_of: Callable[[str, str], Path],
    host_path: Callable[[str], Path] = Path,
) -> dict[str, Path]:
    """Each mount path, and where its files are.

    Args:
        pod: The pod as the API server has it.
        container: One of its containers.
        volume_of: From a volume's name and kind of plug-in to its folder on this machine.
        host_path: From a path of the node itself to the one of this machine.
    """
    folders = {
        volume["name"]: host_path(volume[source]["path"])
        if source == _HOST_PATH
        else volume_of(volume["name"], _PLUGINS[source])
        for volume in pod["spec"].get("volumes", [])
        for source in (_HOST_PATH, *_PLUGINS)
        if source in volume
    }
    return {
        mount["mountPath"].rstrip("/"): folders[mount["name"]]
        for mount in container.get("volumeMounts", [])
        if mount["name"] in folders
    }


def mounts_for_others(container: Mapping[str, Any]) -> bool:
    """Whether what the container mounts is seen outside of it."""
    return any(
        mount.get("mountPropagation") == "Bidirectional"
        for mount in container.get("volumeMounts", [])
    )


def translated(text: str, paths: Mapping[str, Path]) -> str:
    """The text with each path below a mount replaced by the path on this machine."""
    if not paths:
        return text
    longest_first = sorted(paths, key=len, reverse=True)
    pattern = "|".join(re.escape(path) for path in longest_first)
    return re.sub(rf"({pattern})(?=/|$)", lambda found: str(paths[found[1]]), text)


def environment_of(
    pod: Mapping[str, Any], container: Mapping[str, Any], paths: Mapping[str, Path]
) -> dict[str, str]:
    """The container's variables: plain values and fields of the pod.

    Raises:
        ValueError: A variable comes from somewhere else.
    """
    return {
        variable["name"]: translated(_value(pod, variable), paths)
        for variable in container.get("env", [])
    }


def _value(pod: Mapping[str, Any], variable: Mapping[str, Any]) -> str:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if "fieldRef" not in source:
        raise ValueError(f"expected a value or a fieldRef for {variable['name']}")
    found: Any = pod
    for part in source["fieldRef"]["fieldPath"].split("."):
        found = found[part]
    return str(found)
