# SPDX-License-Identifier: Apache-2.0
"""Certificates, volumes and policy for one benchmark run, in a directory of its own."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import Identity
from kubetls_sdk import TrustBundleSet
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Workspace",)

POLICY = """\
version: 1
policies:
  - name: orders
    allow:
      - name: web-reads
        from: {namespace: shop, serviceAccount: web}
        to: {methods: GET, paths: /}
"""


class Workspace:
    """What the servers and the load generator of one run read.

    Attributes:
        volume: The server's volume directory, in the SPIFFE folder layout.
        policy: A policy file that lets the load generator call `/`.
        stock: PEM files for a server without us.
        client: PEM files for the load generator.
    """

    def __init__(self, directory: Path) -> None:
        self.ca = DevelopmentCA("example.org")
        bundles = TrustBundleSet([self.ca.bundle])
        self.volume = directory / "volume"
        server = self._issue("/ns/shop/sa/orders", "localhost")
        self.kubelet = KubeletVolume(self.volume)
        self.kubelet.write_svid(server, bundles)
        self.policy = directory / "policy.yaml"
        self.policy.write_text(POLICY)
        self.stock = self._files(directory / "stock", server)
        self.client = self._files(directory / "client", self._issue("/ns/shop/sa/web"))

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator[Workspace]:
        """Make a workspace and remove it with its keys at the end."""
        with tempfile.TemporaryDirectory() as directory:
            yield cls(Path(directory))

    def _issue(self, path: str, *dns_names: str):
        return self.ca.issue(path, dns_names=dns_names, ttl=timedelta(hours=4))

    def _files(self, directory: Path, svid) -> Identity:
        directory.mkdir(mode=0o700)
        files = Identity(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
        files.authorities.write_bytes(self.ca.bundle.to_pem())
        files.certificate.write_bytes(svid.certificates_pem())
        files.key.touch(mode=0o600)
        files.key.write_bytes(svid.private_key_pem())
        return files
