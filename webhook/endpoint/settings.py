# SPDX-License-Identifier: Apache-2.0
"""What a replica of the bundle endpoint is started with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("EndpointSettings",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What a replica is started with.

    Attributes:
        config: The platform's configuration, a mounted file.
        web_certificate: Folder of `tls.crt` and `tls.key` for `https_web`; None: not served.
        web_port: Of that profile; 0 takes a free one.
        spiffe_volume: Folder of our own SVID for `https_spiffe`; None: not served.
        spiffe_port: Of that profile; 0 takes a free one.
        kubeconfig: How to reach the API server; None: as the pod's service account.
        host: Of all listeners.
        status_port: Of probes and metrics.
        max_stale: How long bundles are served that nobody could confirm.
        sequence_base: Added to each sequence number.
        drain_seconds: How long requests are still answered after the signal to end.

    Raises:
        ConfigurationError: Neither profile is served.
    """

    config: Path
    web_certificate: Path | None = None
    web_port: int = 8443
    spiffe_volume: Path | None = None
    spiffe_port: int = 8444
    kubeconfig: Path | None = None
    host: str = "0.0.0.0"  # noqa: S104 - partners come from outside
    status_port: int = 8080
    max_stale: timedelta = timedelta(hours=1)
    sequence_base: int = 0
    drain_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.web_certificate is None and self.spiffe_volume is None:
            raise ConfigurationError(
                "expected a certificate for https_web, or a volume for https_spiffe, got neither"
            )
