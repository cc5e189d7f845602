# SPDX-License-Identifier: Apache-2.0
"""The decision about one pod: injected, left alone, or refused.

A pure function of the question, the platform's configuration and the cluster's capabilities, so
any number of replicas decide the same.

Rules:
    1. A namespace without a rule is left alone, as are mirror and Windows pods.
    2. A delivery mode that an earlier pass decided stays: capabilities may change between two
       passes over one pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from webhook.choice import INJECT, INJECTED, choose, is_selected, refuse_unknown
from webhook.exceptions import AdmissionDenied, ReviewError
from webhook.injection.ephemeral import equip_ephemeral
from webhook.injection.mutation import existing_volume, mutate
from webhook.injection.review import Answer
from webhook.injection.shape import flag_in, mapping_in, mappings_in, text_in, texts_in
from webhook.injection.volume import secret_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from webhook.capabilities import Capabilities
    from webhook.choice import Choice
    from webhook.config import Mode, PlatformConfig
    from webhook.injection.review import Review

__all__ = ("Outcome", "Platform", "decide")

_MAX_MESSAGE: Final = 2000
_MIRROR: Final = "kubernetes.io/config.mirror"
_OS: Final = "kubernetes.io/os"
_NO_RULE: Final = "KubeTLS: this namespace has no rule in the platform's configuration"
_WINDOWS: Final = "KubeTLS: Windows pods are not supported; this one gets no certificate"
_HOST_NETWORK: Final = (
    "KubeTLS: with hostNetwork the address is shared with the node; only the identity tells pods"
    " apart"
)
_WAITS: Final = (
    "KubeTLS: some nodes lack the CSI driver (`preflight` names them); on those this pod waits"
)
_EPHEMERAL: Final = "KubeTLS: an ephemeral container has settings of its own; it was left alone"


class Outcome(StrEnum):
    """What became of a question, for metrics and logs."""

    INJECTED = "injected"
    COMPLETE = "complete"
    SKIPPED = "skipped"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Platform:
    """What decisions are made by.

    Attributes:
        config: The platform's configuration.
        capabilities: What the cluster can do.
        excluded: Namespaces that are left alone whatever the rules say, such as our own.
    """

    config: PlatformConfig
    capabilities: Capabilities
    excluded: frozenset[str] = frozenset()


def decide(review: Review, platform: Platform) -> tuple[Outcome, Answer]:
    """Decide about a pod.

    Raises:
        ReviewError: The object is not a pod.
    """
    try:
        if review.operation == "UPDATE" and review.subresource == "ephemeralcontainers":
            return _ephemeral(review)
        if review.operation != "CREATE" or review.subresource:
            return _skipped()
        return _created(review, platform)
    except AdmissionDenied as err:
        return Outcome.DENIED, Answer(message=_cut(str(err)))


def _created(review: Review, platform: Platform) -> tuple[Outcome, Answer]:
    metadata = mapping_in(review.pod, "metadata")
    annotations, labels = texts_in(metadata, "annotations"), texts_in(metadata, "labels")
    if review.namespace in platform.excluded or _MIRROR in annotations:
        return _skipped()
    rule = platform.config.rule_for(review.namespace)
    if rule is None:
        return _skipped(_NO_RULE) if labels.get(INJECT) == "true" else _skipped()
    if not is_selected(rule, labels):
        return _skipped()
    spec = mapping_in(review.pod, "spec")
    if not mappings_in(spec, "containers"):
        raise ReviewError("expected a pod with containers")
    if _is_windows(spec):
        return _skipped(_WINDOWS)
    refuse_unknown(annotations)
    choice = choose(platform.config, review.namespace, annotations)
    mode = _earlier_mode(spec, annotations, choice) or platform.capabilities.mode_of(choice)
    patch = mutate(review.pod, choice=choice, mode=mode, secret=secret_name(review.uid))
    answer = Answer(
        patch=patch,
        warnings=tuple(_warnings(spec, may_wait=platform.capabilities.may_wait(mode))),
        audit={"zone": choice.zone.name, "mode": mode.value},
    )
    return Outcome.INJECTED if patch else Outcome.COMPLETE, answer


def _warnings(spec: Mapping[str, Any], *, may_wait: bool) -> Iterator[str]:
    if flag_in(spec, "hostNetwork"):
        yield _HOST_NETWORK
    if may_wait:
        yield _WAITS


def _ephemeral(review: Review) -> tuple[Outcome, Answer]:
    annotations = texts_in(mapping_in(review.pod, "metadata"), "annotations")
    if INJECTED not in annotations or existing_volume(mapping_in(review.pod, "spec")) is None:
        return _skipped()
    patch, refused = equip_ephemeral(review.pod, review.old_pod)
    answer = Answer(patch=patch, warnings=(_EPHEMERAL,) if refused else ())
    return Outcome.INJECTED if patch else Outcome.COMPLETE, answer


def _cut(message: str) -> str:
    """A container's name, and much else of a pod, may be of any length."""
    return message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…"


def _skipped(*warnings: str) -> tuple[Outcome, Answer]:
    return Outcome.SKIPPED, Answer(warnings=warnings)


def _earlier_mode(
    spec: Mapping[str, Any], annotations: Mapping[str, str], choice: Choice
) -> Mode | None:
    if existing_volume(spec) is None:
        return None
    injected = annotations.get(INJECTED)
    return next((mode for mode in choice.modes if mode.value == injected), None)


def _is_windows(spec: Mapping[str, Any]) -> bool:
    return (
        text_in(mapping_in(spec, "os"), "name") == "windows"
        or texts_in(spec, "nodeSelector").get(_OS) == "windows"
    )
