# SPDX-License-Identifier: Apache-2.0
"""What the elected leader does: pools and their rotation, bundles, the webhook's certificate.

    leadership = Leadership(api, namespace, "kubetls-leader", identity)
    await leadership.run(partial(lead, api, configuration))

Rules:
    1. Each round looks at everything and does what is due; nothing is remembered that the next
       leader would need.
    2. One zone, partner or task that fails stops no other one, and is tried again.
    3. While our clock is minutes from the API server's nothing is done: by a wrong one, roots would
       be replaced and withdrawn at the wrong time.
    4. A round comes when the configuration, a pool or a bundle changes, and after a pause that is
       short while something is under way.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from webhook import metrics
from webhook.api.errors import ApiError
from webhook.api.informer import Informer
from webhook.api.resources import (
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
    Resource,
)
from webhook.exceptions import WebhookError
from webhook.names import SYSTEM_NAMESPACE
from webhook.trust.attempts import Attempts
from webhook.trust.ca_store import CaStore
from webhook.trust.capability_report import discover, report, reported
from webhook.trust.node_census import NodeCensus
from webhook.trust.partner_keeper import PartnerKeeper
from webhook.trust.pool_entry import State
from webhook.trust.pool_metrics import forget_pool, forget_pools, tell_pool
from webhook.trust.pool_source import PoolSource
from webhook.trust.publisher import Publisher, TrustBundlePublisher, find_publisher
from webhook.trust.replaced_leaves import ReplacedLeaves
from webhook.trust.serving_certificate import ServingKeeper
from webhook.trust.zone_keeper import Clock, ZoneKeeper, longest_lifetime, now_utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api.client import Api
    from webhook.api.events import EventRecorder
    from webhook.config import PlatformConfig, Zone
    from webhook.trust.ca_pool import CaPool

__all__ = ("ConfigurationSource", "Leader", "lead")

_CALM_SECONDS: Final = 30.0
_WATCHFUL_SECONDS: Final = 10.0
_BUSY_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 2.0
_SYNC_SECONDS: Final = 10.0
_MAX_SKEW_SECONDS: Final = 120.0
_REQUESTS: Final = {
    "v1": POD_CERTIFICATE_REQUESTS,
    "v1beta1": POD_CERTIFICATE_REQUESTS_V1BETA1,
}


class ConfigurationSource(Protocol):
    """The platform's configuration, which changes."""

    async def fresh(self) -> PlatformConfig:
        """What is in force, read afresh; never fails."""


async def lead(
    api: Api,
    configuration: ConfigurationSource,
    *,
    namespace: str = SYSTEM_NAMESPACE,
    keeps_serving: bool = True,
    clock: Clock = now_utc,
    events: EventRecorder | None = None,
) -> None:
    """Lead until cancelled.

    Args:
        api: The API server.
        configuration: The platform's.
        namespace: Where the control plane lives.
        keeps_serving: Whether the webhook's serving certificate is ours to make.
        clock: Aware UTC time in whole seconds.
        events: Where Events go.
    """
    leader = Leader(
        api,
        configuration,
        namespace=namespace,
        keeps_serving=keeps_serving,
        clock=clock,
        events=events,
    )
    await leader.run()


