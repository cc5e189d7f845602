# SPDX-License-Identifier: Apache-2.0
"""When Secrets are made, made anew, and not made; signer and secret issuer side by side."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.secrets.guarded_api import GuardedApi
from tests.webhook.signing.world import (
    EXTERNAL_SIGNER,
    PLATFORM,
    SECRET,
    SECRET_ISSUER,
    Replicas,
    World,
    eventually,
)
from webhook.api import EventRecorder, Informer, Pod, Service, UnreachableError
from webhook.api.backoff import Backoff
from webhook.api.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    CLUSTER_TRUST_BUNDLES,
    EVENTS,
    PODS,
    SECRETS,
    SERVICES,
)
from webhook.config import PlatformConfig
from webhook.delivery.zone_bundles import ZoneBundles
from webhook.issuance.service_names import ServiceIndex
from webhook.names import bundle_name
from webhook.secrets import roster as roster_module
from webhook.secrets.certifier import Certifier
from webhook.secrets.issuer import SecretIssuer
from webhook.secrets.writer import SecretWriter

pytestmark = pytest.mark.anyio

BUNDLE = "kubetls.gauntletwizard.net:workload:example.org"


class Clock:
    """Unix time that tests move."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return datetime.now(UTC).timestamp() + self.ahead


class SecretWorld(World):
    """The signer's world, with a secret issuer that has no more than its rights."""

    def __init__(self, platform=PLATFORM):
        super().__init__(platform)
        self.guarded = GuardedApi(self.api)
        self.clock = Clock()
        self.publish()

    def publish(self, zone="default", bundle=None):
        """Publish the bundle of our zone as it is in the pool, or another one."""
        found = self.config.current.zones[zone]
        text = (bundle or self.pools.pool(zone).bundle.to_pem()).decode()
        name = bundle_name(found.signer_name, found.trust_domain)
        self.api.put(
            CLUSTER_TRUST_BUNDLES, {"metadata": {"name": name}, "spec": {"trustBundle": text}}
        )

    @asynccontextmanager
    async def issuer(self, *, replicas=None, api=None):
        """A running replica of the secret issuer."""
        api = AsSecretIssuer(api or self.guarded)
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            events = await enter(EventRecorder(api, "kubetls-secret-issuer"))
            pods = await enter(Informer(api, PODS, Pod.parse))
            services = await enter(Informer(api, SERVICES, Service.parse))
            index = ServiceIndex()
            services.subscribe(index.apply)
            certifier = Certifier(api, patience_seconds=2.0)
            await enter(certifier.requests)
            news = asyncio.Event()
            bundles = await enter(
                ZoneBundles(
                    api, CLUSTER_TRUST_BUNDLES, namespace="kubetls-system", changed=news.set
                )
            )
            zones = self.config.current.zones.values()
            names = [zone.external_signer or zone.signer_name for zone in zones]
            await certifier.requests.follow(names)
            await bundles.follow((*zones, *self.config.current.partners.values()))
            await asyncio.gather(
                *(each.synced() for each in (pods, services, bundles, certifier.requests))
            )
            made = SecretIssuer(
                pods,
                (services, index),
                configuration=lambda: self.config.current,
                bundles=bundles,
                certifier=certifier,
                writer=SecretWriter(api),
                replicas=replicas or Replicas(),
                events=events,
                now=self.clock,
            )
            made.worklist._backoff = lambda: Backoff(initial=0.01, maximum=0.05)
            made.news, made.bundles = news, bundles
            stack.push_async_callback(made.worklist.close, within=0.1)
            yield made

    def secret(self, name=SECRET, namespace="shop"):
        """Files of a Secret, or None."""
        found = self.api.find(SECRETS, name, namespace)
        if found is None:
            return None
        return {file: base64.b64decode(text) for file, text in found["data"].items()}

    def leaf(self, name=SECRET):
        """The leaf in a Secret."""
        return x509.load_pem_x509_certificate(self.secret(name)["tls.crt"])

    def dns_names(self, name=SECRET):
        """The DNS names of the leaf in a Secret, or None without one."""
        if self.secret(name) is None:
            return None
        names = self.leaf(name).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return names.value.get_values_for_type(x509.DNSName)


