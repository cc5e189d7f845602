# SPDX-License-Identifier: Apache-2.0
"""What one pod gets: its annotations within what the platform allows its namespace.

Injector, signer and secret issuer call the same function, so what is admitted is what is issued.

Rules:
    1. Without an annotation, the first value that the namespace's rule lists is taken.
    2. A value that the rule does not list is refused; the message names the annotation and what
       may stand there.
    3. Only the keys of our prefix are looked at. Unknown ones are refused at admission
       (`refuse_unknown`) and ignored later, when they can no longer be a slip of the author.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from kubetls_sdk.exceptions import ConfigurationError
from webhook.config import SHORTEST_LIFETIME
from webhook.config_document import parse_duration
from webhook.exceptions import AdmissionDenied
from webhook.names import PREFIX, annotation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from webhook.config import (
        KeyType,
        Mode,
        NamespaceRule,
        Partner,
        PlatformConfig,
        TrustStore,
        Zone,
    )

__all__ = (
    "INJECT",
    "INJECTED",
    "KEY_TYPE",
    "LIFETIME",
    "MODE",
    "MOUNT_PATH",
    "PARTNERS",
    "SECRET",
    "TRUST_STORE",
    "ZONE",
    "Choice",
    "choose",
    "duration_text",
    "is_selected",
    "refuse_unknown",
)

ZONE: Final = annotation("zone")
PARTNERS: Final = annotation("partners")
KEY_TYPE: Final = annotation("key-type")
LIFETIME: Final = annotation("lifetime")
MOUNT_PATH: Final = annotation("mount-path")
MODE: Final = annotation("mode")
TRUST_STORE: Final = annotation("trust-store")
CHOSEN: Final = (ZONE, PARTNERS, KEY_TYPE, LIFETIME, MOUNT_PATH, MODE, TRUST_STORE)
"""Annotations that a pod's author may write."""

SECRET: Final = annotation("secret")
INJECTED: Final = annotation("injected")
WRITTEN: Final = (SECRET, INJECTED)
"""Annotations that the injector writes."""

INJECT: Final = annotation("inject")
"""The label that asks for an injection, or declines it."""

_MAX_SHOWN = 64
_MAX_LISTED = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a pod gets.

    Attributes:
        zone: Its zone of trust.
        partners: Whose bundles it has beside the zone's own, in the order of its annotation.
        key_type: Of its key.
        lifetime: The longest of its certificate.
        mount_path: Where its containers find the volume.
        mode: The delivery mode that it asks for; None: the platform decides.
        modes: What may be decided, most preferred first; the mode asked for alone.
        trust_store: Whom its programs believe that do not choose themselves.
    """

    zone: Zone
    partners: tuple[Partner, ...]
    key_type: KeyType
    lifetime: timedelta
    mount_path: str
    mode: Mode | None
    modes: tuple[Mode, ...]
    trust_store: TrustStore


def choose(config: PlatformConfig, namespace: str, annotations: Mapping[str, str]) -> Choice:
    """Decide what a pod gets.

    Args:
        config: The platform's.
        namespace: Of the pod.
        annotations: Of the pod, all of them; other people's are not looked at.

    Raises:
        AdmissionDenied: The namespace has no rule, or an annotation has a value that is not
            allowed there.
    """
    rule = config.rule_for(namespace)
    if rule is None:
        raise AdmissionDenied(
            f"namespace {namespace!r} has no rule in the platform's configuration"
        )
    zone = config.zones[_first(annotations, ZONE, rule.zones)]
    partners = _partners(annotations.get(PARTNERS, ""), config.partners_of(namespace))
    mode = annotations.get(MODE)
    modes = rule.modes if mode is None else (_one_of(MODE, mode, rule.modes),)
    return Choice(
        zone=zone,
        # A pod of a zone has that zone's bundle anyway, and a volume each file once.
        partners=tuple(each for each in partners if each.zone != zone),
        key_type=_first(annotations, KEY_TYPE, rule.key_types),
        lifetime=_lifetime(annotations.get(LIFETIME), rule),
        mount_path=_first(annotations, MOUNT_PATH, rule.mount_paths),
        mode=None if mode is None else modes[0],
        modes=modes,
        trust_store=_first(annotations, TRUST_STORE, rule.trust_stores),
    )


def is_selected(rule: NamespaceRule, labels: Mapping[str, str]) -> bool:
    """Tell whether a pod is injected, by its label and the rule of its namespace.

    Raises:
        AdmissionDenied: The label is neither `true` nor `false`.
    """
    wanted = labels.get(INJECT)
    if wanted not in (None, "true", "false"):
        raise _refusal(INJECT, wanted, ("true", "false"), what="label")
    return rule.injects_all if wanted is None else wanted == "true"


def refuse_unknown(annotations: Iterable[str]) -> None:
    """Refuse annotations of our prefix that mean nothing.

    Raises:
        AdmissionDenied: There is one.
    """
    for name in annotations:
        if name == INJECT:
            raise AdmissionDenied(f"{INJECT} is a label, got an annotation")
        if name.startswith(f"{PREFIX}/") and name not in CHOSEN + WRITTEN:
            known = ", ".join(CHOSEN)
            raise AdmissionDenied(f"unknown annotation {_shown(name)}, expected one of {known}")


def duration_text(duration: timedelta) -> str:
    """Write a duration in the largest unit that divides it, as annotations have it."""
    seconds = int(duration.total_seconds())
    units = ((86400, "d"), (3600, "h"), (60, "m"))
    found = next(((size, unit) for size, unit in units if seconds % size == 0), (1, "s"))
    return f"{seconds // found[0]}{found[1]}"


def _first(annotations: Mapping[str, str], name: str, allowed: tuple[T, ...]) -> T:
    value = annotations.get(name)
    return allowed[0] if value is None else _one_of(name, value, allowed)


def _one_of(name: str, value: str, allowed: tuple[T, ...]) -> T:
    for each in allowed:
        if each == value:
            return each
    raise _refusal(name, value, [str(each) for each in allowed])


def _partners(text: str, visible: tuple[Partner, ...]) -> tuple[Partner, ...]:
    known = {partner.name: partner for partner in visible}
    found: dict[str, Partner] = {}
    for name in (each.strip() for each in text.split(",") if text.strip()):
        if name not in known:
            raise _refusal(PARTNERS, name, known)
        found[name] = known[name]
    return tuple(found.values())


def _lifetime(text: str | None, rule: NamespaceRule) -> timedelta:
    if text is None:
        return rule.lifetime.default
    longest = rule.lifetime.maximum
    try:
        lifetime = parse_duration(text)
    except ConfigurationError:
        lifetime = None
    if lifetime is None or not SHORTEST_LIFETIME <= lifetime <= longest:
        allowed = f"a duration from {duration_text(SHORTEST_LIFETIME)} to {duration_text(longest)}"
        raise AdmissionDenied(f"annotation {LIFETIME}: expected {allowed}, got {_shown(text)}")
    return lifetime


def _refusal(
    name: str, value: str | None, allowed: Iterable[str], *, what: str = "annotation"
) -> AdmissionDenied:
    listed = [f"'{each}'" for each in allowed]
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    expected = ", ".join(listed[:_MAX_LISTED]) + more
    start = f"expected one of {expected}" if listed else "expected none, as nothing is allowed here"
    return AdmissionDenied(f"{what} {name}: {start}, got {_shown(value or '')}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")