class Leader:
    """One term of a leader; the arguments are those of `lead`."""

    def __init__(
        self,
        api: Api,
        configuration: ConfigurationSource,
        *,
        namespace: str = SYSTEM_NAMESPACE,
        keeps_serving: bool = True,
        clock: Clock = now_utc,
        events: EventRecorder | None = None,
    ) -> None:
        self._api = api
        self._configuration = configuration
        self._namespace = namespace
        self._clock = clock
        self._store = CaStore(api, namespace=namespace)
        self._serving = (
            ServingKeeper(api, namespace=namespace, clock=clock) if keeps_serving else None
        )
        self._pool_source = PoolSource(api, namespace=namespace)
        self._replaced = ReplacedLeaves(api, clock=clock)
        self._bundles = AsyncExitStack()
        self._followed: Resource | None = None
        self._publisher: Publisher | None = None
        self._config: PlatformConfig | None = None
        self._requests: Resource | None = None
        self._pools: dict[str, CaPool] = {}
        self._is_renewing = False
        self._attempts = Attempts()
        self._wake = asyncio.Event()
        self._nodes = NodeCensus(api, changed=self._wake.set)
        self._partners = PartnerKeeper(clock=clock, changed=self._wake.set, events=events)

    async def run(self) -> None:
        """Lead until cancelled."""
        async with AsyncExitStack() as stack:
            stack.callback(self._leave)
            await stack.enter_async_context(self._nodes)
            await stack.enter_async_context(self._pool_source)
            await stack.enter_async_context(self._replaced)
            stack.push_async_callback(self._follow_bundles, None)
            stack.push_async_callback(self._partners.aclose)
            self._pool_source.subscribe(lambda _zone: self._wake.set())
            with suppress(ApiError):  # Without it, the nodes' times of grace begin anew.
                await self._remember()
            await self._nodes.wait(_SYNC_SECONDS)
            while True:
                self._wake.clear()
                await self.round()
                await self._rest()

    async def round(self) -> None:
        """Look at everything once, and do what is due."""
        config = self._config = await self._configuration.fresh()
        self._forget_zones(config)
        self._partners.retain(config.outside.values())
        await self._pool_source.follow(config.zones)
        await self._attempts.make("capabilities", self._discover())
        await self._attempts.make("clock", self._check_clock())
        if not self._attempts.is_failing("clock"):
            await self._keep_all(config)
        await self._attempts.make("replaced leaves", self._watch_leaves(config))
        self._tell_failures(config)

    async def _keep_all(self, config: PlatformConfig) -> None:
        publisher = self._publisher
        if publisher is not None:
            for zone in config.zones.values():
                await self._attempts.make(f"zone {zone.name}", self._keep(zone, publisher, config))
            for partner in config.outside.values():
                await self._attempts.make(
                    f"partner {partner.name}", self._partners.keep(partner, publisher)
                )
            spared = frozenset(
                zone.signer_name
                for zone in config.zones.values()
                if self._attempts.is_failing(f"zone {zone.name}")
            )
            await self._attempts.make("removal of bundles", publisher.sweep(config, spared=spared))
        await self._attempts.make("serving certificate", self._keep_serving())

    async def _check_clock(self) -> None:
        ahead = self._api.clock_ahead or 0.0
        if abs(ahead) > _MAX_SKEW_SECONDS:
            raise WebhookError(
                f"our clock is {ahead / 60:+.0f} minutes from the API server's: nothing is done"
                " until both agree"
            )

    async def _remember(self) -> None:
        last = await reported(self._api, namespace=self._namespace)
        self._nodes.remember(last.nodes_without_driver)

    async def _discover(self) -> None:
        capabilities = await discover(
            self._api, self._nodes.old, nodes_without_driver=self._nodes.without_driver()
        )
        self._requests = _REQUESTS.get(capabilities.pod_certificates or "")
        publisher = self._publisher = await find_publisher(self._api, namespace=self._namespace)
        resource = publisher.resource if isinstance(publisher, TrustBundlePublisher) else None
        await self._follow_bundles(resource)
        if self._nodes.is_synced:
            await report(self._api, capabilities, namespace=self._namespace)

    async def _keep(self, zone: Zone, publisher: Publisher, config: PlatformConfig) -> None:
        known = self._pools.get(zone.name)
        replaced = self._replaced.replaced(zone, known, config) if known else frozenset()
        keeper = ZoneKeeper(
            self._store, publisher, clock=self._clock, partner_that_is=config.partner_that_is
        )
        longest = longest_lifetime(config, zone.name)
        pool = await keeper.keep(zone, longest_lifetime=longest, replaced=replaced)
        if pool is not None:
            self._pools[zone.name] = pool
            tell_pool(zone.name, pool)

    async def _keep_serving(self) -> None:
        if self._serving is None:
            return
        state = await self._serving.keep()
        self._is_renewing = state is not None and state.next is not None
        if state is not None and state.current is not None:
            certificate = state.current.certificate
            metrics.set_time(metrics.SERVING_NOT_AFTER, certificate.not_valid_after_utc)

    async def _watch_leaves(self, config: PlatformConfig) -> None:
        signers = [
            zone.signer_name
            for zone in config.zones.values()
            if zone.name in self._pools and self._pools[zone.name].entries_in(State.RETIRED)
        ]
        await self._replaced.follow(signers, self._requests)

    async def _follow_bundles(self, resource: Resource | None) -> None:
        """Hear of changes of bundles by others."""
        if resource == self._followed:
            return
        await self._bundles.aclose()
        self._bundles, self._followed = AsyncExitStack(), resource
        if resource is None:
            return
        informer = Informer(self._api, resource, _version)
        informer.subscribe(lambda _old, _new: self._wake.set())
        await self._bundles.enter_async_context(informer)

    def _forget_zones(self, config: PlatformConfig) -> None:
        for name in self._pools.keys() - config.zones.keys():
            del self._pools[name]
            forget_pool(name)

    def _tell_failures(self, config: PlatformConfig) -> None:
        """Count what fails, and forget tasks that the configuration has no more."""
        self._attempts.retain("zone", config.zones)
        self._attempts.retain("partner", config.outside)
        metrics.LEADER_FAILING.set(len(self._attempts))

    async def _rest(self) -> None:
        """Wait until something changes, or the pause is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._pause_seconds()
        while not self._wake.is_set() and loop.time() < end:
            left = max(0.0, min(_LOOK_SECONDS, end - loop.time()))
            try:
                await asyncio.wait_for(self._wake.wait(), left)
            except TimeoutError:
                if await self._configuration.fresh() != self._config:
                    return

    def _pause_seconds(self) -> float:
        pools = self._pools.values()
        if self._is_renewing or any(pool.is_rotating for pool in pools):
            return _BUSY_SECONDS
        is_settled = all(len(pool.entries) == 1 for pool in pools) and not self._attempts
        return _CALM_SECONDS if is_settled else _WATCHFUL_SECONDS

    def _leave(self) -> None:
        forget_pools()
        metrics.LEADER_FAILING.set(0)


def _version(bundle: Mapping[str, Any]) -> str:
    version: str = bundle["metadata"]["resourceVersion"]
    return version
