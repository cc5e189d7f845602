# SPDX-License-Identifier: Apache-2.0
"""Container images without a registry: one layer, made of files of this machine.

Spec: OCI Image Format 1.0 (layout, manifest, config), as a tar file that `ctr images import` reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_INDEX = "application/vnd.oci.image.index.v1+json"


class Link(NamedTuple):
    """A symbolic link in an image."""

    target: str


class Script(NamedTuple):
    """A file in an image that everybody may execute."""

    text: str


# Absolute path in the image to a file of this machine, a content, a script, or a link.
Tree: TypeAlias = "Mapping[str, Path | bytes | Script | Link]"


def write_image(
    path: Path,
    name: str,
    tree: Tree,
    *,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    user: int = 0,
) -> Path:
    """Write an image as a tar file.

    Args:
        path: The file to write.
        name: Its full name with a tag, for example `kubetls.example/app:1`.
        tree: Absolute path in the image to a file of this machine, a content, a script, or a link.
        command: What a container runs.
        environment: Its variables.
        user: Whose rights it has.
    """
    layer = path.with_suffix(".layer")
    digest = _write_layer(layer, tree)
    config = _json(_config(digest, command, environment or {}, user))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [{"mediaType": _LAYER, "digest": digest, "size": layer.stat().st_size}],
        }
    )
    with tarfile.open(path, "w") as archive:
        _add_bytes(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add_bytes(archive, "index.json", _json(_index(name, manifest)))
        for blob in (config, manifest):
            _add_bytes(archive, _blob_name(_digest(blob)), blob)
        archive.add(layer, _blob_name(digest))
    layer.unlink()
    return path


def _write_layer(path: Path, tree: Tree) -> str:
    with tarfile.open(path, "w") as layer:
        for folder in ("tmp", "proc", "sys", "dev", "etc", "run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)
        for name, content in sorted(tree.items()):
            _add(layer, name.lstrip("/"), content)
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _add(layer: tarfile.TarFile, name: str, content: Path | bytes | Script | Link) -> None:
    if isinstance(content, bytes):
        _add_bytes(layer, name, content)
    elif isinstance(content, Script):
        _add_bytes(layer, name, content.text.encode(), mode=0o755)
    elif isinstance(content, Link):
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, content.target
        layer.addfile(entry)
    else:
        with content.open("rb") as file:
            entry = layer.gettarinfo(name, arcname=name, fileobj=file)
            entry.type, entry.uid, entry.gid = tarfile.REGTYPE, 0, 0
            entry.mode |= 0o444  # For any user, whatever the umask here was.
            layer.addfile(entry, file)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _config(
    layer_digest: str, command: Sequence[str], environment: Mapping[str, str], user: int
) -> dict[str, Any]:
    variables = {"PATH": "/bin:/usr/bin", **environment}
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": list(command),
            "Env": [f"{key}={value}" for key, value in variables.items()],
            "User": str(user),
        },
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    }


def _index(name: str, manifest: bytes) -> dict[str, Any]:
    # containerd takes its own key; `org.opencontainers.image.ref.name` may be a tag only.
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    descriptor = {**_descriptor(_MANIFEST, manifest), "annotations": names}
    return {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [descriptor]}


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
