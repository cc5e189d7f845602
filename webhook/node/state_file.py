# SPDX-License-Identifier: Apache-2.0
"""The file in which a volume says whose it is, for the process that runs after this one.

Rules:
    1. It holds a publication: no key and no token.
    2. It is believed no more than a request: the same checks, and of the file's own form too.
    3. It is replaced whole, so that it is never half-written.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from webhook.node.publication import (
    InvalidPublication,
    PodReference,
    Publication,
    check_place,
    parse_group,
    parse_target,
    parse_volume_id,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("read_state", "write_state")

_NAME: Final = "state.json"
_NEXT: Final = "state.json.next"
_MODE: Final = 0o600
_MOST_BYTES: Final = 65536


def write_state(home: Path, publication: Publication) -> None:
    """Write the file of a volume.

    Raises:
        OSError: The disk fails or is full.
    """
    descriptor = os.open(home / _NEXT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(_document(publication), file)
    (home / _NEXT).replace(home / _NAME)


def read_state(home: Path, kubelet_folder: Path) -> Publication:
    """Read the file of a volume.

    Raises:
        InvalidPublication: It is not what `write_state` writes.
        OSError: It is not there, or cannot be read.
        ValueError: It is not JSON.
    """
    descriptor = os.open(home / _NAME, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, encoding="utf-8") as file:
        text = file.read(_MOST_BYTES)
    try:
        return _publication(json.loads(text), kubelet_folder)
    except RecursionError:
        raise ValueError("expected an object, got a deep nest") from None


def _document(publication: Publication) -> dict[str, Any]:
    pod = publication.pod
    return {
        "volume": publication.volume_id,
        "target": str(publication.target),
        "group": publication.group,
        "pod": {
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "serviceAccount": pod.service_account,
        },
    }


def _publication(document: Any, kubelet_folder: Path) -> Publication:
    try:
        pod, group = document["pod"], document["group"]
        found = Publication(
            parse_volume_id(str(document["volume"])),
            parse_target(str(document["target"]), kubelet_folder),
            PodReference.parse(
                namespace=pod["namespace"],
                name=pod["name"],
                uid=pod["uid"],
                service_account=pod["serviceAccount"],
            ),
            None if group is None else parse_group(str(group)),
        )
    except (KeyError, TypeError) as error:
        raise InvalidPublication("state.json", f"expected our fields, got {error!r}") from None
    check_place(found.target, found.pod, kubelet_folder)
    return found
