# SPDX-License-Identifier: Apache-2.0
"""One signer replica, assembled: what it watches, what it answers, and how it ends.

Rules:
    1. It answers requests only when all that decisions rest on was seen: pods, Services, CA pools,
       the other replicas.
    2. At its end it starts nothing more, finishes what is under way, and only then leaves the
       group, so that another takes over at once.
    3. A part that fails ends the process: the kubelet starts it anew, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from webhook.api import Informer, Leadership
from webhook.api.discovery import await_served, end_when_served_changes
from webhook.api.resources import (
    NODES,
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
)
from webhook.replica import Replica, end_with, every, run_all, stop_on_signals
from webhook.signing.audit import AuditLog
from webhook.signing.configuration import Configuration
from webhook.signing.missing_sources import MissingSources, old_node
from webhook.signing.pod_certificates import PodCertificates
from webhook.signing.record import Record
from webhook.signing.settings import SignerSettings
from webhook.signing.signer import Signer
from webhook.signing.signing_requests import SigningRequests
from webhook.surroundings import Surroundings
from webhook.trust.leader import lead
from webhook.trust.pool_source import PoolSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webhook.api import Resource
    from webhook.config import PlatformConfig
    from webhook.followed_file import FollowedFile
    from webhook.signing.inbox import Inbox

__all__ = ("SignerReplica", "SignerSettings", "run")

_log = logging.getLogger(__name__)

STALE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 10.0
_REDISCOVER_SECONDS: Final = 60.0
_REQUESTS: Final = (POD_CERTIFICATE_REQUESTS, POD_CERTIFICATE_REQUESTS_V1BETA1)


class SignerReplica(Replica):
    """A running replica.

    Args:
        settings: What it is started with.

    Attributes:
        is_ready: Whether it answers requests.
    """

    def __init__(self, settings: SignerSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._seen: Surroundings | None = None
        self._inboxes: tuple[Inbox, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether it has started, and sees what goes on."""
        return (
            self._seen is not None
            and not self._seen.is_stale(STALE_SECONDS)
            and not any(inbox.requests.is_stale(STALE_SECONDS) for inbox in self._inboxes)
        )

    async def _work(self, file: FollowedFile[PlatformConfig]) -> None:
        settings = self._settings
        async with (
            Surroundings.seen_by("kubetls-signer", settings) as seen,
            PoolSource(seen.api, namespace=settings.namespace) as pools,
            Informer(seen.api, NODES, old_node) as nodes,
            AsyncExitStack() as stack,
        ):
            configuration = Configuration(file, seen.api, settings.namespace)
            resource = await await_served(seen.api, *_REQUESTS)
            inboxes = self._make_inboxes(seen, resource, configuration, pools)
            for inbox in inboxes:
                await stack.enter_async_context(inbox.requests)
            await _follow(configuration.current, pools, inboxes)
            watches = [inbox.requests.synced() for inbox in inboxes]
            await asyncio.gather(seen.complete(), nodes.synced(), pools.synced(), *watches)
            pools.subscribe(lambda _zone: self._hurry())
            missing = MissingSources(seen.pods, nodes, events=seen.events, replicas=seen.replicas)
            self._seen, self._inboxes = seen, inboxes
            try:
                _log.info("%s answers requests", settings.identity)
                await run_all(
                    *(inbox.shares.run() for inbox in inboxes),
                    self._keep_following(file, configuration, pools),
                    every(_TELL_SECONDS, missing.tell),
                    end_when_served_changes(
                        seen.api, resource, *_REQUESTS, seconds=_REDISCOVER_SECONDS
                    ),
                    end_with((seen, nodes, pools, *(inbox.requests for inbox in inboxes))),
                    *([self._lead(seen, configuration)] if settings.leads else []),
                )
            finally:
                self._seen = None
                within = settings.drain_seconds
                await asyncio.gather(*(inbox.worklist.close(within=within) for inbox in inboxes))

    def _hurry(self) -> None:
        """An authority or another configuration is there: what waited for it need not wait on."""
        for inbox in self._inboxes:
            inbox.worklist.hurry_all()

    async def _lead(self, seen: Surroundings, configuration: Configuration) -> None:
        settings = self._settings
        # A pod's container may be restarted while the Lease of the one before still runs.
        identity = f"{settings.identity}_{secrets.token_hex(4)}"
        leadership = Leadership(seen.api, settings.namespace, "kubetls-leader", identity)
        await leadership.run(
            partial(
                lead,
                seen.api,
                configuration,
                namespace=settings.namespace,
                keeps_serving=settings.keeps_serving,
                events=seen.events,
            )
        )

    async def _keep_following(
        self,
        file: FollowedFile[PlatformConfig],
        configuration: Configuration,
        pools: PoolSource,
    ) -> None:
        followed = None
        while True:
            if configuration.current is not followed:
                followed = configuration.current
                await _follow(followed, pools, self._inboxes)
                self._hurry()
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(file.look)

    def _make_inboxes(
        self,
        seen: Surroundings,
        resource: Resource | None,
        configuration: Configuration,
        pools: PoolSource,
    ) -> tuple[Inbox, ...]:
        audit, limit = AuditLog(), self._settings.limit
        signer = Signer(
            seen.api,
            pods=seen.pods,
            services=seen.index,
            configuration=configuration,
            pools=pools,
            is_blind=partial(seen.is_stale, STALE_SECONDS),
        )
        requests = SigningRequests(
            seen.api,
            signer=signer,
            replicas=seen.replicas,
            record=Record(seen.events, audit, kind="csr"),
            secret_issuer=self._settings.secret_issuer_user,
            limit=limit,
        )
        if resource is None:
            _log.warning("the API server serves no PodCertificateRequests")
            return (requests.inbox,)
        certificates = PodCertificates(
            seen.api,
            resource,
            signer=signer,
            replicas=seen.replicas,
            record=Record(seen.events, audit, kind="pod"),
            limit=limit,
        )
        return certificates.inbox, requests.inbox


async def run(settings: SignerSettings) -> None:
    """Run a replica until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: The configuration is not valid, or the port is in use.
    """
    await SignerReplica(settings).serve(stop_on_signals())


async def _follow(config: PlatformConfig, pools: PoolSource, inboxes: Iterable[Inbox]) -> None:
    """Follow what the zones of a configuration need."""
    zones = config.zones.values()
    await pools.follow(zone.name for zone in zones if zone.external_signer is None)
    signers = [zone.signer_name for zone in zones]
    external = [zone.external_signer for zone in zones if zone.external_signer is not None]
    for inbox in inboxes:
        await inbox.requests.follow(signers + (external if inbox.is_for_external else []))
