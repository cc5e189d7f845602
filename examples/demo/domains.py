# SPDX-License-Identifier: Apache-2.0
"""The trust domains of the demo, and one mounted volume for each workload.

Rules:
    1. Volumes are written as the kubelet writes them; nobody but the development issuer does it.
    2. Callers that misbehave get a credential without a volume: an attacker has no issuer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.testing.development_domain import DevelopmentDomain
from kubetls_sdk.testing.issue_registry import VolumeOrder

if TYPE_CHECKING:
    from pathlib import Path

    from examples.demonstration.wire import Credential
    from kubetls_sdk.svid import X509Svid

__all__ = ("BILLING", "ORDERS", "OURS", "PARTNER", "PARTNERS", "STRANGERS", "WEB", "Domains")

OURS, PARTNERS, STRANGERS = "example.org", "partner.example", "stranger.example"
_PATHS = {name: f"/ns/shop/sa/{name}" for name in ("web", "orders", "billing")}
_PARTNER_PATH = "/ns/sales/sa/partner"
WEB, ORDERS, BILLING = (f"spiffe://{OURS}{path}" for path in _PATHS.values())
PARTNER = f"spiffe://{PARTNERS}{_PARTNER_PATH}"


class Domains:
    """Two trust domains that know each other, and a third that nobody trusts.

    Args:
        directory: An empty directory for CAs and volumes; holds keys, so private to its owner.
    """

    def __init__(self, directory: Path) -> None:
        self._volumes = directory / "volumes"
        self._ours = DevelopmentDomain.create(directory / OURS, OURS)
        self._partners = DevelopmentDomain.create(directory / PARTNERS, PARTNERS)
        self._strangers = DevelopmentCA(STRANGERS)
        for name, path in _PATHS.items():
            trusted = (self._partners,) if name == "orders" else ()
            self._order(self._ours, name, path, trusted)
        self._order(self._partners, "partner", _PARTNER_PATH, (self._ours,))

    @property
    def ours(self) -> DevelopmentCA:
        """The CA of `example.org` as it is now."""
        return self._ours.ca

    @property
    def partners(self) -> DevelopmentCA:
        """The CA of `partner.example` as it is now."""
        return self._partners.ca

    def volume(self, name: str) -> Path:
        """Where the volume of a workload is mounted."""
        return self._volumes / name

    def written_at(self, name: str) -> float:
        """When the volume of a workload was last written, in seconds since the epoch."""
        return (self.volume(name) / "..data").lstat().st_mtime

    def serial(self, name: str) -> int:
        """The serial number of the certificate in the volume of a workload."""
        pem = (self.volume(name) / "credential-bundle.pem").read_bytes()
        return x509.load_pem_x509_certificates(pem)[0].serial_number

    def valid(self, ttl: timedelta = timedelta(hours=1)) -> X509Svid:
        """A second SVID of web, whose holder does not rotate it."""
        return self.ours.issue(_PATHS["web"], ttl=ttl)

    def billing(self) -> X509Svid:
        """A second SVID of billing."""
        return self.ours.issue(_PATHS["billing"])

    def forged(self) -> Credential:
        """Web's name, signed by the CA of `partner.example`, which orders trusts for its own."""
        return self.partners.issue_for(OURS, _PATHS["web"])

    def untrusted(self) -> Credential:
        """A right SVID of a domain that orders has no bundle of."""
        return self._strangers.issue("/ns/shop/sa/web")

    def expired(self) -> Credential:
        """An SVID of web that was right until an hour ago."""
        return self.ours.issue_faulty("expired", _PATHS["web"])

    def of_next_root(self) -> Credential:
        """An SVID of web that the newest root signed, which is published and does not sign yet."""
        authority = self.ours
        authority.activate_root()
        return authority.issue(_PATHS["web"])

    def rotate_svids(self) -> None:
        """Give all workloads a new key and certificate."""
        self._ours.rotate_svids()
        self._partners.rotate_svids()

    def add_root(self) -> None:
        """Publish a second root of `example.org` to all volumes; the first goes on signing."""
        self._ours.add_root()

    def activate_root(self) -> None:
        """Let the second root sign: all workloads of `example.org` get an SVID of it."""
        self._ours.activate_root()

    def retire_root(self) -> None:
        """Take the first root out of all volumes."""
        self._ours.retire_root()

    def _order(
        self,
        domain: DevelopmentDomain,
        name: str,
        path: str,
        trusted: tuple[DevelopmentDomain, ...],
    ) -> None:
        domain.issue(
            VolumeOrder(
                str(self.volume(name).resolve()),
                path,
                dns_names=(f"{name}.shop.svc",),
                trust=tuple(str(partner.directory) for partner in trusted),
            )
        )