class AsSecretIssuer:
    """The API server writes who asked, as the secret issuer."""

    def __init__(self, api):
        self._api = api

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def create(self, resource, body, **options):
        if resource is CERTIFICATE_SIGNING_REQUESTS:
            body = {**body, "spec": {**body["spec"], "username": SECRET_ISSUER}}
        return await self._api.create(resource, body, **options)


class HeldBack:
    """An API whose first Secret is written only when a test says so."""

    def __init__(self, api):
        self._api = api
        self.is_held = False
        self.go = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def create(self, resource, body, **options):
        if resource is SECRETS:
            self.is_held = True
            await self.go.wait()
        return await self._api.create(resource, body, **options)


@pytest.fixture
def world():
    return SecretWorld()


class TestDeliver:
    async def test_files(self, world):
        """The Secret has a key, its certificate, and the zone's bundle, and the pod as owner."""
        pod = world.add_secret_pod()
        async with world.signer(), world.issuer():
            await eventually(world.secret)
        files = world.secret()
        assert files.keys() == {"tls.key", "tls.crt", "ca.crt"}
        key = load_pem_private_key(files["tls.key"], None)
        assert world.leaf().public_key() == key.public_key()
        assert files["ca.crt"] == world.pools.pool("default").bundle.to_pem()
        stored = world.api.find(SECRETS, SECRET, "shop")
        (owner,) = stored["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Pod", pod["metadata"]["uid"])
        assert stored["type"] == "kubetls.gauntletwizard.net/workload"

    async def test_partners(self, kubetls_partner_ca):
        """The bundles of the partners that a pod chose go with it."""
        bundle = kubetls_partner_ca.bundle.to_pem().decode()
        domain = kubetls_partner_ca.trust_domain
        lines = f"partners:\n  - {{name: acme, trustDomain: {domain}, namespaces: [shop], bundle: "
        world = SecretWorld(PLATFORM + lines + repr(bundle).replace("'", '"') + "}\n")
        body = world.add_secret_pod()
        body["metadata"]["annotations"]["kubetls.gauntletwizard.net/partners"] = "acme"
        world.api.put(PODS, body)
        async with world.signer(), world.issuer():
            await eventually(world.secret)
        assert world.secret()[f"{domain}.trust-bundle.pem"] == bundle.encode()

    async def test_a_zone_as_partner(self):
        """Another zone's published bundle goes with it, and the next one when that zone rotates."""
        line = "partners: [{name: friend, zone: other, namespaces: [shop]}]\n"
        world = SecretWorld(PLATFORM + line)
        world.publish("other")
        body = world.add_secret_pod()
        body["metadata"]["annotations"]["kubetls.gauntletwizard.net/partners"] = "friend"
        world.api.put(PODS, body)
        file = "other.example.trust-bundle.pem"
        async with world.signer(), world.issuer() as issuer:
            await eventually(world.secret)
            assert world.secret()[file] == world.pools.pool("other").bundle.to_pem()
            rotated = DevelopmentCA("other.example").bundle.to_pem()
            world.publish("other", rotated)
            await issuer.news.wait()
            issuer.look(at_everything=True)
            await eventually(lambda: world.secret()[file] == rotated)

    async def test_requests_are_cleared_away(self, world):
        """No signing request stays."""
        world.add_secret_pod()
        async with world.signer(), world.issuer() as issuer:
            await eventually(world.secret)
            await eventually(lambda: not len(issuer.worklist))
        assert world.api.all(CERTIFICATE_SIGNING_REQUESTS) == []

    async def test_pod_that_is_not_scheduled(self, world):
        """A pod gets its Secret once it is on a node."""
        body = world.add_secret_pod()
        waiting = body | {"spec": body["spec"] | {"nodeName": ""}}
        world.api.put(PODS, waiting)
        async with world.signer(), world.issuer() as issuer:
            assert not len(issuer.worklist)
            world.api.put(PODS, body)
            await eventually(world.secret)

    async def test_many(self, world):
        """Each pod gets its own."""
        names = [f"kubetls-{number:020x}" for number in range(25)]
        for number, name in enumerate(names):
            world.add_secret_pod(f"web-{number}", secret=name)
        async with world.signer(), world.issuer():
            await eventually(lambda: all(world.secret(name) for name in names), within=10)
        assert len({world.secret(name)["tls.key"] for name in names}) == len(names)


