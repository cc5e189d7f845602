# SPDX-License-Identifier: Apache-2.0
"""What pods trust already when a pool is made anew: kept in the bundle, without a key.

Rules:
    1. Nothing is known of the leaves under an adopted anchor but the longest lifetime that
       Kubernetes allows: it stays for that long.
    2. An anchor that the new authority brings itself is not adopted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from webhook.config import LONGEST_LIFETIME
from webhook.names import bundle_name
from webhook.trust.ca_pool import new_entry_id
from webhook.trust.pool_entry import SIGNER_LAG, Origin, PoolEntry, State
from webhook.trust.publication import fallback_name
from webhook.trust.publisher import anchors_in

if TYPE_CHECKING:
    from datetime import datetime

    from webhook.config import Zone
    from webhook.issuance.authority import Authority
    from webhook.trust.publisher import Publisher

__all__ = ("adopted_entries",)


async def adopted_entries(
    publisher: Publisher, zone: Zone, authority: Authority, *, now: datetime
) -> tuple[PoolEntry, ...]:
    """Make entries of the anchors that are published for a zone.

    Raises:
        ApiError: The API server failed.
    """
    name = bundle_name(zone.signer_name, zone.trust_domain)
    found = await publisher.read(name, fallback_name(zone))
    if found is None:
        return ()
    anchors = map(x509.load_der_x509_certificate, sorted(anchors_in(found.text, zone.trust_domain)))
    return tuple(_entry(anchor, now) for anchor in anchors if anchor != authority.anchor)


def _entry(anchor: x509.Certificate, now: datetime) -> PoolEntry:
    return PoolEntry(
        id=new_entry_id(),
        state=State.RETIRED,
        origin=Origin.ADOPTED,
        anchor=anchor,
        authority=None,
        created_at=now,
        published_at=now,
        retired_at=now,
        last_leaf_not_after=min(now + SIGNER_LAG + LONGEST_LIFETIME, anchor.not_valid_after_utc),
    )
