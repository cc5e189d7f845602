# SPDX-License-Identifier: Apache-2.0
"""Whether an imported authority can sign for a zone: it signs a leaf, and peers' code verifies it.

A corporate CA may have name constraints, a path length, key usages or an expiry that make every
leaf under it worthless; that is told here, not by the first pods.

Rules:
    1. The leaf has the profile of a pod's certificate, and its key is thrown away at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.exceptions import BundleError, PeerVerificationError
from kubetls_sdk.spiffe_id import SpiffeId
from kubetls_sdk.verification import verify_svid
from webhook.config import SHORTEST_LIFETIME, Zone
from webhook.exceptions import IssuanceError
from webhook.issuance.grant import Grant
from webhook.issuance.profile import issue
from webhook.trust.pool_entry import PoolError

if TYPE_CHECKING:
    from datetime import datetime

    from webhook.issuance.authority import Authority

__all__ = ("check_usable",)


def check_usable(
    authority: Authority, zone: Zone, *, now: datetime, cluster_domain: str = "cluster.local"
) -> None:
    """Refuse an authority whose leaves nobody in its trust domain would believe.

    Args:
        authority: What shall sign.
        zone: For which zone.
        now: Aware UTC time.
        cluster_domain: Ending of the DNS names that leaves will have.

    Raises:
        PoolError: They would be refused; the message says why.
    """
    domain = zone.trust_domain
    grant = Grant(
        zone=zone,
        spiffe_id=SpiffeId.parse(f"spiffe://{domain}/ns/trial/sa/trial"),
        common_name="trial",
        dns_names=("trial.trial.svc", f"trial.trial.svc.{cluster_domain}"),
        public_key=ec.generate_private_key(ec.SECP256R1()).public_key(),
        lifetime=SHORTEST_LIFETIME,
    )
    try:
        leaf = issue(grant, authority, now=now).certificate
        sent = () if authority.certificate == authority.anchor else authority.certificates
        bundles = TrustBundleSet([TrustBundle(domain, (authority.anchor,))])
        verify_svid((leaf, *sent), bundles=bundles, now=now)
    except (BundleError, IssuanceError, PeerVerificationError) as err:
        raise PoolError(f"it cannot sign for {str(domain)!r}: {err}") from None
