# SPDX-License-Identifier: Apache-2.0
"""Partners: trust bundles of other trust domains, fetched from where they publish them, and ours.

    with VolumeSource() as volume, FederatedSource(volume, file="federation.yaml") as source:
        ...

Fetching needs httpx or httpx2, a federation file PyYAML:
`pip install 'kubetls-sdk[federation]'`.
"""

from __future__ import annotations

from .partner import Endpoint, Partner, Profile
from .source import FederatedSource
from .status import FederationStatus, PartnerStatus

__all__ = (
    "Endpoint",
    "FederatedSource",
    "FederationStatus",
    "Partner",
    "PartnerStatus",
    "Profile",
)
