# SPDX-License-Identifier: Apache-2.0
"""A volume that a pod has, as the node driver remembers it: a few hundred bytes, and no key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webhook.node.contents import Held
    from webhook.node.pod_token import PodToken
    from webhook.node.publication import Publication

__all__ = ("KeptVolume",)


@dataclass(slots=True, eq=False)
class KeptVolume:
    """A published volume.

    Attributes:
        publication: Which, and where.
        held: What is in it; None when that cannot be read.
        token: The pod's last one; None after a restart, and once it was refused.
        lacks_token: It needs a certificate, and waits for the kubelet to bring a token.
    """

    publication: Publication
    held: Held | None
    token: PodToken | None = field(default=None, repr=False)
    lacks_token: bool = False

    @property
    def volume_id(self) -> str:
        """The kubelet's name of it."""
        return self.publication.volume_id

    def has_expired(self, now: float) -> bool:
        """Whether its certificate is of no use any more."""
        return self.held is None or now >= self.held.not_after