class TestRefuse:
    @pytest.mark.parametrize(
        ("pod", "reason"),
        [
            ({"mounted": "kubetls-ffffffffffffffffffff"}, "NotInjected"),
            ({"secret": "database-password"}, "NotInjected"),
            ({"namespace": "plain"}, "ModeNotAllowed"),
        ],
        ids=["another volume", "a name of its own", "a namespace that may not"],
    )
    async def test_pod(self, world, pod, reason):
        """A pod without our injection, or that may not have it, gets nothing and is told."""
        world.add_secret_pod(**pod)
        async with world.signer(), world.issuer():
            await eventually(world.events)
        assert world.events() == [("web", "SecretNotWritten")]
        (event,) = [each["note"] for each in world.api.all(EVENTS)]
        assert reason in event
        assert world.api.all(SECRETS) == []

    async def test_secret_of_another(self, world):
        """A pod that names another pod's Secret gets neither that one nor one of its own."""
        world.add_secret_pod("owner")
        async with world.signer(), world.issuer():
            before = await eventually(world.secret)
            world.add_secret_pod("thief")
            await eventually(world.events)
        assert world.secret() == before
        assert world.events() == [("thief", "SecretNotWritten")]

    @pytest.mark.parametrize("what", ["another authority", "no certificate"])
    async def test_answer_that_is_not_right(self, world, what):
        """What does not verify under the published bundle never reaches a pod."""
        pools = world.pools.pools
        pools["default"], right = (
            type(world.pools)(world.config.current).pools["default"],
            pools["default"],
        )
        world.add_secret_pod()
        if what == "no certificate":
            pools["default"] = None
        async with world.signer(), world.issuer():
            if what == "another authority":
                await eventually(world.events)
            assert world.secret() is None
            pools["default"] = right
            await eventually(world.secret, within=10)


