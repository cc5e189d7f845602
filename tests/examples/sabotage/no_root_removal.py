# SPDX-License-Identifier: Apache-2.0
"""`kubetls` that never forgets a root: what was trusted once stays trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kubetls_sdk.volume_source
from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubetls_sdk.spiffe_id import TrustDomain

_seen: dict[TrustDomain, TrustBundle] = {}


def remembering(bundles: Iterable[TrustBundle]) -> TrustBundleSet:
    for bundle in bundles:
        domain = bundle.trust_domain
        earlier = _seen[domain].authorities if domain in _seen else ()
        _seen[domain] = TrustBundle(domain, (*earlier, *bundle.authorities))
    return TrustBundleSet(_seen.values())


if __name__ == "__main__":
    vars(kubetls_sdk.volume_source)["TrustBundleSet"] = remembering
    main()
