# SPDX-License-Identifier: Apache-2.0
"""What the endpoint answers for one zone, and how often.

Rules:
    1. Partners are told to ask several times within the zone's propagation: a root is in their
       bundle before it signs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubetls_sdk.federation.publication import Publication
from webhook.endpoint.metrics import ANSWERS

if TYPE_CHECKING:
    from kubetls_sdk.federation.publication import Answer
    from webhook.config import Zone
    from webhook.endpoint.zone_source import ZoneSource

__all__ = ("ZonePublication", "path_of", "refresh_hint")

_ASKED_TIMES: Final = 5
_LONGEST_HINT: Final = 300


class ZonePublication(Publication):
    """The answers for one zone.

    Args:
        zone: Which zone.
        source: Has its bundle.

    Attributes:
        zone: The zone, as it was configured.
        source: Where its bundle comes from.
    """

    def __init__(self, zone: Zone, source: ZoneSource) -> None:
        super().__init__(source, refresh_hint=refresh_hint(zone))
        self.zone = zone
        self.source = source

    def answer(self, method: str, if_none_match: str | None = None) -> Answer:
        """Answer a request, and count it."""
        found = super().answer(method, if_none_match)
        ANSWERS.labels(self.zone.name, str(found.status)).inc()
        return found


def path_of(zone: Zone) -> str:
    """Where a zone's bundle is served: by its trust domain, as partners know it."""
    return f"/bundles/{zone.trust_domain}"


def refresh_hint(zone: Zone) -> int:
    """How often partners should ask, in seconds."""
    within = int(zone.propagation.total_seconds()) // _ASKED_TIMES
    return max(1, min(within, _LONGEST_HINT))