class TestRenew:
    async def test_before_expiry(self, world):
        """A new key and certificate come when the refresh is due, not before."""
        world.add_secret_pod()
        async with world.signer(), world.issuer() as issuer:
            first = await eventually(world.secret)
            await eventually(lambda: not len(issuer.worklist))
            issuer.look()
            assert not len(issuer.worklist)
            world.clock.ahead = timedelta(hours=15).total_seconds()
            issuer.look()
            await eventually(lambda: world.secret() != first)
        assert world.secret()["tls.key"] != first["tls.key"]

    async def test_new_service(self, world):
        """A Service that comes later is in the certificate at once, and leaves it at once."""
        world.add_secret_pod()
        async with world.signer(), world.issuer():
            await eventually(world.secret)
            world.add_service("front")
            await eventually(lambda: "front.shop.svc" in world.dns_names())
            world.api.remove(SERVICES, "front", "shop")
            await eventually(lambda: world.dns_names() == [])

    async def test_labels_that_change_meanwhile(self, world):
        """Labels that a pod gets while its Secret is written select it in the next one at once."""
        pod = world.add_secret_pod()
        world.add_service("front", app="changed")
        api = HeldBack(world.guarded)
        async with world.signer(), world.issuer(api=api) as issuer:
            await eventually(lambda: api.is_held)
            pod["metadata"]["labels"] = {"app": "changed"}
            world.api.put(PODS, pod)
            await eventually(lambda: issuer._pods.get("shop", "web").labels == {"app": "changed"})
            api.go.set()
            await eventually(lambda: "front.shop.svc" in (world.dns_names() or ()))

    async def test_successor_of_its_name(self, world):
        """Nothing is kept of a pod that went while its Secret was written."""
        world.add_secret_pod()
        api = HeldBack(world.guarded)
        async with world.signer(), world.issuer(api=api) as issuer:
            await eventually(lambda: api.is_held)
            world.api.remove(PODS, "web", "shop")
            await eventually(lambda: issuer._pods.get("shop", "web") is None)
            api.go.set()
            await eventually(lambda: not len(issuer.worklist))
            assert issuer.roster.held == {}

    async def test_service_of_others(self, world):
        """A Service that does not select the pod changes nothing."""
        world.add_secret_pod()
        async with world.signer(), world.issuer() as issuer:
            first = await eventually(world.secret)
            await eventually(lambda: not len(issuer.worklist))
            world.add_service("other", app="other")
            await eventually(lambda: issuer._index.selecting)
            assert not len(issuer.worklist)
        assert world.secret() == first

    async def test_new_root(self, world):
        """A new root is in the pod's bundle at once."""
        world.add_secret_pod()
        async with world.signer(), world.issuer() as issuer:
            first = await eventually(world.secret)
            await eventually(lambda: not len(issuer.worklist))
            issuer.news.clear()
            second = type(world.pools)(world.config.current)
            text = first["ca.crt"] + second.pools["default"].bundle.to_pem()
            body = {"metadata": {"name": BUNDLE}, "spec": {"trustBundle": text.decode()}}
            world.api.put(CLUSTER_TRUST_BUNDLES, body)
            await issuer.news.wait()
            issuer.look(at_everything=True)
            await eventually(lambda: world.secret()["ca.crt"].count(b"BEGIN") == 2)

    async def test_ended_pod(self, world):
        """A pod that has ended is not renewed."""
        body = world.add_secret_pod()
        async with world.signer(), world.issuer() as issuer:
            first = await eventually(world.secret)
            body["status"]["phase"] = "Succeeded"
            world.api.put(PODS, body)
            await eventually(lambda: not issuer.roster._injected["shop"])
            world.clock.ahead = timedelta(hours=15).total_seconds()
            issuer.look()
            assert not len(issuer.worklist)
        assert world.secret() == first


FETCHED = """\
partners:
  - name: acme
    trustDomain: partner.example
    namespaces: [shop]
    endpoint: {url: "https://bundles.partner.example/", profile: https_web, webRoots: true}
"""
PARTNER_FILE = "partner.example.trust-bundle.pem"


def published(bundle, **annotations):
    """A partner's bundle as the leader publishes what it has fetched."""
    name = "kubetls.gauntletwizard.net:partner:acme"
    prefixed = {f"kubetls.gauntletwizard.net/{key}": text for key, text in annotations.items()}
    spec = {"trustBundle": bundle.to_pem().decode()}
    labels = PlatformConfig.parse(PLATFORM + FETCHED).partners["acme"].labels
    metadata = {"name": name, "annotations": prefixed, "labels": labels}
    return {"metadata": metadata, "spec": spec}


