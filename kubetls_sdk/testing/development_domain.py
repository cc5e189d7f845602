# SPDX-License-Identifier: Apache-2.0
"""A development trust domain in a directory: its CA, and the volumes that it keeps fresh.

Rules:
    1. Each change happens under a lock, so that two commands at once do not lose one another's.
    2. A change of roots reaches every volume that holds the bundle, partners' volumes as well.
    3. A volume whose directory is gone is forgotten, not made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError, SvidError
from kubetls_sdk.svid import X509Svid
from kubetls_sdk.testing.ca import DevelopmentCA
from kubetls_sdk.testing.ca_files import CA_FILE
from kubetls_sdk.testing.issue_registry import IssueRegistry, VolumeOrder
from kubetls_sdk.testing.layout import credential_names
from kubetls_sdk.testing.volume import KubeletVolume

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from kubetls_sdk.testing.keys import KeyType

__all__ = ("DevelopmentDomain",)

_LOCK_FILE = ".lock"


class DevelopmentDomain:
    """A directory that `kubetls dev init` made.

    Args:
        directory: Where the CA is.

    Raises:
        ConfigurationError: There is no development CA.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).resolve()
        self.trust_domain = DevelopmentCA.load(self.directory).trust_domain

    @classmethod
    def create(
        cls, directory: str | os.PathLike[str], trust_domain: str, *, key_type: KeyType = "p256"
    ) -> DevelopmentDomain:
        """Make a new CA in a directory that is missing or empty.

        Raises:
            ConfigurationError: The directory has a content.
            SpiffeIdError: The name is no trust domain.
        """
        place = Path(directory)
        authority = DevelopmentCA(trust_domain, key_type=key_type)
        if (place / CA_FILE).exists():
            raise ConfigurationError(f"expected a new directory, got a development CA in '{place}'")
        if place.is_dir() and any(place.iterdir()):
            raise ConfigurationError(f"expected a new or empty directory, got content in '{place}'")
        authority.save(place)
        (place / ".gitignore").write_text("*\n")  # A root key is committed quickly.
        return cls(place)

    @property
    def ca(self) -> DevelopmentCA:
        """The CA as it is on disk now."""
        return DevelopmentCA.load(self.directory)

    def issue(self, order: VolumeOrder) -> X509Svid:
        """Write a volume and remember it for rotations.

        Raises:
            ConfigurationError: The volume is a directory with other content, or a partner's
                directory holds no development CA of another trust domain.
            SpiffeIdError: The path is not one of a SPIFFE ID.
        """
        _check_volume(Path(order.volume))
        partners = [DevelopmentDomain(directory) for directory in order.trust]
        for partner in partners:
            if partner.trust_domain == self.trust_domain:
                raise ConfigurationError(
                    f"expected a partner with another trust domain, got {str(self.trust_domain)!r}"
                )
        with self._locked():
            svid = self._write(order)
            IssueRegistry.load(self.directory).with_volume(order).save(self.directory)
        for partner in partners:
            partner._remember_trust(self.directory)  # noqa: SLF001 - the other side of one agreement
        return svid

    def rotate_svids(self) -> dict[str, X509Svid]:
        """Give every volume a new key and certificate.

        Returns:
            The volume directories and their new SVIDs.
        """
        with self._locked():
            return {order.volume: self._write(order) for order in self._living_orders()}

    def renew_due(self, now: datetime | None = None) -> dict[str, X509Svid]:
        """Give a new SVID to the volumes whose SVID is past half of its lifetime.

        Returns:
            The volume directories and their new SVIDs.
        """
        at = now if now is not None else datetime.now(UTC)
        with self._locked():
            return {
                order.volume: self._write(order)
                for order in self._living_orders()
                if _is_due(_mounted_svid(order), at)
            }

    def add_root(self) -> None:
        """Publish a new root; every volume that holds our bundle gets it at once."""
        with self._locked():
            authority = self.ca
            authority.add_root()
            authority.save(self.directory)
        self._publish_trust()

    def activate_root(self) -> dict[str, X509Svid]:
        """Let the next root sign, and every volume have an SVID of it.

        Returns:
            The volume directories and their new SVIDs.

        Raises:
            ConfigurationError: No root was added.
        """
        with self._locked():
            authority = self.ca
            authority.activate_root()
            authority.save(self.directory)
        return self.rotate_svids()

    def retire_root(self) -> None:
        """Withdraw the oldest root from every volume that holds our bundle.

        Raises:
            ConfigurationError: The oldest root is the one that signs.
        """
        with self._locked():
            authority = self.ca
            authority.retire_root()
            authority.save(self.directory)
        self._publish_trust()

    def write_trust(self) -> None:
        """Write the current bundles to every volume, beside the SVIDs that are there."""
        with self._locked():
            for order in self._living_orders():
                self._write(order, _mounted_svid(order))

    def _publish_trust(self) -> None:
        self.write_trust()
        for directory in IssueRegistry.load(self.directory).trusted_by:
            if (Path(directory) / CA_FILE).exists():
                DevelopmentDomain(directory).write_trust()

    def _remember_trust(self, directory: Path) -> None:
        with self._locked():
            registry = IssueRegistry.load(self.directory).with_trusted_by(str(directory))
            registry.save(self.directory)

    def _living_orders(self) -> tuple[VolumeOrder, ...]:
        registry = IssueRegistry.load(self.directory)
        for order in registry.volumes:
            if not Path(order.volume).is_dir():
                registry = registry.without_volume(order)
        registry.save(self.directory)
        return registry.volumes

    def _write(self, order: VolumeOrder, svid: X509Svid | None = None) -> X509Svid:
        authority = self.ca
        if svid is None:
            svid = authority.issue(
                order.path, dns_names=order.dns_names, ttl=order.ttl, key_type=order.key_type
            )
        partners = [DevelopmentCA.load(directory).bundle for directory in order.trust]
        volume = KubeletVolume(order.volume)
        volume.write_svid(svid, [authority.bundle, *partners], order.layout, shuffle=True)
        return svid

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / _LOCK_FILE).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def __repr__(self) -> str:
        return f"<DevelopmentDomain {self.trust_domain} in {str(self.directory)!r}>"


def _check_volume(directory: Path) -> None:
    if not directory.is_dir() or (directory / "..data").is_symlink():
        return
    if any(directory.iterdir()):
        raise ConfigurationError(
            f"expected a volume that is new, empty or written by us, got content in '{directory}'"
        )


def _mounted_svid(order: VolumeOrder) -> X509Svid | None:
    key_file, chain_file = credential_names(order.layout)
    place = Path(order.volume)
    try:
        key = (place / key_file).read_bytes()
        return X509Svid.from_pem(certificates=(place / chain_file).read_bytes(), private_key=key)
    except (FileNotFoundError, SvidError):
        return None  # Somebody damaged the volume: the next write repairs it.


def _is_due(svid: X509Svid | None, now: datetime) -> bool:
    if svid is None:
        return True
    return now >= svid.not_before + (svid.not_after - svid.not_before) / 2
