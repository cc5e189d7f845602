# SPDX-License-Identifier: Apache-2.0
"""What the kubelet asks a driver for: a pod's volume at a path, and the pod's token beside it.

Rules:
    1. Whatever is missing, cannot be kept, or is not ours to serve, is refused by its field's name.
    2. The volume is ephemeral, of the pod that mounts it, and read-only; a pod that could write
       would be told that it may, and fail later.
    3. A target is a path strictly inside the kubelet's folder, already in its shortest form; that
       of a publication is in its own pod's folder, so that no pod is shown what is another's. That
       no component of it is a symlink is for who walks it: `webhook.node.target`.
    4. The token is not part of a publication, so that it is nowhere stored, compared or shown.

Spec: CSI 1.13, NodePublishVolume; Kubernetes CSIDriver `podInfoOnMount`, `tokenRequests`.
"""

from __future__ import annotations

import json
import os.path
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webhook.exceptions import WebhookError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.node.protocol.csi_pb2 import NodePublishVolumeRequest, VolumeCapability

__all__ = (
    "InvalidPublication",
    "PodReference",
    "Publication",
    "check_place",
    "parse_group",
    "parse_target",
    "parse_token",
    "parse_volume_id",
)

_EPHEMERAL: Final = "csi.storage.k8s.io/ephemeral"
_NAMESPACE: Final = "csi.storage.k8s.io/pod.namespace"
_NAME: Final = "csi.storage.k8s.io/pod.name"
_UID: Final = "csi.storage.k8s.io/pod.uid"
_SERVICE_ACCOUNT: Final = "csi.storage.k8s.io/serviceAccount.name"
_TOKENS: Final = "csi.storage.k8s.io/serviceAccount.tokens"

_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SUBDOMAIN: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.ASCII)
_UID_FORM: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_GROUP_FORM: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_TOKEN_FORM: Final = re.compile(r"[!-~]{1,16384}", re.ASCII)
_MOST_ID_BYTES: Final = 128
_MOST_PATH_BYTES: Final = 4095
_MOST_GROUP: Final = 2**32 - 2
_FILE_SYSTEMS: Final = ("", "tmpfs")