class TestFetchedPartner:
    @pytest.fixture
    def world(self):
        world = SecretWorld(PLATFORM + FETCHED)
        body = world.add_secret_pod()
        body["metadata"]["annotations"]["kubetls.gauntletwizard.net/partners"] = "acme"
        world.api.put(PODS, body)
        return world

    @staticmethod
    async def change(world, issuer, body):
        issuer.news.clear()
        world.api.put(CLUSTER_TRUST_BUNDLES, body)
        await issuer.news.wait()
        issuer.look(at_everything=True)

    async def test_published(self, world, kubetls_partner_ca):
        """Its bundle is what the leader publishes, and follows that."""
        first = kubetls_partner_ca.bundle
        world.api.put(CLUSTER_TRUST_BUNDLES, published(first))
        async with world.signer(), world.issuer() as issuer:
            await eventually(world.secret)
            assert world.secret()[PARTNER_FILE] == first.to_pem()
            await eventually(lambda: not len(issuer.worklist))
            kubetls_partner_ca.add_root()
            second = kubetls_partner_ca.bundle
            await self.change(world, issuer, published(second))
            await eventually(lambda: world.secret()[PARTNER_FILE] == second.to_pem())

    async def test_not_yet(self, world, kubetls_partner_ca):
        """The pod does not wait for it: the file is empty, and filled later."""
        async with world.signer(), world.issuer() as issuer:
            await eventually(world.secret)
            assert world.secret()[PARTNER_FILE] == b""
            await eventually(lambda: not len(issuer.worklist))
            bundle = kubetls_partner_ca.bundle
            await self.change(world, issuer, published(bundle))
            await eventually(lambda: world.secret()[PARTNER_FILE] == bundle.to_pem())

    @pytest.mark.parametrize("kind", ["withdrawn", "unreadable", "of another domain"])
    async def test_nobody(self, world, kubetls_partner_ca, kind):
        """What is withdrawn, unreadable, or of the partner's last domain, trusts nobody."""
        body = published(kubetls_partner_ca.bundle)
        world.api.put(CLUSTER_TRUST_BUNDLES, body)
        async with world.signer(), world.issuer() as issuer:
            await eventually(world.secret)
            await eventually(lambda: not len(issuer.worklist))
            if kind == "withdrawn":
                body = published(kubetls_partner_ca.bundle, withdrawn="too-old")
            elif kind == "unreadable":
                body["spec"]["trustBundle"] = "no PEM"
            else:
                text = PLATFORM + FETCHED.replace("partner.example", "bank.example", 1)
                body["metadata"]["labels"] = PlatformConfig.parse(text).partners["acme"].labels
            await self.change(world, issuer, body)
            await eventually(lambda: world.secret()[PARTNER_FILE] == b"")
        assert world.leaf()

    @pytest.mark.parametrize("text", [PLATFORM, PLATFORM + FETCHED.replace("shop", "other")])
    async def test_removed(self, world, kubetls_partner_ca, text):
        """A partner that is gone, or hidden, leaves the Secret, which goes on without it."""
        world.api.put(CLUSTER_TRUST_BUNDLES, published(kubetls_partner_ca.bundle))
        async with world.signer(), world.issuer() as issuer:
            await eventually(world.secret)
            await eventually(lambda: not len(issuer.worklist))
            world.config.current = PlatformConfig.parse(text)
            issuer.look(at_everything=True)
            await eventually(lambda: PARTNER_FILE not in world.secret())
            await eventually(lambda: not len(issuer.worklist))
        assert world.secret().keys() == {"tls.key", "tls.crt", "ca.crt"}


class TestRestart:
    async def test_running_pods_are_spread(self, world, monkeypatch):
        """After a restart, pods that run are renewed within minutes, not all at once."""
        monkeypatch.setattr(roster_module.random, "uniform", lambda _low, high: high)
        body = world.add_secret_pod()
        async with world.signer(), world.issuer():
            first = await eventually(world.secret)
        body["status"]["phase"] = "Running"
        world.api.put(PODS, body)
        async with world.signer(), world.issuer() as issuer:
            issuer.look()
            assert not len(issuer.worklist)
            world.clock.ahead = 301
            issuer.look()
            await eventually(lambda: world.secret() != first)

    async def test_change_while_nobody_owned_it(self, world):
        """Who takes a pod over takes up what changed shortly before."""
        body = world.add_secret_pod()
        async with world.signer(), world.issuer():
            await eventually(world.secret)
        body["status"]["phase"] = "Running"
        world.api.put(PODS, body)
        replicas = Replicas("second", ("first",))
        async with world.signer(), world.issuer(replicas=replicas) as issuer:
            world.add_service("front")
            await eventually(lambda: issuer.roster._touched)
            replicas.live = ("second",)
            issuer.look()
            await eventually(lambda: "front.shop.svc" in world.dns_names())

    @pytest.mark.parametrize("call", range(0, 18, 2))
    async def test_killed_at_any_call(self, call):
        """A replica that was killed at any of its calls leaves no pod without its Secret."""
        world = SecretWorld()
        names = [f"kubetls-{number:020x}" for number in range(3)]
        for number, name in enumerate(names):
            world.add_secret_pod(f"web-{number}", secret=name)
        async with world.signer():
            await _live_until(world, call)
            async with world.issuer():
                await eventually(lambda: all(world.secret(name) for name in names))

    @pytest.mark.parametrize("method", ["create", "replace", "delete"])
    async def test_api_server_that_fails(self, world, method):
        """Calls that fail are made again."""
        world.add_secret_pod()
        async with world.issuer():
            world.api.fail(method, UnreachableError("no answer"), times=3)
            async with world.signer():
                await eventually(world.secret)


