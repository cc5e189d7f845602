# SPDX-License-Identifier: Apache-2.0
"""The driver of one node, assembled.

Rules:
    1. The kubelet is served at once, with what lies on this node: volumes of before are kept, and
       published again, while no API server can be reached. New ones wait until the cluster is seen.
    2. Ready is who sees the cluster and is registered with the kubelet.
    3. Told to stop, what is under way ends, and all volumes stay as they are.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from kubetls_sdk import __version__
from kubetls_sdk.exceptions import ConfigurationError
from webhook.api.discovery import await_served, end_when_served_changes
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    CONFIG_MAPS,
)
from webhook.delivery.zone_bundles import ZoneBundles
from webhook.names import CSI_DRIVER, SYSTEM_NAMESPACE
from webhook.node.certifier import PodCertifier
from webhook.node.errand import run_errand
from webhook.node.folder_placement import FolderPlacement
from webhook.node.identity import IdentityIssuer
from webhook.node.keeper import Keeper
from webhook.node.placement import TmpfsPlacement
from webhook.node.registration import Registration, registration_socket
from webhook.node.server import DriverSettings, Server
from webhook.node.surroundings import NodeSurroundings
from webhook.node.volume_store import VolumeStore
from webhook.replica import Replica, end_with, run_all, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from webhook.config import PlatformConfig
    from webhook.followed_file import FollowedFile
    from webhook.replica import Part

__all__ = ("NodeDriver", "NodeSettings", "run")

_log = logging.getLogger(__name__)

STALE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 5.0
_GATHER_SECONDS: Final = 0.1
_THREADS: Final = 4
_LONGEST_LABEL: Final = 63
_BUNDLES: Final = (CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)
_PLACEMENTS: Final = {"tmpfs": TmpfsPlacement, "folders": FolderPlacement}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What a node's driver is started with.

    Attributes:
        config: The platform's configuration, a mounted file.
        node_name: Of the node, as the kubelet calls it.
        endpoint: The driver's socket, by the path that the kubelet sees.
        kubelet_folder: The folder in which targets are.
        registration: The kubelet's folder of plugins' sockets; None: somebody else registers us.
        state: Where volumes lie, a folder of ours.
        placement: How they are made: `tmpfs` or, for development, `folders`.
        token_audience: Of the pods' tokens; empty is the API server's own.
        namespace: Where the control plane lives.
        kubeconfig: How to reach the API server; None: as the pod's service account.
        host: Where probes and metrics are served.
        status_port: Of probes and metrics.
        limit: Volumes that are renewed at once.
        drain_seconds: How long an end waits for what is under way.

    Raises:
        ConfigurationError: The name of the node is none, or too long for a label.
    """

    config: Path
    node_name: str
    endpoint: Path
    kubelet_folder: Path
    registration: Path | None
    state: Path
    placement: Literal["tmpfs", "folders"] = "tmpfs"
    token_audience: str = ""
    namespace: str = SYSTEM_NAMESPACE
    kubeconfig: Path | None = None
    host: str = "0.0.0.0"  # noqa: S104 - the kubelet comes from outside the pod
    status_port: int = 8080
    limit: int = 8
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < len(self.node_name) <= _LONGEST_LABEL:
            raise ConfigurationError(
                f"expected a node's name of 1 to {_LONGEST_LABEL} characters, as it is the label of"
                f" requests, got {self.node_name!r}"
            )