class InvalidPublication(WebhookError):  # noqa: N818 - a verdict on a request, not a fault of ours
    """A request that no retry makes right.

    Attributes:
        field: Which field of the request, by its name on the wire.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class PodReference:
    """A pod as the kubelet names it; what the API server proves of it is another matter.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its UID, which no later pod of that name has.
        service_account: The service account that it runs as.
    """

    namespace: str
    name: str
    uid: str
    service_account: str

    @classmethod
    def parse(
        cls, *, namespace: object, name: object, uid: object, service_account: object
    ) -> PodReference:
        """Take a pod from what the kubelet, or a file of ours, says of it.

        Raises:
            InvalidPublication: A part is missing or has a form that Kubernetes does not allow.

        Spec: Kubernetes, CSIDriver `podInfoOnMount`.
        """
        return cls(
            _kubernetes_name(_NAMESPACE, namespace, _SUBDOMAIN),
            _kubernetes_name(_NAME, name, _SUBDOMAIN),
            _kubernetes_name(_UID, uid, _UID_FORM),
            _kubernetes_name(_SERVICE_ACCOUNT, service_account, _SUBDOMAIN),
        )

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Publication:
    """A volume of a pod, at its place.

    Attributes:
        volume_id: The kubelet's name of the volume, unique on the node.
        target: Where it is to be found, absolute.
        pod: Whose.
        group: The pod's `fsGroup`, which may read the files; None: whoever has the volume may.
    """

    volume_id: str
    target: Path
    pod: PodReference
    group: int | None = None

    @classmethod
    def parse(cls, request: NodePublishVolumeRequest, kubelet_folder: Path) -> Publication:
        """Take a publication from a request, all of it but the token.

        Args:
            request: As received.
            kubelet_folder: The folder in which targets are, absolute.

        Raises:
            InvalidPublication: A field is missing or cannot be served.

        Spec: CSI 1.13, NodePublishVolume.
        """
        volume_id = parse_volume_id(request.volume_id)
        target = parse_target(request.target_path, kubelet_folder)
        group = _parse_capability(request)
        _require_ephemeral(request)
        pod = _parse_pod(request.volume_context)
        check_place(target, pod, kubelet_folder)
        return cls(volume_id, target, pod, group)


def parse_volume_id(volume_id: str) -> str:
    """Check the name of a volume: of any form, for it is never part of a path.

    Raises:
        InvalidPublication: It is missing or longer than the interface allows.
    """
    if not volume_id:
        raise InvalidPublication("volume_id", "expected the volume's name, got nothing")
    if len(volume_id.encode()) > _MOST_ID_BYTES:
        raise InvalidPublication("volume_id", f"expected at most {_MOST_ID_BYTES} bytes")
    return volume_id


def parse_target(text: str, kubelet_folder: Path) -> Path:
    """Check the path of a target, without a look at the disk.

    Raises:
        InvalidPublication: It is missing, has `.`, `..` or empty segments, or is elsewhere.
    """
    if not text:
        raise InvalidPublication("target_path", "expected the target's path, got nothing")
    if "\0" in text or len(text.encode()) > _MOST_PATH_BYTES:
        raise InvalidPublication("target_path", "expected a path of the file system")
    shortest = text.rstrip("/")
    if os.path.normpath(shortest) != shortest or text.startswith("//"):
        raise InvalidPublication(
            "target_path", f"expected a path without '.', '..' or empty segments, got {text!r}"
        )
    target = Path(shortest)
    if kubelet_folder not in target.parents:
        raise InvalidPublication(
            "target_path", f"expected a path inside {str(kubelet_folder)!r}, got {text!r}"
        )
    return target


def check_place(target: Path, pod: PodReference, kubelet_folder: Path) -> None:
    """Check that a target is a pod's own.

    Raises:
        InvalidPublication: It is in another pod's folder, or in none.

    Spec: Kubernetes, the kubelet's folders: `pods/<UID>/volumes/kubernetes.io~csi/<name>/mount`.
    """
    folder = kubelet_folder / "pods" / pod.uid
    if folder not in target.parents:
        raise InvalidPublication(
            "target_path", f"expected a path inside {str(folder)!r}, got {str(target)!r}"
        )


def parse_token(request: NodePublishVolumeRequest, audience: str) -> str:
    """Take the pod's token for our audience, and only that one.

    Newer kubelets send it among the secrets when CSIDriver says so, all others as an attribute.

    Args:
        request: As received.
        audience: Ours; empty is the API server's own.

    Raises:
        InvalidPublication: There is none; the message holds no token.

    Spec: Kubernetes, CSIDriver `tokenRequests`, `serviceAccountTokenInSecrets`.
    """
    text = request.secrets.get(_TOKENS) or request.volume_context.get(_TOKENS) or "{}"
    try:
        token = json.loads(text)[audience]["token"]
    except (ValueError, TypeError, LookupError, RecursionError):
        token = None
    if not isinstance(token, str) or not _TOKEN_FORM.fullmatch(token):
        raise InvalidPublication(
            _TOKENS, f"expected a token for the audience {audience!r}; see CSIDriver tokenRequests"
        ) from None
    return token


def _parse_capability(request: NodePublishVolumeRequest) -> int | None:
    """The group that may read; what we cannot do for the pod is refused."""
    if not request.HasField("volume_capability"):
        raise InvalidPublication("volume_capability", "expected a mount, got nothing")
    capability: VolumeCapability = request.volume_capability
    if capability.WhichOneof("access_type") != "mount":
        raise InvalidPublication("volume_capability", "expected a mount; there is no block device")
    mount = capability.mount
    if mount.fs_type not in _FILE_SYSTEMS or mount.mount_flags:
        raise InvalidPublication("volume_capability", "expected no fs_type and no mount_flags")
    if not request.readonly:
        raise InvalidPublication(
            "readonly", "expected true: set readOnly: true at the pod's csi volume"
        )
    return parse_group(mount.volume_mount_group) if mount.volume_mount_group else None


def parse_group(text: str) -> int:
    """Check the number of a group.

    Raises:
        InvalidPublication: It is none.
    """
    if not _GROUP_FORM.fullmatch(text) or int(text) > _MOST_GROUP:
        raise InvalidPublication("volume_mount_group", f"expected a group's number, got {text!r}")
    return int(text)


def _require_ephemeral(request: NodePublishVolumeRequest) -> None:
    if request.volume_context.get(_EPHEMERAL) != "true":
        raise InvalidPublication(
            _EPHEMERAL, "expected 'true': the volume is written in the pod, not claimed"
        )


def _parse_pod(attributes: Mapping[str, str]) -> PodReference:
    return PodReference.parse(
        namespace=attributes.get(_NAMESPACE),
        name=attributes.get(_NAME),
        uid=attributes.get(_UID),
        service_account=attributes.get(_SERVICE_ACCOUNT),
    )


def _kubernetes_name(key: str, value: object, form: re.Pattern[str]) -> str:
    if not value:
        raise InvalidPublication(key, "expected a value; see CSIDriver podInfoOnMount")
    if not isinstance(value, str) or not form.fullmatch(value):
        raise InvalidPublication(key, f"expected a Kubernetes name, got {value!r}")
    return value
