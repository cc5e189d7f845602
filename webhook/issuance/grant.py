# SPDX-License-Identifier: Apache-2.0
"""What a request was granted: everything that a certificate will say, but for times and serial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from kubetls_sdk.spiffe_id import SpiffeId
    from webhook.config import Zone
    from webhook.issuance.public_key import PublicKey

__all__ = ("Grant",)


@dataclass(frozen=True, slots=True)
class Grant:
    """A decision to issue.

    Attributes:
        zone: Whose authority signs.
        spiffe_id: The only URI of the certificate.
        common_name: At most 64 characters; None for an empty subject, as without DNS names.
        dns_names: Sorted; may be empty.
        public_key: Of the requester.
        lifetime: From the certificate's `not_before` to its `not_after`, at the most.
        refreshes_early: The pod shall ask again as soon as it may.
        warnings: For the pod's author, a clause each.
    """

    zone: Zone
    spiffe_id: SpiffeId
    common_name: str | None
    dns_names: tuple[str, ...]
    public_key: PublicKey = field(repr=False)
    lifetime: timedelta
    refreshes_early: bool = False
    warnings: tuple[str, ...] = ()