class NodeDriver(Replica):
    """A running driver.

    Args:
        settings: What it is started with.

    Attributes:
        is_ready: Whether pods get their volumes.
    """

    def __init__(self, settings: NodeSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._registration = _registration(settings)
        self._seen: NodeSurroundings | None = None

    @property
    def is_ready(self) -> bool:
        """Whether pods get their volumes."""
        is_known = self._registration is None or self._registration.is_registered
        return is_known and self._seen is not None and not self._seen.is_stale(STALE_SECONDS)

    async def _work(self, file: FollowedFile[PlatformConfig]) -> None:
        settings = self._settings
        placement = _PLACEMENTS[settings.placement](settings.kubelet_folder)
        store = VolumeStore(settings.state, placement)
        await run_errand(store.open)
        async with NodeSurroundings.seen_from(
            settings.node_name, kubeconfig=settings.kubeconfig
        ) as seen:
            keeper = Keeper(store, events=seen.events, limit=settings.limit)
            await keeper.take_over()
            async with self._served(keeper) as parts:
                await run_all(self._keep(file, seen, keeper), end_with(parts))

    @asynccontextmanager
    async def _served(self, keeper: Keeper) -> AsyncIterator[list[Part]]:
        """Serve the kubelet, and be known to it; yields what runs for that."""
        settings = self._settings
        server = Server(
            keeper,
            DriverSettings(
                name=CSI_DRIVER,
                version=__version__,
                node_name=settings.node_name,
                socket=settings.endpoint,
                kubelet_folder=settings.kubelet_folder,
                audience=settings.token_audience,
            ),
        )
        parts: list[Part] = [server]
        async with AsyncExitStack() as stack:
            await server.start()
            stack.push_async_callback(server.stop)
            if self._registration is not None:
                await self._registration.start()
                stack.push_async_callback(self._registration.stop)
                parts.append(self._registration)
            yield parts

    async def _keep(
        self, file: FollowedFile[PlatformConfig], seen: NodeSurroundings, keeper: Keeper
    ) -> None:
        settings = self._settings
        resource = await await_served(seen.api, *_BUNDLES)
        bundles = ZoneBundles(
            seen.api,
            resource or CONFIG_MAPS,
            namespace=settings.namespace,
            changed=keeper.look_at_everything,
        )
        certifier = PodCertifier(seen.api, seen.guests, settings.node_name)
        async with certifier.requests, bundles:
            await _follow(file.current, bundles)
            await asyncio.gather(seen.complete(), bundles.synced(), certifier.requests.synced())
            keeper.start(_issuer(settings, file, seen, bundles, certifier))
            seen.pods.subscribe(keeper.pod_changed)
            seen.services.subscribe(keeper.service_changed)
            self._seen = seen
            try:
                _log.info("node %s has its driver", settings.node_name)
                await run_all(
                    _keep_looking(keeper),
                    file.follow(partial(_take, bundles, keeper)),
                    end_when_served_changes(seen.api, resource, *_BUNDLES),
                    end_with((seen, certifier.requests, bundles)),
                )
            finally:
                self._seen = None
                await keeper.worklist.close(within=settings.drain_seconds)


async def run(settings: NodeSettings) -> None:
    """Run the driver until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: The configuration is not valid, or the port is in use.
    """
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="volumes")
    asyncio.get_running_loop().set_default_executor(threads)
    await NodeDriver(settings).serve(stop_on_signals())


def _registration(settings: NodeSettings) -> Registration | None:
    if settings.registration is None:
        return None
    socket = registration_socket(settings.registration, CSI_DRIVER)
    return Registration(CSI_DRIVER, settings.endpoint, socket)


def _issuer(
    settings: NodeSettings,
    file: FollowedFile[PlatformConfig],
    seen: NodeSurroundings,
    bundles: ZoneBundles,
    certifier: PodCertifier,
) -> IdentityIssuer:
    return IdentityIssuer(
        seen.api,
        settings.node_name,
        pods=seen.pods,
        services=seen.index,
        configuration=lambda: file.current,
        bundles=bundles,
        certifier=certifier,
    )


async def _keep_looking(keeper: Keeper) -> None:
    """Look soon after each change, at many that come together once, and now and then."""
    while True:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await keeper.has_news.wait()
        except TimeoutError:
            pass
        else:
            await asyncio.sleep(_GATHER_SECONDS)
        keeper.has_news.clear()
        keeper.look()


async def _take(bundles: ZoneBundles, keeper: Keeper, config: PlatformConfig) -> None:
    await _follow(config, bundles)
    keeper.look_at_everything()


async def _follow(config: PlatformConfig, bundles: ZoneBundles) -> None:
    await bundles.follow((*config.zones.values(), *config.outside.values()))
