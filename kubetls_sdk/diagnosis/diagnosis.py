# SPDX-License-Identifier: Apache-2.0
"""All checks over one look at a volume; pure."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from kubetls_sdk.diagnosis.svid_checks import check_svid, check_validity
from kubetls_sdk.diagnosis.trust_checks import (
    check_authorities,
    check_bundles,
    check_issuer,
    check_separation,
    check_trust_domain,
)
from kubetls_sdk.diagnosis.trust_store import check_trust_store
from kubetls_sdk.diagnosis.volume_checks import check_files, check_mount, check_renewal

if TYPE_CHECKING:
    from kubetls_sdk.diagnosis.evidence import Evidence
    from kubetls_sdk.diagnosis.finding import Finding
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("diagnose",)


def diagnose(evidence: Evidence, *, trust_domain: TrustDomain | None = None) -> tuple[Finding, ...]:
    """Find every fault of a volume, errors first.

    Args:
        evidence: One look at it.
        trust_domain: The trust domain that our certificate must be of; None for any.
    """
    found = chain(
        check_mount(evidence),
        check_files(evidence),
        check_renewal(evidence),
        check_svid(evidence),
        check_validity(evidence),
        check_bundles(evidence),
        check_trust_domain(evidence, trust_domain),
        check_issuer(evidence),
        check_separation(evidence),
        check_authorities(evidence),
        check_trust_store(evidence),
    )
    return tuple(sorted(found, key=lambda finding: finding.severity))
