# SPDX-License-Identifier: Apache-2.0
"""Values of the platform's configuration that several of its parts have."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError, ConfigurationError
from webhook.name_pattern import NamePattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.authz.fields import Fields
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("LABEL", "bundle_of", "matching", "name_of", "one", "parse_duration", "patterns_of")

T = TypeVar("T")

LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""A DNS label, as a regular expression."""
_NAME = re.compile(LABEL, re.ASCII)
_PATTERN = re.compile(rf"(?:{LABEL}|(?:[a-z0-9][a-z0-9-]{{0,61}})?\*)", re.ASCII)
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(text: str) -> timedelta:
    """Parse a whole number with a unit: `30s`, `90m`, `24h` or `7d`.

    Raises:
        ConfigurationError: Anything else.
    """
    found = _DURATION.fullmatch(text)
    if not found:
        raise ConfigurationError(f"expected a duration such as 90m, 24h or 7d, got {text!r}")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def one(fields: Fields, name: str, parse: Callable[[str], T]) -> T:
    """The value of a field that has to be there."""
    fields.text(name)
    return fields.values(name, parse)[0]


def matching(fields: Fields, name: str, pattern: re.Pattern[str], expected: str) -> str:
    """The text of a field that has to be there and to match."""
    text = fields.text(name)
    if not pattern.fullmatch(text):
        raise fields.error(f"expected {name} to be {expected}, got {text!r}", fields.line_of(name))
    return text


def name_of(fields: Fields) -> str:
    """The name of a zone or partner."""
    return matching(fields, "name", _NAME, "a DNS label")


def bundle_of(
    fields: Fields,
    name: str,
    domain: TrustDomain,
    *,
    parse: Callable[[TrustDomain, bytes], TrustBundle] = TrustBundle.parse,
) -> TrustBundle:
    """The authorities of a trust domain, at least one."""
    try:
        bundle = parse(domain, fields.text(name).encode())
    except BundleError as err:
        raise fields.error(f"{name}: {err}", fields.line_of(name)) from None
    if not bundle.authorities:
        raise fields.error(f"expected {name} to have an authority", fields.line_of(name))
    return bundle


def patterns_of(fields: Fields, name: str) -> tuple[NamePattern, ...]:
    """Names of namespaces, at least one."""
    found = fields.texts(name)
    for text in found:
        if not _PATTERN.fullmatch(text):
            expected = "a namespace, or the start of one with a final '*'"
            raise fields.error(f"expected {expected}, got {text!r}", fields.line_of(name))
    if not found:
        raise fields.error(f"expected a field {name!r}")
    return tuple(NamePattern(text) for text in found)
