# SPDX-License-Identifier: Apache-2.0
"""The mounted volume of one workload together with the CA that keeps it fresh.

Rules:
    1. `rotate` replaces key and certificate, `write_trust` only the bundles, each in one swap.
    2. Whom the workload trusts are CAs, so a write takes what they publish at that moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubetls_sdk.testing.volume import KubeletVolume

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from kubetls_sdk.svid import X509Svid
    from kubetls_sdk.testing.ca import DevelopmentCA
    from kubetls_sdk.testing.layout import Layout
    from kubetls_sdk.testing.leaf_options import LeafOptions

__all__ = ("WorkloadVolume",)


class WorkloadVolume:
    """A volume with an SVID of `ca` and the bundles of `ca` and all `trust`.

    Args:
        directory: Where it is mounted.
        ca: The workload's own trust domain.
        path: The path of the workload's SPIFFE ID.
        trust: Partners whose bundles are mounted as well.
        layout: Which files.
        options: The options of each SVID, as of `DevelopmentCA.issue`.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        ca: DevelopmentCA,
        path: str,
        *,
        trust: Sequence[DevelopmentCA] = (),
        layout: Layout = "spiffe",
        options: LeafOptions | None = None,
    ) -> None:
        self.volume = KubeletVolume(directory)
        self.ca = ca
        self.trust = list(trust)
        self._path = path
        self._layout = layout
        self._options: LeafOptions = options if options is not None else {}
        self.svid = ca.issue(path, **self._options)
        self.write_trust()

    @property
    def directory(self) -> Path:
        """What `VolumeSource` and `KUBETLS_DIR` take."""
        return self.volume.directory

    def rotate(self, svid: X509Svid | None = None) -> X509Svid:
        """Issue a new SVID, or take the given one, and write it as the kubelet does."""
        self.svid = svid if svid is not None else self.ca.issue(self._path, **self._options)
        self.write_trust()
        return self.svid

    def write_trust(self) -> None:
        """Write the bundles that the CAs publish now, in a new order, beside the same SVID."""
        bundles = [authority.bundle for authority in (self.ca, *self.trust)]
        self.volume.write_svid(self.svid, bundles, self._layout, shuffle=True)

    def __repr__(self) -> str:
        return f"<WorkloadVolume {self.svid.spiffe_id} in {str(self.directory)!r}>"
