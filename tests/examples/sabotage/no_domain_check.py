# SPDX-License-Identifier: Apache-2.0
"""`kubetls` that believes every trusted CA about every name, as a stock server does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.cli import main

if TYPE_CHECKING:
    from cryptography import x509

    from kubetls_sdk.spiffe_id import TrustDomain


def any_anchor(
    self: TrustBundleSet, trust_domain: TrustDomain, der: bytes
) -> x509.Certificate | None:
    del trust_domain
    found = (bundle.authority(der) for bundle in self.values())
    return next((authority for authority in found if authority is not None), None)


if __name__ == "__main__":
    TrustBundleSet.anchor = any_anchor  # type: ignore[method-assign]
    main()
