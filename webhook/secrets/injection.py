# SPDX-License-Identifier: Apache-2.0
"""Which Secret a pod's injected volume mounts, if the pod has our injection and may have it.

Rules:
    1. Annotation, annotated name and mounted name must agree: a Secret is made for nobody else.
    2. The namespace must be one in which the platform allows Secret mode *now*.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from webhook.choice import INJECTED, SECRET, ZONE, choose
from webhook.config import Mode
from webhook.exceptions import AdmissionDenied, IssuanceError
from webhook.issuance.allowed_mode import check_mode
from webhook.issuance.evaluation import NOT_ALLOWED
from webhook.names import VOLUME

if TYPE_CHECKING:
    from webhook.api.objects import Pod
    from webhook.config import PlatformConfig, Zone

__all__ = ("NOT_INJECTED", "is_injected", "secret_name", "zone_of_pod")

NOT_INJECTED: Final = "NotInjected"
_NAME: Final = re.compile(r"kubetls-[0-9a-f]{20}", re.ASCII)


def is_injected(pod: Pod) -> bool:
    """Whether a pod says that it waits for a Secret of ours."""
    return pod.annotations.get(INJECTED) == Mode.SECRET


def secret_name(pod: Pod, config: PlatformConfig) -> str:
    """Name the Secret that a pod's injected volume mounts.

    Raises:
        IssuanceError: The pod does not carry our injection, or may not have it; final.
    """
    name = pod.annotations.get(SECRET, "")
    volume = pod.volume(VOLUME)
    mounted = volume.secret_name if volume is not None else None
    if not is_injected(pod) or mounted != name or not _NAME.fullmatch(name):
        raise IssuanceError("the pod does not carry our injection", reason=NOT_INJECTED)
    check_mode(pod.namespace, Mode.SECRET, config)
    return name


def zone_of_pod(pod: Pod, config: PlatformConfig) -> Zone:
    """The zone of a pod: the one it names, or its namespace's first.

    Raises:
        IssuanceError: The namespace may not have that zone; final.
    """
    annotations = {key: pod.annotations[key] for key in (ZONE,) if key in pod.annotations}
    try:
        return choose(config, pod.namespace, annotations).zone
    except AdmissionDenied as err:
        raise IssuanceError(str(err), reason=NOT_ALLOWED) from err
