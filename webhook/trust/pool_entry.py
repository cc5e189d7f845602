# SPDX-License-Identifier: Apache-2.0
"""One authority of a CA pool, with what happened to it and when.

Rules:
    1. The way of an entry is next, active, retired, withdrawn; only these steps, and back from
       retired to active.
    2. A withdrawn entry is in no bundle any more; it is kept until the bundle was read back
       without it, and its key goes with it.
    3. The private key appears in no `repr` and no error.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from webhook.exceptions import WebhookError

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from webhook.issuance.authority import Authority

__all__ = ("SIGNER_LAG", "Origin", "PoolEntry", "PoolError", "State")

SIGNER_LAG: Final = timedelta(minutes=5)
"""For how long after a change of the pool a replica that has not seen it may still sign."""


class PoolError(WebhookError):
    """A CA pool does not allow what was asked, or cannot be read; never has key material."""


class State(StrEnum):
    """Where an entry stands."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"


class Origin(StrEnum):
    """Where an entry comes from."""

    CREATED = "created"
    IMPORTED = "imported"
    ADOPTED = "adopted"


@dataclass(frozen=True, slots=True, repr=False)
class PoolEntry:
    """An authority and its history; times are aware, in UTC and whole seconds.

    Attributes:
        id: Eight hexadecimal digits, unique in the pool.
        state: Where it stands.
        origin: Made here, imported, or found published without a key.
        anchor: What is published of it: itself, or the root above an imported intermediate.
        authority: What signs; None: the key is not ours (any more).
        created_at: When it came into the pool.
        published_at: When its anchor was first read back from the bundle.
        activated_at: When it began to sign.
        retired_at: When another took over.
        last_leaf_not_after: When the last leaf under it has expired at the latest.
        longest_lifetime: The longest that a leaf may have had while it signed.
    """

    id: str
    state: State
    origin: Origin
    anchor: x509.Certificate
    authority: Authority | None = field(compare=False)
    created_at: datetime
    published_at: datetime | None = None
    activated_at: datetime | None = None
    retired_at: datetime | None = None
    last_leaf_not_after: datetime | None = None
    longest_lifetime: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.authority is None and self.state in (State.NEXT, State.ACTIVE):
            raise PoolError(f"expected the key of the {self.state} authority {self.id}, got none")
        if self.state is State.RETIRED and self.last_leaf_not_after is None:
            raise PoolError(f"expected the last expiry under the retired authority {self.id}")

    @property
    def anchor_der(self) -> bytes:
        """DER of the anchor, by which a bundle knows it."""
        return self.anchor.public_bytes(Encoding.DER)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the anchor in hexadecimal."""
        return hashlib.sha256(self.anchor_der).hexdigest()

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Every certificate that must be valid for a leaf under it to be."""
        above = () if self.authority is None else self.authority.certificates
        return (*above, self.anchor)

    @property
    def not_after(self) -> datetime:
        """When nothing under it is valid any more."""
        return min(certificate.not_valid_after_utc for certificate in self.certificates)

    @property
    def renew_at(self) -> datetime:
        """When its successor should be on the way: two thirds of its life."""
        start = max(certificate.not_valid_before_utc for certificate in self.certificates)
        return start + (self.not_after - start) * 2 / 3

    @property
    def is_published(self) -> bool:
        """Whether it belongs into the bundle."""
        return self.state is not State.WITHDRAWN

    def last_expiry(self, now: datetime, longest_lifetime: timedelta) -> datetime:
        """When the last leaf has expired, if it stops signing now."""
        longest = max(self.longest_lifetime, longest_lifetime)
        return min(now + SIGNER_LAG + longest, self.not_after)

    def __repr__(self) -> str:
        return f"<PoolEntry {self.id} {self.state} {self.fingerprint[:16]}>"
