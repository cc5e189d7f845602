# SPDX-License-Identifier: Apache-2.0
"""Which volumes a development trust domain has issued, so that a rotation reaches all of them.

Rules:
    1. It is a list of what was asked for; keys and certificates are only in the volumes.
    2. A file that a person edited wrongly is an error with the entry's name, never half a list.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.testing.ca_files import replace_file
from kubetls_sdk.testing.keys import KEY_TYPES, KeyType
from kubetls_sdk.testing.layout import LAYOUTS, Layout

__all__ = ("REGISTRY_FILE", "IssueRegistry", "VolumeOrder")

REGISTRY_FILE = "volumes.json"
_MAX_TTL_SECONDS = 365 * 86400
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class VolumeOrder:
    """What is to be in a volume.

    Attributes:
        volume: Absolute path of the mounted directory.
        path: Path of the SPIFFE ID.
        dns_names: DNS SANs.
        ttl_seconds: Lifetime of each SVID.
        layout: Which files.
        key_type: Of each new key.
        trust: Absolute paths of the partners' development directories.

    Raises:
        ConfigurationError: A field is out of range.
    """

    volume: str
    path: str
    dns_names: tuple[str, ...] = ()
    ttl_seconds: float = 3600.0
    layout: Layout = "spiffe"
    key_type: KeyType = "p256"
    trust: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not Path(self.volume).is_absolute():
            raise ConfigurationError(f"expected an absolute path of a volume, got {self.volume!r}")
        if not 1 <= self.ttl_seconds <= _MAX_TTL_SECONDS:
            raise ConfigurationError(
                f"expected a ttl of 1 s to {_MAX_TTL_SECONDS} s, got {self.ttl_seconds} s"
            )
        for name in self.dns_names:
            if len(name) > 253 or not _DNS_NAME.fullmatch(name):
                raise ConfigurationError(f"expected a DNS name in lower case, got {name!r}")
        if self.layout not in LAYOUTS:
            raise ConfigurationError(f"expected a layout of {LAYOUTS}, got {self.layout!r}")
        if self.key_type not in KEY_TYPES:
            raise ConfigurationError(f"expected a key type of {KEY_TYPES}, got {self.key_type!r}")

    @property
    def ttl(self) -> timedelta:
        """Lifetime of each SVID."""
        return timedelta(seconds=self.ttl_seconds)


@dataclass(frozen=True, slots=True)
class IssueRegistry:
    """The volumes of one development directory, and who else must hear of its roots.

    Attributes:
        volumes: One order for each directory.
        trusted_by: Absolute paths of development directories whose volumes hold our bundle.
    """

    volumes: tuple[VolumeOrder, ...] = ()
    trusted_by: tuple[str, ...] = ()

    @classmethod
    def load(cls, directory: Path) -> IssueRegistry:
        """Read the registry; a directory without one has issued nothing.

        Raises:
            ConfigurationError: The file is malformed.
        """
        file = directory / REGISTRY_FILE
        try:
            document = json.loads(file.read_bytes())
            orders = tuple(_order(entry) for entry in document["volumes"])
            return cls(orders, tuple(map(str, document["trusted_by"])))
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as err:
            raise ConfigurationError(f"{file}: expected a list of volumes: {err}") from err

    def save(self, directory: Path) -> None:
        """Replace the file of the directory."""
        text = json.dumps(asdict(self), indent=2)
        replace_file(directory / REGISTRY_FILE, text.encode() + b"\n")

    def with_volume(self, order: VolumeOrder) -> IssueRegistry:
        """Add an order, in place of an earlier one for the same directory."""
        kept = tuple(each for each in self.volumes if each.volume != order.volume)
        return replace(self, volumes=(*kept, order))

    def without_volume(self, order: VolumeOrder) -> IssueRegistry:
        """Forget an order."""
        return replace(self, volumes=tuple(each for each in self.volumes if each != order))

    def with_trusted_by(self, directory: str) -> IssueRegistry:
        """Remember who holds our bundle."""
        return replace(self, trusted_by=tuple(dict.fromkeys((*self.trusted_by, directory))))


def _order(entry: dict[str, Any]) -> VolumeOrder:
    lists = {name: tuple(map(str, entry[name])) for name in ("dns_names", "trust")}
    return VolumeOrder(**{**entry, **lists})
