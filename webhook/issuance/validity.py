# SPDX-License-Identifier: Apache-2.0
"""From when to when a certificate is valid, and when to ask for the next one.

Rules:
    1. Whole seconds: an X.509 time has no parts of one, and the status must say the same.
    2. Dated back by two minutes for clocks that differ; the API server takes at most five.
    3. Never past the authority's own end. Where less than the API's shortest lifetime is left,
       nothing is issued: the request waits for the authority to be replaced.

Spec: certificates.k8s.io/v1 PodCertificateRequest status: `notBefore` within 5 min of now,
`notAfter` - `notBefore` from 1 h to `maxExpirationSeconds`, `beginRefreshAt` 10 min inside of both.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from webhook.config import SHORTEST_LIFETIME
from webhook.exceptions import IssuanceError

if TYPE_CHECKING:
    from webhook.issuance.authority import Authority

__all__ = (
    "AUTHORITY_EXPIRING",
    "AUTHORITY_NOT_VALID",
    "BACKDATE",
    "Validity",
    "refresh_time",
    "serial_fraction",
)

AUTHORITY_EXPIRING: Final = "AuthorityExpiring"
AUTHORITY_NOT_VALID: Final = "AuthorityNotYetValid"
BACKDATE: Final = timedelta(minutes=2)
REFRESH_MARGIN: Final = timedelta(minutes=10)
"""The API server's: no refresh nearer to either end."""

_FRACTION: Final = (1 << 32) - 1
_JITTER: Final = 0.1
"""Of the lifetime, to either side of its half: pods that started together ask apart."""


class Validity(NamedTuple):
    """Both ends, aware UTC, whole seconds."""

    not_before: datetime
    not_after: datetime

    @classmethod
    def within(cls, authority: Authority, lifetime: timedelta, *, now: datetime) -> Validity:
        """The validity of what an authority signs now.

        Raises:
            IssuanceError: Retryable: the authority is not valid yet, or not for long enough.
        """
        if now < authority.not_before:
            raise _waiting(
                f"authority {authority.name} is not valid before"
                f" {authority.not_before:%Y-%m-%dT%H:%M:%SZ}",
                AUTHORITY_NOT_VALID,
            )
        not_before = (now - BACKDATE).replace(microsecond=0)
        not_after = min(not_before + _whole(lifetime), authority.not_after)
        if not_after - not_before < SHORTEST_LIFETIME:
            raise _waiting(
                f"authority {authority.name} ends at {authority.not_after:%Y-%m-%dT%H:%M:%SZ},"
                " sooner than the shortest certificate: replace it NOW",
                AUTHORITY_EXPIRING,
            )
        return cls(not_before, not_after)


def refresh_time(validity: Validity, *, fraction: float, early: bool = False) -> datetime:
    """When the holder shall ask for the next certificate.

    Args:
        validity: Of this one; at least an hour.
        fraction: From 0 to 1, spreads holders evenly about the half of the lifetime.
        early: As soon as the API allows.

    Returns:
        Aware UTC, a whole second, at least ten minutes inside of the validity.
    """
    earliest = validity.not_before + REFRESH_MARGIN
    if early:
        return earliest
    lifetime = validity.not_after - validity.not_before
    after = _whole(lifetime * (0.5 + _JITTER * (2 * fraction - 1)))
    latest = validity.not_after - REFRESH_MARGIN
    return min(max(validity.not_before + after, earliest), latest)


def serial_fraction(serial: int) -> float:
    """A number from 0 to 1 that a random serial number spreads evenly."""
    return (serial & _FRACTION) / _FRACTION


def _whole(duration: timedelta) -> timedelta:
    return timedelta(seconds=duration // timedelta(seconds=1))


def _waiting(message: str, reason: str) -> IssuanceError:
    return IssuanceError(message, reason=reason, is_retryable=True)
