# SPDX-License-Identifier: Apache-2.0
"""How far the renewal of the webhook's serving certificate is: the content of its Secret.

    due -> a next pair and its CA -> both CAs in the caBundle, read back -> settled
    -> the next pair is served; the old CA stays until it ends

Rules:
    1. Everything is in the one Secret, so each step is one compare-and-swap and a leader that died
       left nothing behind; the caBundle is always `ca.crt`.
    2. A pair is served only after its CA was read back from the caBundle and API servers had
       `SETTLING` to hear of it.
    3. A CA leaves the caBundle when it ends, not sooner: nobody tells which replica serves which
       certificate, and a CA without a key does no harm.
    4. What cannot be read or has ended is made anew at once: it is worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk._profile import MALFORMED
from webhook.names import annotation
from webhook.trust.serving_pair import VALIDITY, ServingNames, ServingPair, make_pair

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ("PUBLISHED_AT", "SETTLING", "ServingState", "advance_serving", "certificates_in")

SETTLING: Final = timedelta(seconds=30)
"""An API server hears of a changed configuration by a watch, within a second when it is well."""
PUBLISHED_AT: Final = annotation("next-published-at")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class ServingState:
    """What the Secret says.

    Attributes:
        current: What is served; None when it cannot be.
        authorities: What the caBundle must have.
        next: What will be served.
        published_at: When the next one's CA was first read back from the caBundle.
    """

    current: ServingPair | None
    authorities: tuple[x509.Certificate, ...] = ()
    next: ServingPair | None = None
    published_at: datetime | None = None

    @classmethod
    def parse(cls, content: Mapping[str, bytes], annotations: Mapping[str, str]) -> ServingState:
        """Read a Secret's content; what cannot be read counts as absent."""
        current = ServingPair.from_pem(content.get("tls.crt", b""), content.get("tls.key", b""))
        following = ServingPair.from_pem(content.get("next.crt", b""), content.get("next.key", b""))
        authorities = certificates_in(content.get("ca.crt", b""))
        return cls(current, authorities, following, _time(annotations.get(PUBLISHED_AT)))

    def content(self) -> dict[str, bytes]:
        """What belongs into the Secret."""
        found = {"ca.crt": self.ca_bundle}
        if self.current is not None:
            found |= {"tls.crt": self.current.certificate_pem, "tls.key": self.current.key_pem}
        if self.next is not None:
            found |= {"next.crt": self.next.certificate_pem, "next.key": self.next.key_pem}
        return found

    def annotations(self) -> dict[str, str]:
        """What belongs into the Secret's annotations."""
        at = self.published_at
        return {} if at is None else {PUBLISHED_AT: at.astimezone(UTC).strftime(_TIME)}

    @property
    def ca_bundle(self) -> bytes:
        """What the API server must trust, PEM."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.authorities)

    def is_served_well(self, now: datetime) -> bool:
        """Whether what is served is valid, and its CA known."""
        current = self.current
        return (
            current is not None
            and current.is_valid_at(now)
            and current.is_signed_by_one_of(self.authorities)
        )


def advance_serving(
    state: ServingState,
    names: ServingNames,
    published: Collection[x509.Certificate],
    *,
    now: datetime,
    validity: timedelta = VALIDITY,
) -> ServingState:
    """Take the first step that is due; the same state when none is.

    Args:
        state: As the Secret says.
        names: What the API server dials.
        published: What every caBundle of the configuration has, as it was read.
        now: Aware UTC time in whole seconds.
        validity: Of a new certificate.
    """
    valid = tuple(each for each in state.authorities if now < each.not_valid_after_utc)
    if not state.is_served_well(now):
        pair, authority = make_pair(names, now=now, validity=validity)
        return ServingState(pair, (*valid, authority))
    if valid != state.authorities:
        return replace(state, authorities=valid)
    if state.next is None:
        return _renewed(state, names, now, validity)
    return _followed(state, names, published, now)


def certificates_in(text: bytes) -> tuple[x509.Certificate, ...]:
    """Read PEM certificates; none when one of them is none."""
    if not text.strip():
        return ()
    try:
        return tuple(x509.load_pem_x509_certificates(text))
    except MALFORMED:
        return ()


def _renewed(
    state: ServingState, names: ServingNames, now: datetime, validity: timedelta
) -> ServingState:
    current = state.current
    if current is not None and current.names == names and now < current.renew_at:
        return state
    pair, authority = make_pair(names, now=now, validity=validity)
    return replace(state, next=pair, authorities=(*state.authorities, authority), published_at=None)


def _followed(
    state: ServingState,
    names: ServingNames,
    published: Collection[x509.Certificate],
    now: datetime,
) -> ServingState:
    following = state.next
    is_good = (
        following is not None
        and following.names == names
        and following.is_valid_at(now)
        and following.is_signed_by_one_of(state.authorities)
    )
    if following is None or not is_good:
        return replace(state, next=None, published_at=None)
    if not following.is_signed_by_one_of(published):
        return replace(state, published_at=None)
    if state.published_at is None:
        return replace(state, published_at=now)
    if now < state.published_at + SETTLING:
        return state
    return replace(state, current=following, next=None, published_at=None)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
