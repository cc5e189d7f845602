# SPDX-License-Identifier: Apache-2.0
"""One replica of the secret issuer, assembled."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from webhook.api.discovery import await_served
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CONFIG_MAPS,
)
from webhook.delivery.zone_bundles import ZoneBundles
from webhook.names import SYSTEM_NAMESPACE
from webhook.replica import Replica, end_with, every, run_all, stop_on_signals
from webhook.secrets.certifier import Certifier
from webhook.secrets.issuer import SecretIssuer
from webhook.secrets.writer import SecretWriter
from webhook.surroundings import Surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from webhook.config import PlatformConfig
    from webhook.followed_file import FollowedFile

__all__ = ("SecretIssuerReplica", "SecretIssuerSettings", "run")

_log = logging.getLogger(__name__)

STALE_SECONDS: Final = 60.0
_BUNDLES: Final = (CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)
_SWEEP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretIssuerSettings:
    """What a replica is started with.

    Attributes:
        config: The platform's configuration, a mounted file.
        identity: Of this replica: its pod's name.
        namespace: Where the control plane lives.
        kubeconfig: How to reach the API server; None: as the pod's service account.
        host: Where probes and metrics are served.
        status_port: Of probes and metrics.
        limit: Pods that are worked on at once.
        drain_seconds: How long an end waits for what is under way.
    """

    config: Path
    identity: str
    namespace: str = SYSTEM_NAMESPACE
    kubeconfig: Path | None = None
    host: str = "0.0.0.0"  # noqa: S104 - the kubelet comes from outside the pod
    status_port: int = 8080
    limit: int = 16
    drain_seconds: float = 10.0


class SecretIssuerReplica(Replica):
    """A running replica.

    Args:
        settings: What it is started with.

    Attributes:
        is_ready: Whether it keeps Secrets.
    """

    def __init__(self, settings: SecretIssuerSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._seen: Surroundings | None = None
        self._has_news = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether it has started, and sees what goes on."""
        return self._seen is not None and not self._seen.is_stale(STALE_SECONDS)

    async def _work(self, file: FollowedFile[PlatformConfig]) -> None:
        settings = self._settings
        async with Surroundings.seen_by("kubetls-secret-issuer", settings) as seen:
            certifier = Certifier(seen.api)
            bundles = ZoneBundles(
                seen.api,
                await await_served(seen.api, *_BUNDLES) or CONFIG_MAPS,
                namespace=settings.namespace,
                changed=self._has_news.set,
            )
            async with certifier.requests, bundles:
                await _follow(file.current, certifier, bundles)
                watches = (bundles.synced(), certifier.requests.synced())
                await asyncio.gather(seen.complete(), *watches)
                await self._keep_secrets(file, seen, certifier, bundles)

    async def _keep_secrets(
        self,
        file: FollowedFile[PlatformConfig],
        seen: Surroundings,
        certifier: Certifier,
        bundles: ZoneBundles,
    ) -> None:
        issuer = SecretIssuer(
            seen.pods,
            (seen.services, seen.index),
            configuration=lambda: file.current,
            bundles=bundles,
            certifier=certifier,
            writer=SecretWriter(seen.api),
            replicas=seen.replicas,
            events=seen.events,
            limit=self._settings.limit,
        )
        unsubscribe = seen.replicas.subscribe(issuer.look)
        self._seen = seen
        try:
            _log.info("%s keeps Secrets", self._settings.identity)
            await run_all(
                every(_SWEEP_SECONDS, partial(self._sweep, issuer)),
                file.follow(partial(self._take, certifier, bundles)),
                self._look_at_everything(issuer),
                end_with((seen, certifier.requests, bundles)),
            )
        finally:
            self._seen = None
            unsubscribe()
            await issuer.worklist.close(within=self._settings.drain_seconds)

    async def _sweep(self, issuer: SecretIssuer) -> None:
        issuer.look()

    async def _look_at_everything(self, issuer: SecretIssuer) -> None:
        """Compare plans whenever bundles or the configuration have changed."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            issuer.look(at_everything=True)

    async def _take(
        self, certifier: Certifier, bundles: ZoneBundles, config: PlatformConfig
    ) -> None:
        """Follow a new configuration."""
        await _follow(config, certifier, bundles)
        self._has_news.set()


async def run(settings: SecretIssuerSettings) -> None:
    """Run a replica until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: The configuration is not valid, or the port is in use.
    """
    await SecretIssuerReplica(settings).serve(stop_on_signals())


async def _follow(config: PlatformConfig, certifier: Certifier, bundles: ZoneBundles) -> None:
    zones = config.zones.values()
    await certifier.requests.follow(zone.external_signer or zone.signer_name for zone in zones)
    await bundles.follow((*zones, *config.outside.values()))
