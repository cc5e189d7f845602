# SPDX-License-Identifier: Apache-2.0
"""A zone, an API server in memory, a clock that tests move, and a leader that can be killed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from tests.webhook.api_double import ApiDouble
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, SECRETS
from webhook.config import PlatformConfig
from webhook.trust.ca_store import CaStore, pool_in
from webhook.trust.publisher import TrustBundlePublisher, anchors_in
from webhook.trust.rotation import CaOrders
from webhook.trust.zone_keeper import ZoneKeeper, longest_lifetime

START = datetime(2026, 11, 25, 12, tzinfo=UTC)
PROPAGATION = timedelta(minutes=10)
LIFETIME = timedelta(hours=24)
SIGNER = "kubetls.gauntletwizard.net/workload"
BUNDLE = "kubetls.gauntletwizard.net:workload:example.org"
NAMESPACE = "kubetls-system"
CALLS = ("get", "list", "create", "replace", "delete", "serves")

PLATFORM = """\
version: 1
zones:
  - name: default
    trustDomain: example.org
namespaces:
  - names: ["*"]
"""


class Clock:
    """Whole seconds of UTC that pass only when told."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now

    def pass_(self, span):
        self.now += span


class Killed(BaseException):
    """The process died; nothing after it ran."""


class MortalApi:
    """An API server whose client dies at one of its calls: before it, or after its effect.

    Args:
        api: The double.
        dies_at: Number of the call, from 0; None: never.
        after_effect: Whether the call was carried out.
        seen: Called after each call.
    """

    def __init__(self, api, dies_at=None, *, after_effect=False, seen=lambda: None):
        self.count = 0
        self._api = api
        self._dies_at = dies_at
        self._after_effect = after_effect
        self._seen = seen

    def __getattr__(self, name):
        method = getattr(self._api, name)
        return self._mortal(method) if name in CALLS else method

    def _mortal(self, method):
        async def call(*args, **kwargs):
            number, self.count = self.count, self.count + 1
            if number == self._dies_at and not self._after_effect:
                raise Killed
            try:
                return await method(*args, **kwargs)
            finally:
                self._seen()
                if number == self._dies_at:
                    raise Killed

        return call


class World:
    """One zone `default` of `example.org`, propagation 10 minutes, leaves of 24 hours."""

    def __init__(self, platform=PLATFORM):
        self.api = ApiDouble()
        self.clock = Clock()
        self.config = PlatformConfig.parse(platform)

    @property
    def zone(self):
        return self.config.zones["default"]

    def orders(self, api=None):
        return CaOrders(api or self.api, self.config, "default", clock=self.clock)

    def keeper(self, api=None):
        api = api or self.api
        return ZoneKeeper(CaStore(api), TrustBundlePublisher(api), clock=self.clock)

    async def keep(self, api=None, **options):
        longest = longest_lifetime(self.config, "default")
        return await self.keeper(api).keep(self.zone, longest_lifetime=longest, **options)

    def pool(self):
        """The pool as it is stored, or None."""
        secret = self.api.find(SECRETS, "kubetls-ca-default", NAMESPACE)
        return None if secret is None else pool_in(secret)

    def published(self):
        """DER of the anchors that are published."""
        body = self.api.find(CLUSTER_TRUST_BUNDLES, BUNDLE)
        if body is None:
            return frozenset()
        return anchors_in(body["spec"]["trustBundle"], self.zone.trust_domain)

    def vandalise(self, text):
        """Put another text into the bundle, as somebody else might."""
        body = self.api.find(CLUSTER_TRUST_BUNDLES, BUNDLE)
        body["spec"]["trustBundle"] = text
        self.api.put(CLUSTER_TRUST_BUNDLES, body)

    def states(self):
        return [entry.state.value for entry in self.pool().entries]

    async def settle(self, api=None):
        """Keep the zone and let time pass, until nothing is under way."""
        for _ in range(10):
            await self.keep(api)
            pool = self.pool()
            if pool.rotation is None and len(pool.entries) == 1:
                return
            self.clock.pass_(next_moment(pool, self.zone) - self.clock.now)
        raise AssertionError(f"still {self.pool()!r}")


async def until(predicate):
    """Let other tasks run until something is true.

    Raises:
        TimeoutError: It stayed false for ten seconds.
    """
    async with asyncio.timeout(10):
        while not predicate():  # noqa: ASYNC110 - the double has no event for everything
            await asyncio.sleep(0.005)


def next_moment(pool, zone):
    """The time that the pool waits for."""
    starts = pool.signs_from(zone.propagation)
    if starts is not None:
        return starts
    return min(entry.last_leaf_not_after for entry in pool.entries if entry.last_leaf_not_after)
