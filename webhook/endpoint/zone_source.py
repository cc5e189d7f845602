# SPDX-License-Identifier: Apache-2.0
"""The published bundle of one zone: the ClusterTrustBundle of its name, with a sequence number.

Rules:
    1. The number is the object's resourceVersion, beside a base that the operator may raise. The
       API server makes it, in the same write as the content, whoever writes: so it grows with each
       change, all replicas agree on it, and no restart of ours forgets it.
    2. It never goes back. Where the API server's own did (it was restored from a backup), the newer
       one stays while the authorities are the same, and nothing is published while they are not.
    3. A bundle that is missing, empty, cannot be read, or names another trust domain is not
       published: partners keep what they have, for their bounded time.

Spec: SPIFFE Trust Domain and Bundle §4.1.1; Kubernetes API conventions: resource versions are
integers that can be compared (KEP-5504, Kubernetes 1.35; etcd's revision before).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from kubetls_sdk.exceptions import BundleError
from kubetls_sdk.federation.bundle_document import parse_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from kubetls_sdk.bundle import TrustBundle
    from webhook.config import Zone

__all__ = ("PublishedBundle", "ZoneSource")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublishedBundle:
    """What is kept of a ClusterTrustBundle.

    Attributes:
        version: Its resourceVersion.
        text: PEM.
    """

    version: int
    text: str = field(repr=False)

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Take an object.

        Raises:
            ValueError: Its resourceVersion is no number.
        """
        version = body["metadata"]["resourceVersion"]
        if not (version.isascii() and version.isdecimal()):
            raise ValueError(f"expected a number as resourceVersion, got {version!r}")
        return cls(int(version), str(body["spec"].get("trustBundle") or ""))


class _Published(NamedTuple):
    own_bundle: TrustBundle | None


class ZoneSource:
    """What `Publication` asks for one zone's bundle.

    Args:
        zone: Which zone.
        find: Returns its ClusterTrustBundle as it is now; None: there is none, or nobody knows.
        sequence_base: Added to each number.
    """

    def __init__(
        self, zone: Zone, find: Callable[[], PublishedBundle | None], *, sequence_base: int = 0
    ) -> None:
        self._zone = zone
        self._find = find
        self._base = sequence_base
        self._seen: PublishedBundle | None = None
        self._newest: TrustBundle | None = None
        self._bundle: TrustBundle | None = None

    @property
    def snapshot(self) -> _Published:
        """The bundle to publish now, with its sequence; None: there is none."""
        found = self._find()
        if found is None:
            return _Published(None)
        if found != self._seen:
            self._seen, self._bundle = found, self._read(found)
        return _Published(self._bundle)

    def _read(self, found: PublishedBundle) -> TrustBundle | None:
        try:
            bundle = parse_bundle(self._zone.trust_domain, found.text.encode())
        except BundleError as err:
            _log.error("zone %s: its published bundle cannot be used: %s", self._zone.name, err)
            return None
        if not bundle.authorities:
            _log.error("zone %s: its published bundle is empty", self._zone.name)
            return None
        return self._forward(replace(bundle, sequence=self._base + found.version))

    def _forward(self, bundle: TrustBundle) -> TrustBundle | None:
        """The bundle, unless its number went back."""
        newest = self._newest
        if newest is None or (bundle.sequence or 0) > (newest.sequence or 0):
            self._newest = bundle
            return bundle
        _log.error(
            "zone %s: the API server's version went back from %s to %s, as after a restored"
            " backup: raise the sequence base of the bundle endpoint",
            *(self._zone.name, newest.sequence, bundle.sequence),
        )
        return newest if bundle.authorities == newest.authorities else None
