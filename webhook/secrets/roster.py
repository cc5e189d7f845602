# SPDX-License-Identifier: Apache-2.0
"""Which pods wait for a Secret, or have one, and when it is due to be written.

Rules:
    1. A pod belongs to one live replica. What is known of its Secret is in memory alone: who takes
       a pod over, or was restarted, writes its Secret anew.
    2. Pods that wait to start come at once. Those that run have a Secret already, in general with
       half of its life left or more: where nothing is known of it, they are spread over some
       minutes.
    3. A change of labels or Services comes at once, also to who takes the pod over shortly after.
    4. What may have been written by another replica is not remembered.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from webhook.secrets.injection import is_injected

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.api import Informer, Pod, Service
    from webhook.delivery.plan import Plan
    from webhook.secrets.writer import Version
    from webhook.signing.requests import Key
    from webhook.signing.shares import Replicas

__all__ = ("NEWS_SECONDS", "SPREAD_SECONDS", "Held", "Roster", "Take")

SPREAD_SECONDS: Final = 300.0
NEWS_SECONDS: Final = 60.0
"""A change is news to who takes a pod over: longer than it takes to find a replica dead."""


@dataclass(frozen=True, slots=True)
class Held:
    """What this replica wrote for a pod.

    Attributes:
        version: Of the Secret.
        plan: What it holds.
        refresh_at: Unix time at which the next certificate is due.
        not_after: Unix time at which the certificate expires.
    """

    version: Version
    plan: Plan
    refresh_at: float
    not_after: float


class Take(Protocol):
    """Takes a pod up."""

    def __call__(self, pod: Pod, *, at_once: bool) -> None:
        """Put it on the list; `at_once`: also if it waits after a failure."""


class Roster:
    """The injected pods of this replica's share; let it hear of pods and Services.

    Args:
        pods: All pods.
        replicas: Among which they are divided.
        take: Called with each pod whose Secret is due, or may be.
        drop: Called with each pod that needs none any more.
        now: Unix time.

    Attributes:
        held: What was written, by the pod's UID.
    """

    def __init__(
        self,
        pods: Informer[Pod],
        replicas: Replicas,
        *,
        take: Take,
        drop: Callable[[Key], None],
        now: Callable[[], float],
    ) -> None:
        self._pods = pods
        self._replicas = replicas
        self._take = take
        self._drop = drop
        self._now = now
        self._injected: dict[str, set[str]] = {}
        self._due: dict[str, float] = {}
        self._touched: dict[str, float] = {}
        self.held: dict[str, Held] = {}

    def has(self, pod: Pod) -> bool:
        """Whether this replica keeps a Secret for a pod."""
        return _wants_secret(pod) and self._replicas.owns(pod.uid)

    def look(self, *, at_everything: bool = False) -> None:
        """Take up what is due.

        Args:
            at_everything: Take up all, to be compared with what they have: bundles or the
                configuration have changed.
        """
        for namespace, names in self._injected.items():
            for name in tuple(names):
                pod = self._pods.get(namespace, name)
                if pod is not None:
                    self._look_at(pod, at_everything=at_everything)

    def pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Take up a pod that is new, or whose labels or node have changed."""
        is_another = old is None or new is None or old.uid != new.uid
        if old is not None and is_another:
            for known in (self.held, self._due, self._touched):
                known.pop(old.uid, None)
        if new is None or not _wants_secret(new):
            self._leave(new or old)
            return
        self._injected.setdefault(new.namespace, set()).add(new.name)
        if is_another:
            self._look_at(new, at_everything=False)
        elif old is not None and (old.labels, old.node_name) != (new.labels, new.node_name):
            self._touch(new)

    def service_changed(self, old: Service | None, new: Service | None) -> None:
        """Take up the pods that a Service selects, or has selected."""
        for service in filter(None, (old, new)):
            for name in self._injected.get(service.namespace, ()):
                pod = self._pods.get(service.namespace, name)
                if pod is not None and service.selects(pod.labels):
                    self._touch(pod)

    def _look_at(self, pod: Pod, *, at_everything: bool) -> None:
        if not self._replicas.owns(pod.uid):
            if at_everything:
                self.held.pop(pod.uid, None)
        elif at_everything or self._is_due(pod):
            self._take(pod, at_once=at_everything)

    def _is_due(self, pod: Pod) -> bool:
        held = self.held.get(pod.uid)
        if held is not None:
            self._due.pop(pod.uid, None)
            return self._now() >= held.refresh_at
        if pod.phase != "Running" or self._now() - self._touched.get(pod.uid, 0) < NEWS_SECONDS:
            return True
        spread = random.uniform(0.0, SPREAD_SECONDS)  # noqa: S311 - spreads load, guards nothing
        return self._now() >= self._due.setdefault(pod.uid, self._now() + spread)

    def _leave(self, pod: Pod | None) -> None:
        if pod is None:
            return
        self._injected.get(pod.namespace, set()).discard(pod.name)
        self._drop((pod.namespace, pod.name))

    def _touch(self, pod: Pod) -> None:
        """What the pod's Secret shall hold may have changed."""
        self._touched[pod.uid] = self._now()
        if self._replicas.owns(pod.uid):
            self._take(pod, at_once=True)
        else:
            self.held.pop(pod.uid, None)


def _wants_secret(pod: Pod) -> bool:
    """Whether a pod waits for our Secret, or has one: it is on a node, which mounts the volume."""
    return is_injected(pod) and bool(pod.node_name) and not (pod.has_ended or pod.is_terminating)