class TestExternalSigner:
    @pytest.fixture
    def world(self, kubetls_ca):
        pem = repr(kubetls_ca.authority.public_bytes(Encoding.PEM).decode()).replace("'", '"')
        return SecretWorld(
            PLATFORM.replace(
                "{name: default, trustDomain: example.org}",
                f"{{name: default, trustDomain: example.org, externalSigner: {EXTERNAL_SIGNER},"
                f" trustBundle: {pem}}}",
            )
        )

    def sign(self, world, kubetls_ca, *, path="/ns/shop/sa/web"):
        """Be the external signer: sign what is approved, with any key it likes."""
        (request,) = world.api.all(CERTIFICATE_SIGNING_REQUESTS)
        pem = base64.b64decode(request["spec"]["request"])
        assert isinstance(x509.load_pem_x509_csr(pem).public_key(), ec.EllipticCurvePublicKey)
        svid = kubetls_ca.issue(path, common_name="web", ttl=timedelta(hours=24))
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in svid.chain)
        request["status"]["certificate"] = base64.b64encode(chain).decode()
        world.api.put(CERTIFICATE_SIGNING_REQUESTS, request)

    async def test_certificate_for_another_key(self, world, kubetls_ca):
        """A certificate that is for another key than the one that was made is refused."""
        assert TrustDomain.parse("example.org") == kubetls_ca.trust_domain
        world.add_secret_pod()
        async with world.signer(), world.issuer() as issuer:
            await eventually(lambda: _approved(world))
            self.sign(world, kubetls_ca)
            await eventually(lambda: issuer.worklist._entries["shop", "web"].backoff.failures)
        assert world.secret() is None


class TestModeIsTakenAway:
    async def test_namespace_that_may_no_more(self, world):
        """What the platform took away is not renewed."""
        world.add_secret_pod()
        async with world.signer(), world.issuer() as issuer:
            first = await eventually(world.secret)
            await eventually(lambda: not len(issuer.worklist))
            text = PLATFORM.replace(", secret]", "]")
            world.config.current = PlatformConfig.parse(text)
            issuer.look(at_everything=True)
            await eventually(world.events)
        assert world.secret() == first
        assert world.events() == [("web", "SecretNotWritten")]


async def _live_until(world, call):
    """Run a replica that is killed at its n-th call that writes."""
    reached = asyncio.Event()
    count = 0

    class Mortal(GuardedApi):
        async def _count(self):
            nonlocal count
            count += 1
            if count > call:
                reached.set()
                await asyncio.Event().wait()

        async def create(self, *args, **options):
            await self._count()
            result = await super().create(*args, **options)
            await self._count()
            return result

        async def delete(self, *args, **options):
            await self._count()
            return await super().delete(*args, **options)

    async def live():
        async with world.issuer(api=Mortal(world.api)):
            await eventually(lambda: len(world.api.all(SECRETS)) == 3)
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(live())
    await reached.wait()
    task.cancel()
    await asyncio.wait([task])


def _approved(world):
    found = world.api.all(CERTIFICATE_SIGNING_REQUESTS)
    return found and (found[0].get("status") or {}).get("conditions")
