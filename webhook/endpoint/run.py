# SPDX-License-Identifier: Apache-2.0
"""One replica of the bundle endpoint, assembled: what it watches, what it serves, how it ends.

Rules:
    1. Ready means: what is published of each zone was seen, and not too long ago. One zone without
       a bundle is answered with 503 at its own path; the others are served.
    2. Each profile has a listener and a port of its own; both serve the same.
    3. At its end it first says that it is not ready, and goes on answering until Services have had
       time to see that.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation.listener import EndpointListener
from kubetls_sdk.volume_source import VolumeSource
from webhook.api import Api
from webhook.api.discovery import await_served, end_when_served_changes
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1
from webhook.endpoint.published_zones import PublishedZones
from webhook.endpoint.settings import EndpointSettings
from webhook.replica import Replica, end_with, every, run_all, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.federation.publication import Publication
    from webhook.api import Resource
    from webhook.config import PlatformConfig
    from webhook.followed_file import FollowedFile

__all__ = ("EndpointReplica", "EndpointSettings", "run")

_log = logging.getLogger(__name__)

_TELL_SECONDS: Final = 5.0
_REDISCOVER_SECONDS: Final = 60.0
_SVID_SECONDS: Final = 30.0
_BUNDLES: Final = (CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)


class EndpointReplica(Replica):
    """A running replica.

    Args:
        settings: What it is started with.

    Attributes:
        is_ready: Whether it serves.
        listeners: Those that run.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._zones: PublishedZones | None = None
        self.listeners: tuple[EndpointListener, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether it has started, and knows what is published."""
        return self._zones is not None and not self._zones.is_out_of_date

    async def _work(self, file: FollowedFile[PlatformConfig]) -> None:
        settings = self._settings
        async with await Api.connect(settings.kubeconfig) as api, AsyncExitStack() as stack:
            resource = await _discovered(api)
            zones = PublishedZones(
                api, resource, max_stale=settings.max_stale, sequence_base=settings.sequence_base
            )
            await stack.enter_async_context(zones)
            await _follow(zones, file.current)
            await zones.synced()
            zones.tell()
            self.listeners = await self._listen(zones.publication_at, stack)
            self._zones = zones
            try:
                await run_all(
                    file.follow(partial(_follow, zones)),
                    _keep_telling(zones),
                    end_when_served_changes(api, resource, *_BUNDLES, seconds=_REDISCOVER_SECONDS),
                    end_with((zones,)),
                )
            finally:
                self._zones = None
                await asyncio.sleep(settings.drain_seconds)

    async def _listen(
        self, publication_at: Callable[[str], Publication | None], stack: AsyncExitStack
    ) -> tuple[EndpointListener, ...]:
        settings = self._settings
        listeners = []
        if settings.web_certificate is not None:
            listeners.append(
                EndpointListener(
                    publication_at,
                    host=settings.host,
                    port=settings.web_port,
                    certificate=str(settings.web_certificate / "tls.crt"),
                    key=str(settings.web_certificate / "tls.key"),
                )
            )
        if settings.spiffe_volume is not None:
            volume = VolumeSource(settings.spiffe_volume, ready_timeout=_SVID_SECONDS)
            source = await stack.enter_async_context(volume)
            listeners.append(
                EndpointListener(
                    publication_at, host=settings.host, port=settings.spiffe_port, source=source
                )
            )
        for listener in listeners:
            stack.push_async_callback(listener.stop)
            await listener.start()
            _log.info("serving %s on port %s", listener.profile, listener.bound_port)
        return tuple(listeners)


async def run(settings: EndpointSettings) -> None:
    """Run a replica until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: Configuration or certificate cannot be used, a port is in use, or the
            cluster has no ClusterTrustBundles.
        NotReadyError: There is no SVID in the volume.
    """
    await EndpointReplica(settings).serve(stop_on_signals())


async def _discovered(api: Api) -> Resource:
    found = await await_served(api, *_BUNDLES)
    if found is None:
        raise ConfigurationError(
            "the cluster serves no ClusterTrustBundles (certificates.k8s.io v1 or v1beta1), which"
            " the bundle endpoint publishes: upgrade to Kubernetes 1.37, or turn v1beta1 on"
        )
    return found


async def _follow(zones: PublishedZones, config: PlatformConfig) -> None:
    await zones.follow_zones(config.zones.values())


async def _keep_telling(zones: PublishedZones) -> None:
    async def tell() -> None:
        zones.tell()

    await every(_TELL_SECONDS, tell)
