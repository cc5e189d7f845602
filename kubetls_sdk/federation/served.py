# SPDX-License-Identifier: Apache-2.0
"""Mutual TLS for a server whose partners are declared in a federation file.

    run("orders.app:app", policy=["policy.yaml"], tls=FederatedTls(federation="federation.yaml"))

Rules:
    1. Every process follows the partners by itself: settings travel to workers, bundles do not.
    2. A federation file that cannot be used ends the start of the server.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation.source import FederatedSource
from kubetls_sdk.server.mutual_tls import MutualTls

if TYPE_CHECKING:
    from kubetls_sdk.source import Source

__all__ = ("FederatedTls",)


@dataclass(frozen=True, kw_only=True)
class FederatedTls(MutualTls):
    """`MutualTls` that also trusts the partners of a federation file, and follows them.

    Goes wherever `MutualTls` goes. With several processes each one fetches for itself, so an
    endpoint is asked as often as there are processes.

    Attributes:
        federation: Path of the federation file; see the reference of its fields.
        partners_wait: Seconds that the start waits for first answers of the partners' endpoints.
            It goes on without them.

    Raises:
        ConfigurationError: No file, a negative time, or what `MutualTls` refuses.
    """

    federation: str | os.PathLike[str]
    partners_wait: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not os.fspath(self.federation):
            raise ConfigurationError("expected the path of a federation file, got an empty one")
        if not self.partners_wait >= 0:
            raise ConfigurationError(f"expected partners_wait >= 0, got {self.partners_wait!r}")

    def open_source(self) -> Source:
        """Open the volume, or take the source that was given, and follow the partners.

        Raises:
            NotReadyError: The volume has nothing usable in time.
            ConfigurationError: The federation file is missing or cannot be used.
        """
        inner = super().open_source()
        try:
            return _ServedSource(inner, self.federation, self.partners_wait).start()
        except BaseException:
            super().close_source(inner)
            raise

    def close_source(self, source: Source) -> None:
        """Close what `open_source` opened; a source that was given stays open."""
        if isinstance(source, _ServedSource):
            source.close()
            super().close_source(source.inner)


class _ServedSource(FederatedSource):
    """One of ours, which remembers what is below it."""

    def __init__(self, inner: Source, file: str | os.PathLike[str], wait_seconds: float) -> None:
        super().__init__(inner, file=file, wait_seconds=wait_seconds)
        self.inner = inner
