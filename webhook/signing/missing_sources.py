# SPDX-License-Identifier: Apache-2.0
"""Pods that were injected and will not get what they wait for: said in an Event, and counted.

An API server whose gate is off drops the pod certificate from the volume without an error, and a
kubelet that is too old starts the pod without it.

Rules:
    1. One replica tells of a pod, once while it runs; a restart may repeat it.
    2. It only tells: the pod may be admitted and running already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from webhook import metrics
from webhook.api.events import reference
from webhook.api.resources import PODS
from webhook.choice import INJECTED
from webhook.config import Mode
from webhook.names import VOLUME
from webhook.node_version import old_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api import EventRecorder, Informer, Pod
    from webhook.signing.shares import Replicas

__all__ = ("MissingSources", "old_node")

DROPPED: Final = (
    "the API server dropped the podCertificate source from this pod's volume: its feature gate"
    " PodCertificateRequest is off, so the pod gets no key and certificate"
)
TOO_OLD: Final = (
    "the kubelet of this pod's node is too old for pod certificates: the pod gets no key and"
    " certificate; recreate it on another node"
)


def old_node(node: Mapping[str, Any]) -> str | None:
    """Keep the name of a node that is too old, and nothing of any other."""
    return next(iter(old_nodes([node])), None)


class MissingSources:
    """Watches for such pods.

    Args:
        pods: All pods.
        nodes: The names of nodes that are too old.
        events: Where Events go.
        replicas: Among which the pods are divided.
    """

    def __init__(
        self,
        pods: Informer[Pod],
        nodes: Informer[str],
        *,
        events: EventRecorder,
        replicas: Replicas,
    ) -> None:
        self._pods = pods
        self._nodes = nodes
        self._events = events
        self._replicas = replicas
        self._told: set[tuple[str, str]] = set()

    def look(self) -> list[tuple[Pod, str]]:
        """Find the pods of this replica's share that nothing was said of yet, and why."""
        found = []
        known = set()
        for pod in self._pods.values():
            problem = self._problem(pod)
            if problem is not None and self._replicas.owns(pod.uid):
                known.add((pod.uid, problem))
                if (pod.uid, problem) not in self._told:
                    found.append((pod, problem))
        self._told = known
        return found

    async def tell(self) -> None:
        """Tell of what `look` finds."""
        for pod, problem in self.look():
            metrics.UNINJECTED.inc()
            await self._events.event(
                reference(PODS, pod), "Warning", "MissingPodCertificate", problem, action="Inject"
            )

    def _problem(self, pod: Pod) -> str | None:
        if pod.annotations.get(INJECTED) != Mode.POD_CERTIFICATE or pod.has_ended:
            return None
        volume = pod.volume(VOLUME)
        if volume is None or not volume.signer_names:
            return DROPPED
        if pod.node_name and self._nodes.get(None, pod.node_name) is not None:
            return TOO_OLD
        return None
