# SPDX-License-Identifier: Apache-2.0
"""Who trusts whom: three trust domains inside, ordinary certificates outside.

`example.org` is ours. `partner.example` is the partner's, and publishes its bundle. Certificates
that we issue for workloads of partners without a CA are in `partners.example.org`.

Rules:
    1. Volumes are written as the kubelet writes them; nobody but the development issuers does it.
    2. The outside has a CA of its own, in place of the web's. It vouches for nothing inside.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from examples.edge.public import PublicCertificates
from kubetls_sdk.federation.signing import PartnerRoots
from kubetls_sdk.svid import X509Svid
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume

if TYPE_CHECKING:
    from pathlib import Path

    from examples.demonstration.wire import Credential
    from kubetls_sdk.bundle import TrustBundle

__all__ = ("BUNDLES", "COURIER", "EXTERNAL", "INTERNAL", "PARTNER", "Zones")

_OURS, _PARTNERS = "example.org", "partner.example"
_EXTERNAL, _INTERNAL = "/ns/shop/sa/external-api", "/ns/shop/sa/internal-api"
_BILLING = "/ns/shop/sa/billing"
_PARTNER, _BUNDLES = "/ns/sales/sa/shop", "/ns/spire/sa/bundles"
EXTERNAL, INTERNAL = f"spiffe://{_OURS}{_EXTERNAL}", f"spiffe://{_OURS}{_INTERNAL}"
PARTNER, BUNDLES = f"spiffe://{_PARTNERS}{_PARTNER}", f"spiffe://{_PARTNERS}{_BUNDLES}"
COURIER = f"spiffe://partners.{_OURS}/acme/courier"


class Zones:
    """All trust domains, and one mounted volume for each workload.

    Args:
        directory: Empty, and private to its owner: it holds keys.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ours, self.partners = DevelopmentCA(_OURS), DevelopmentCA(_PARTNERS)
        self._roots = PartnerRoots(directory / "partner-roots", self.ours.trust_domain)
        self.public = PublicCertificates(directory)
        self.rotate()

    def rotate(self) -> None:
        """Give every workload a new key and certificate."""
        self._courier = self._issue_courier()
        ours, acme = self.ours.bundle, self._roots.bundle()
        self._mount("external-api", self.external(), ours)
        self._mount("internal-api", self.ours.issue(_INTERNAL), ours)
        self._mount("partner", self.partner(), self.partners.bundle, ours)
        self._mount("bundles", self.partners.issue(_BUNDLES), self.partners.bundle)
        self._mount("courier", self._courier, acme, ours)

    def volume(self, name: str) -> Path:
        """Where the volume of a workload is mounted."""
        return self._directory / "volumes" / name

    def external(self) -> X509Svid:
        """An SVID of the external API: what somebody has who broke into it."""
        return self.ours.issue(_EXTERNAL)

    def billing(self) -> X509Svid:
        """An SVID of a workload of ours that has no business with the internal API."""
        return self.ours.issue(_BILLING)

    def partner(self) -> X509Svid:
        """An SVID of the partner's workload, by the partner's own CA."""
        return self.partners.issue(_PARTNER)

    def courier(self) -> X509Svid:
        """The certificate that we issued for a partner's workload."""
        return self._courier

    def forged(self) -> Credential:
        """The external API's name, signed by the partner's CA."""
        return self.partners.issue_for(_OURS, _EXTERNAL)

    @property
    def federation_file(self) -> Path:
        """The internal API's partners."""
        return self._directory / "federation.yaml"

    def declare_partners(self, endpoint: str) -> None:
        """Trust both partners.

        Args:
            endpoint: Where `partner.example` publishes its bundle.
        """
        first = self._directory / f"{_PARTNERS}.pem"
        first.write_bytes(self.partners.bundle.to_pem())
        server = {"profile": "https_spiffe", "url": endpoint, "spiffeId": BUNDLES}
        self._write_federation(
            {"trustDomain": _PARTNERS, "bundle": str(first), "endpoint": server},
            {"trustDomain": f"partners.{_OURS}", "bundle": str(self._roots.bundle_file)},
        )

    def undeclare_partner(self) -> None:
        """Trust `partner.example` no more."""
        self._write_federation(
            {"trustDomain": f"partners.{_OURS}", "bundle": str(self._roots.bundle_file)}
        )

    def revoke_courier(self) -> None:
        """Withdraw everything that was issued for acme, as `kubetls ca revoke-partner` does."""
        self._roots.revoke("acme")

    def _write_federation(self, *partners: dict[str, object]) -> None:
        written = self._directory / ".federation.yaml"
        document = {"version": 1, "partners": list(partners)}
        written.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        written.replace(self.federation_file)

    def _issue_courier(self) -> X509Svid:
        """The courier makes its key and sends a CSR; only that is signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, SHA256())
        now, ttl = datetime.now(UTC), timedelta(hours=1)
        pem = csr.public_bytes(Encoding.PEM)
        leaf = self._roots.issue("acme", "/courier", pem, now=now, ttl=ttl)
        return X509Svid((leaf,), key)

    def _mount(self, name: str, svid: X509Svid, *bundles: TrustBundle) -> None:
        KubeletVolume(self.volume(name)).write_svid(svid, bundles)
