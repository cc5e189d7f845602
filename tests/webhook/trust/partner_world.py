# SPDX-License-Identifier: Apache-2.0
"""A partner with an endpoint on loopback, an API server in memory, and one leader after another."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import trustme
import yaml

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.federation.bundle_document import to_jwks
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.bundle_server import BundleServer
from tests.integration.origin import stock_server_context
from tests.webhook.api_double import ApiDouble
from tests.webhook.trust.world import PLATFORM, Clock
from webhook.api.resources import CLUSTER_TRUST_BUNDLES
from webhook.config import PlatformConfig
from webhook.trust.partner_keeper import PartnerKeeper
from webhook.trust.publisher import TrustBundlePublisher

NAME = "kubetls.gauntletwizard.net:partner:acme"
PREFIX = "kubetls.gauntletwizard.net"
SERVER = "/ns/spire/sa/bundles"
WEB_CA = trustme.CA()


class Events:
    """Keeps the Events that were told."""

    def __init__(self):
        self.told = []

    async def event(self, regarding, type_, reason, note, *, action):
        self.told.append((regarding.name, type_, reason, note, action))


class PartnerWorld:
    """A partner `acme` of `partner.example`, fetched every minute and good for a day.

    Attributes:
        ca: The partner's.
        server: Its endpoint, of profile `https_web`.
        endpoint: What the configuration says of it.
        more: And what else of the partner.
        timeout: Of a fetch, in seconds.
    """

    def __init__(self, server):
        self.ca = DevelopmentCA("partner.example")
        self.server = server
        self.server.publish(self.ca.bundle, sequence=7)
        self.api = ApiDouble()
        self.clock = Clock(datetime.now(UTC).replace(microsecond=0))
        self.publisher = TrustBundlePublisher(self.api)
        self.events = Events()
        self.changed = asyncio.Event()
        self.endpoint = {
            "url": server.url,
            "profile": "https_web",
            "roots": WEB_CA.cert_pem.bytes().decode(),
        }
        self.more = {}
        self.timeout = 10.0
        self.keeper = None

    def declared(self, **fields):
        """The partner as it is configured."""
        entry = {"name": "acme", "trustDomain": "partner.example", "namespaces": ["*"]}
        entry |= {"endpoint": self.endpoint, **self.more, **fields}
        entry = {key: value for key, value in entry.items() if value is not None}
        config = PlatformConfig.parse(PLATFORM + yaml.safe_dump({"partners": [entry]}))
        partner = config.partners["acme"]
        if partner.federated is None:
            return partner
        return replace(partner, federated=replace(partner.federated, timeout_seconds=self.timeout))

    @asynccontextmanager
    async def leader(self):
        """A leader's term; it knows nothing but what is published."""
        self.changed.clear()
        self.keeper = PartnerKeeper(clock=self.clock, changed=self.changed.set, events=self.events)
        try:
            yield self
        finally:
            await self.keeper.aclose()

    async def keep(self, partner=None):
        """What a round of the leader does."""
        partner = partner or self.declared()
        self.keeper.retain([partner])
        await self.keeper.keep(partner, self.publisher)

    async def fetched(self, partner=None):
        """Wait for the end of a fetch, and keep."""
        async with asyncio.timeout(10):
            await self.changed.wait()
        self.changed.clear()
        await self.keep(partner)

    async def begin(self, partner=None):
        """The first two rounds: one that asks the endpoint, and one that has the answer."""
        await self.keep(partner)
        await self.fetched(partner)

    def ask(self):
        """Make the next fetch due."""
        self.keeper._fetches._running["acme"].poll.wake()

    async def again(self):
        """The next fetch, and a round."""
        self.ask()
        await self.fetched()

    @property
    def body(self):
        return self.api.find(CLUSTER_TRUST_BUNDLES, NAME)

    @property
    def in_force(self):
        """What the volumes of pods have that ask for the partner."""
        body = self.body
        if body is None or body["metadata"]["labels"].get(f"{PREFIX}/partner") != "acme":
            return TrustBundle(self.ca.trust_domain, ())
        return TrustBundle.from_pem(self.ca.trust_domain, body["spec"]["trustBundle"].encode())

    def annotation(self, name):
        return self.body["metadata"]["annotations"].get(f"{PREFIX}/{name}")

    def edit(self, change):
        """Change what is published, as an administrator may."""
        body = self.body
        change(body)
        self.api.put(CLUSTER_TRUST_BUNDLES, body)


@asynccontextmanager
async def partner_world():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    WEB_CA.issue_cert("localhost").configure_cert(context)
    WEB_CA.configure_trust(context)
    with BundleServer.running(context) as server:
        yield PartnerWorld(server)


@asynccontextmanager
async def spiffe_world():
    """The same with an endpoint of profile `https_spiffe` that serves its own trust domain."""
    ca = DevelopmentCA("partner.example")
    with BundleServer.running(stock_server_context(ca.issue(SERVER))) as server:
        world = PartnerWorld(server)
        world.ca = ca
        server.publish(ca.bundle, sequence=7)
        world.endpoint = {
            "url": server.url,
            "profile": "https_spiffe",
            "spiffeId": str(ca.spiffe_id(SERVER)),
            "bootstrap": ca.bundle.to_pem().decode(),
        }
        yield world


def add_keys(server, bundle):
    """Add the authorities of another bundle to what an endpoint answers."""
    document = json.loads(server.body)
    document["keys"] += json.loads(to_jwks(bundle, sequence=None, refresh_hint=None))["keys"]
    server.body = json.dumps(document).encode()
