# SPDX-License-Identifier: Apache-2.0
"""When a node makes volumes, keeps them current, and refuses; signer and driver side by side."""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.svid import X509Svid
from kubetls_sdk.testing import DevelopmentCA
from tests.waiting import eventually
from tests.webhook.node.world import PLATFORM, NodeWorld
from tests.webhook.signing.world import EXTERNAL_SIGNER, Pools
from webhook.api import UnreachableError
from webhook.api.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    CLUSTER_TRUST_BUNDLES,
    EVENTS,
    PODS,
    SERVICES,
)
from webhook.config import PlatformConfig
from webhook.exceptions import IssuanceError
from webhook.issuance.authority import Authority
from webhook.issuance.profile import issue
from webhook.names import NODE_LABEL
from webhook.node import metrics

pytestmark = pytest.mark.anyio

OTHER_NODE = "node-2"
LATER = timedelta(hours=15).total_seconds()


@pytest.fixture
def world(tmp_path):
    return NodeWorld(tmp_path)


async def published(world, keeper, body):
    """Publish the volume of a pod with a token of its own."""
    await keeper.publish(world.publication(body), world.token(body))
    return world.files(body)


class TestPublish:
    async def test_files(self, world):
        """A key, the certificate for it in the pod's name, and the zone's bundle."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            files = await published(world, keeper, body)
        assert files.keys() == {"credential-bundle.pem", "example.org.trust-bundle.pem"}
        assert files["example.org.trust-bundle.pem"] == world.pools.pool("default").bundle.to_pem()
        assert world.leaf(body).public_key() == world.key(body)
        names = world.leaf(body).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == ["spiffe://example.org/ns/shop/sa/web"]

    async def test_request(self, world):
        """The pod itself has asked, for nothing but a key, and said of which node it is."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            await published(world, keeper, body)
        (request,) = world.requests()
        assert request["spec"]["username"] == "system:serviceaccount:shop:web"
        assert request["metadata"]["labels"] == {NODE_LABEL: "node-1"}
        assert "annotations" not in request["metadata"]

    async def test_partners(self, tmp_path, kubetls_partner_ca):
        """The bundles of the partners that a pod chose go with it."""
        bundle = kubetls_partner_ca.bundle.to_pem().decode()
        domain = kubetls_partner_ca.trust_domain
        lines = f"partners:\n  - {{name: acme, trustDomain: {domain}, namespaces: [shop], bundle: "
        world = NodeWorld(tmp_path, PLATFORM + lines + repr(bundle).replace("'", '"') + "}\n")
        body = world.add_pod(annotations={"kubetls.gauntletwizard.net/partners": "acme"})
        async with world.signer(), world.keeper() as keeper:
            files = await published(world, keeper, body)
        assert files[f"{domain}.trust-bundle.pem"] == bundle.encode()

    async def test_once_more(self, world):
        """A repetition takes the token, and changes and asks nothing."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            for number in range(20):
                token = world.token(body, number=number)
                await keeper.publish(world.publication(body), token)
        assert world.files(body) == first
        assert len(world.requests()) == 1
        assert keeper._kept[world.publication(body).volume_id].token.text == token

    async def test_many(self, world):
        """Each pod gets its own."""
        bodies = [world.add_pod(f"web-{number}") for number in range(60)]
        async with world.signer(), world.keeper() as keeper:
            await asyncio.gather(*(published(world, keeper, body) for body in bodies))
        keys = {world.files(body)["credential-bundle.pem"] for body in bodies}
        assert len(keys) == len(bodies)

    async def test_pod_that_is_not_seen_yet(self, world):
        """A pod that the watch is still to bring is asked for."""
        async with world.signer(), world.keeper() as keeper:
            keeper.pods._objects.clear()
            body = world.add_pod()
            get = keeper.pods.get
            keeper.pods.get = lambda *_: None
            try:
                files = await published(world, keeper, body)
            finally:
                keeper.pods.get = get
        assert files

    async def test_token_is_nowhere(self, world, caplog):
        """Not on the disk, not in a log, not in a representation."""
        caplog.set_level(logging.DEBUG)
        body = world.add_pod()
        token = world.token(body)
        async with world.signer(), world.keeper() as keeper:
            await keeper.publish(world.publication(body), token)
            shown = repr(keeper._kept) + repr(vars(keeper)) + caplog.text
        assert token not in shown
        assert "PRIVATE" not in shown
        for path in [*world.state.rglob("*"), *world.kubelet.rglob("*")]:
            assert not path.is_file() or token.encode() not in path.read_bytes()


class TestRefuse:
    @pytest.mark.parametrize(
        ("metadata", "spec", "changes", "reason"),
        [
            ({"namespace": "plain"}, {}, {}, "ModeNotAllowed"),
            ({"namespace": "elsewhere"}, {}, {}, "ModeNotAllowed"),
            ({}, {"nodeName": OTHER_NODE}, {}, "PodMismatch"),
            ({}, {}, {"service_account": "admin"}, "PodMismatch"),
            ({}, {}, {"uid": "another"}, "PodTerminal"),
            ({}, {}, {"name": "nobody"}, "PodTerminal"),
            ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, {}, {}, "PodTerminal"),
        ],
        ids=["mode", "no rule", "node", "account", "uid", "no such pod", "terminating"],
    )
    async def test_pod(self, world, metadata, spec, changes, reason):
        """What the API server does not say of the pod as well is refused, and nothing asked."""
        namespace = metadata.pop("namespace", "shop")
        body = world.add_pod(namespace=namespace, **metadata)
        body = world.api.put(PODS, body | {"spec": body["spec"] | spec})
        async with world.signer(), world.keeper() as keeper:
            with pytest.raises(IssuanceError) as caught:
                await keeper.publish(world.publication(body, **changes), world.token(body))
            await eventually(world.events)
        assert (caught.value.reason, caught.value.is_retryable) == (reason, False)
        assert (world.requests(), list(keeper.store), world.files(body)) == ([], [], {})
        assert {name for _, name in world.events()} == {"VolumeNotPublished"}

    @pytest.mark.parametrize("other", ["same account", "another account", "another node"])
    async def test_token_of_another(self, world, other):
        """The API server says whose a token is, and what it brings goes to nobody."""
        body, thief = world.add_pod(), world.add_pod("thief")
        if other == "another account":
            body["spec"]["serviceAccountName"] = "admin"
        token = world.token(body) if other != "another node" else None
        token = token or world.token(thief, node=OTHER_NODE)
        async with world.signer(), world.keeper() as keeper:
            with pytest.raises(IssuanceError, match="got another's") as caught:
                await keeper.publish(world.publication(thief), token)
        assert (caught.value.reason, caught.value.is_retryable) == ("PodMismatch", False)
        assert world.files(thief) == {}

    async def test_token_that_is_not_accepted(self, world):
        """One of another audience, or an old one: the kubelet shall come with another."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            with pytest.raises(IssuanceError, match="audience") as caught:
                await keeper.publish(world.publication(body), "a.b.c")
        assert (caught.value.reason, caught.value.is_retryable) == ("TokenRefused", True)
        assert "a.b.c" not in str(caught.value)
        assert world.guests.used == ["a.b.c"]

    async def test_account_that_may_not_ask(self, world):
        """The message says what the pods' accounts lack."""
        body = world.add_pod()
        world.guests.is_forbidden = True
        async with world.signer(), world.keeper() as keeper:
            with pytest.raises(IssuanceError, match="may not ask") as caught:
                await published(world, keeper, body)
        assert caught.value.reason == "MayNotAsk"

    async def test_signer_says_no(self, world):
        """Its words are in the error, and in an Event of the pod."""
        world.patience_seconds = 0.5
        body = world.add_pod()
        narrow = PLATFORM.replace(
            "modes: [csi, pod-certificate]}", "modes: [csi], keyTypes: [ED25519]}"
        )
        async with world.signer(), world.keeper() as keeper:
            wide, world.config.current = world.config.current, PlatformConfig.parse(narrow)
            keeper._issuer._configuration = lambda: wide
            with pytest.raises(IssuanceError, match="UnsupportedKeyType") as caught:
                await published(world, keeper, body)
            await eventually(world.events)
        assert caught.value.reason == "SignerRefused"
        assert ("web", "VolumeNotPublished") in world.events()
        assert world.files(body) == {}

    @pytest.mark.parametrize("how", ["deleted", "terminating", "successor"])
    async def test_pod_that_vanishes_meanwhile(self, world, how):
        """A certificate for a pod that is gone is not even written."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            certify = keeper.certifier.certify

            async def certify_and_lose_the_pod(*arguments):
                chain = await certify(*arguments)
                before = keeper.pods.get("shop", "web")
                if how == "terminating":
                    metadata = body["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}
                    world.api.put(PODS, body | {"metadata": metadata})
                else:
                    world.api.remove(PODS, "web", "shop")
                if how == "successor":
                    await eventually(lambda: keeper.pods.get("shop", "web") is None)
                    world.add_pod()
                    await eventually(lambda: keeper.pods.get("shop", "web"))
                await eventually(lambda: keeper.pods.get("shop", "web") != before)
                return chain

            keeper.certifier.certify = certify_and_lose_the_pod
            with pytest.raises(IssuanceError) as caught:
                await published(world, keeper, body)
        assert (caught.value.reason, caught.value.is_retryable) == ("PodTerminal", False)
        assert len(world.requests()) == 1
        assert (world.files(body), list(keeper.store)) == ({}, [])

    async def test_answer_of_another_authority(self, world):
        """A certificate that does not stand under the zone's bundle never reaches a pod."""
        world.patience_seconds = 0.3
        world.publish_bundle(text=DevelopmentCA("example.org").bundle.to_pem())
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            with pytest.raises(IssuanceError, match="does not verify"):
                await published(world, keeper, body)
        assert world.files(body) == {}


class TestExternalSigner:
    """Somebody else's signer takes the names from the request, and signs what was approved."""

    @pytest.fixture
    def world(self, tmp_path, kubetls_ca):
        pem = repr(kubetls_ca.authority.public_bytes(Encoding.PEM).decode()).replace("'", '"')
        zone = "{name: default, trustDomain: example.org"
        external = f"{zone}, externalSigner: {EXTERNAL_SIGNER}, trustBundle: {pem}"
        return NodeWorld(tmp_path, PLATFORM.replace(zone, external))

    async def sign(self, world, keeper, body, authority, **changes):
        """Be that signer: sign the pod's request once it is approved."""
        await eventually(lambda: [each for each in world.requests() if world.verdict(each)])
        (request,) = world.requests()
        csr = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        grant = keeper._issuer.plan(world.publication(body).pod).grant
        grant = replace(grant, **{"public_key": csr.public_key()} | changes)
        issued = issue(grant, authority, now=datetime.now(UTC))
        request["status"]["certificate"] = base64.b64encode(issued.chain_pem).decode()
        world.api.put(CERTIFICATE_SIGNING_REQUESTS, request)
        return csr

    @pytest.fixture
    def authority(self, kubetls_ca):
        root = kubetls_ca.authority
        return Authority((root,), kubetls_ca.root.private_key, root)

    async def test_names(self, world, authority):
        """The request says what the pod is, and the answer is the pod's identity."""
        body = world.add_pod()
        world.add_service("web")
        async with world.signer(), world.keeper() as keeper:
            publishing = asyncio.create_task(published(world, keeper, body))
            csr = await self.sign(world, keeper, body, authority)
            await publishing
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "web.shop.svc" in names.get_values_for_type(x509.DNSName)
        assert "web.shop.svc" in world.dns_names(body)
        assert world.leaf(body).public_key() == world.key(body) == csr.public_key()

    async def test_more_than_asked(self, world, authority):
        """An answer with a name more than was asked for reaches no pod."""
        world.patience_seconds = 0.5
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            publishing = asyncio.create_task(published(world, keeper, body))
            await self.sign(world, keeper, body, authority, dns_names=("bank.shop.svc",))
            with pytest.raises(IssuanceError, match="names is not what was asked for"):
                await publishing
        assert world.files(body) == {}


class TestWait:
    async def test_for_the_signer(self, world):
        """A signer that comes within the patience is enough."""
        body = world.add_pod()
        async with world.keeper(answers_within=0.05) as keeper:
            publishing = asyncio.create_task(published(world, keeper, body))
            await eventually(lambda: len(world.requests()) > 1)
            async with world.signer():
                assert await publishing

    async def test_no_longer_than_the_kubelet(self, world):
        """In the end the kubelet is told what is missing, and that it may come again."""
        world.patience_seconds = 0.3
        body = world.add_pod()
        async with world.keeper(answers_within=0.1) as keeper:
            with pytest.raises(IssuanceError, match="the signer did not answer") as caught:
                await published(world, keeper, body)
            await eventually(world.events)
        assert (caught.value.reason, caught.value.is_retryable) == ("NoAnswer", True)

    async def test_without_any_answer(self, world):
        """A request that never ends is told as that, and not as a cluster out of sight."""
        world.patience_seconds = 0.1
        body = world.add_pod()
        async with world.keeper(answers_within=60) as keeper:
            with pytest.raises(IssuanceError, match="nobody has answered") as caught:
                await published(world, keeper, body)
        assert (caught.value.reason, caught.value.is_retryable) == ("NoAnswer", True)

    async def test_until_the_cluster_is_seen(self, world):
        """Asked before that, the driver answers once it knows."""
        body = world.add_pod()
        async with world.signer(), world.keeper(sees=False) as keeper:
            publishing = asyncio.create_task(published(world, keeper, body))
            await asyncio.sleep(0)
            assert (keeper.is_ready, world.requests()) == (False, [])
            keeper.begin()
            assert await publishing

    async def test_for_the_bundle(self, world):
        """Nothing is issued for a zone whose bundle is not published yet."""
        (name,) = [each["metadata"]["name"] for each in world.api.all(CLUSTER_TRUST_BUNDLES)]
        world.api.remove(CLUSTER_TRUST_BUNDLES, name)
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            publishing = asyncio.create_task(published(world, keeper, body))
            await asyncio.sleep(0)
            world.publish_bundle()
            assert await publishing

    async def test_through_trouble_of_the_api_server(self, world):
        """No answer, or one later: it is asked again."""
        body = world.add_pod()
        world.api.fail("create", UnreachableError("broken off"), times=2)
        async with world.signer(), world.keeper() as keeper:
            assert await published(world, keeper, body)


class TestRenew:
    async def test_before_expiry(self, world):
        """A new key and certificate come when the refresh is due, not before."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            key = world.key(body)
            keeper.look()
            assert not len(keeper.worklist)
            world.clock.ahead = LATER
            await keeper.publish(world.publication(body), world.token(body))
            keeper.look()
            await eventually(lambda: world.files(body) != first)
        assert world.leaf(body).public_key() == world.key(body) != key
        bundle = world.files(body)["credential-bundle.pem"]
        X509Svid.from_pem(
            certificates=bundle[bundle.index(b"-----BEGIN CERT") :],
            private_key=bundle[: bundle.index(b"-----BEGIN CERT")],
        )

    async def test_services(self, world):
        """A Service that comes later is in the certificate at once, and leaves it at once."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            await published(world, keeper, body)
            world.add_service("front")
            await eventually(lambda: "front.shop.svc" in world.dns_names(body))
            world.api.remove(SERVICES, "front", "shop")
            await eventually(lambda: world.dns_names(body) == [])
            await eventually(lambda: not len(keeper.worklist))
        assert len(world.requests()) == 3

    async def test_labels(self, world):
        """So it is with labels that a Service selects by."""
        body = world.add_pod()
        world.add_service("front", app="changed")
        async with world.signer(), world.keeper() as keeper:
            await published(world, keeper, body)
            body["metadata"]["labels"] = {"app": "changed"}
            world.api.put(PODS, body)
            await eventually(lambda: "front.shop.svc" in world.dns_names(body))

    async def test_service_of_others(self, world):
        """A Service that does not select the pod changes nothing."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            world.add_service("other", app="other")
            await eventually(lambda: keeper._issuer._services._buckets)
            keeper.look()
            assert not len(keeper.worklist)
        assert world.files(body) == first

    async def test_new_root(self, world):
        """A root that joins is in the bundle at once; key and certificate stay."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            both = (
                first["example.org.trust-bundle.pem"] + DevelopmentCA("example.org").bundle.to_pem()
            )
            world.publish_bundle(text=both)
            await eventually(lambda: world.files(body) != first)
        changed = world.files(body)
        assert changed["example.org.trust-bundle.pem"].count(b"BEGIN") == 2
        assert changed["credential-bundle.pem"] == first["credential-bundle.pem"]
        assert len(world.requests()) == 1

    async def test_root_that_is_replaced(self, world):
        """A certificate that does not stand under the new roots is replaced with them."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            world.pools.pools = Pools(world.config.current).pools
            world.publish_bundle()
            await eventually(
                lambda: world.files(body)["credential-bundle.pem"] != first["credential-bundle.pem"]
            )
        root = world.pools.pool("default").bundle
        assert world.files(body)["example.org.trust-bundle.pem"] == root.to_pem()
        world.leaf(body).verify_directly_issued_by(root.authorities[0])

    async def test_lifetime_that_was_shortened(self, world):
        """A rule that was narrowed is obeyed at once; one that was widened in due time."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            short = "lifetime: {default: 2h, maximum: 2h}, modes"
            world.config.current = PlatformConfig.parse(PLATFORM.replace("modes", short))
            keeper.look_at_everything()
            await eventually(lambda: world.files(body) != first)
            second = world.files(body)
            world.config.current = PlatformConfig.parse(PLATFORM)
            keeper.look_at_everything()
            await eventually(lambda: not len(keeper.worklist) and not keeper.has_news.is_set())
        assert world.files(body) == second
        leaf = world.leaf(body)
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(hours=2)

    async def test_mode_that_was_withdrawn(self, world):
        """What a pod has it keeps; the next one it does not get, and its owner is told."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            world.config.current = PlatformConfig.parse(PLATFORM.replace("[csi, ", "["))
            keeper.look()
            assert not len(keeper.worklist)
            world.clock.ahead = LATER
            keeper.look()
            await eventually(world.events)
        assert ("web", "VolumeNotRenewed") in world.events()
        assert world.files(body) == first

    async def test_signer_that_is_down(self, world):
        """The old identity stays; it is asked again and again; the pod's owner is told."""
        body = world.add_pod()
        async with world.keeper(answers_within=0.05) as keeper:
            async with world.signer():
                first = await published(world, keeper, body)
            world.clock.ahead = LATER
            await keeper.publish(world.publication(body), world.token(body))
            keeper.look()
            await eventually(world.events)
            assert world.files(body) == first
            assert ("web", "VolumeNotRenewed") in world.events()
            async with world.signer():
                await eventually(lambda: world.files(body) != first)
        assert "did not answer" in world.api.all(EVENTS)[0]["note"]

    async def test_full_disk(self, world, monkeypatch):
        """What cannot be written changes nothing, and is tried again."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            failures = []

            def fail(*_):
                failures.append(1)
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(keeper.store, "write", fail)
                world.add_service("front")
                await eventually(lambda: len(failures) > 2)
                assert world.files(body) == first
            await eventually(lambda: "front.shop.svc" in world.dns_names(body))
            await eventually(world.events)
        assert ("web", "VolumeNotRenewed") in world.events()


class TestToken:
    async def test_old_one(self, world):
        """Without a valid token a renewal waits, asks nothing, and goes on with the next."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            world.clock.ahead = LATER
            keeper.look()
            assert not len(keeper.worklist)
            assert _value(metrics.WITHOUT_TOKEN) == 1
            assert len(world.requests()) == 1
            await keeper.publish(world.publication(body), world.token(body))
            await eventually(lambda: world.files(body) != first)
            assert _value(metrics.WITHOUT_TOKEN) == 0

    async def test_refused_one(self, world):
        """One that the API server refuses is not used a second time."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            await published(world, keeper, body)
            world.guests.holders.clear()
            world.add_service("front")
            await eventually(lambda: _value(metrics.WITHOUT_TOKEN) == 1)
            await eventually(lambda: not len(keeper.worklist))
            assert len(world.guests.used) == 2
            await keeper.publish(world.publication(body), world.token(body, number=2))
            await eventually(lambda: "front.shop.svc" in world.dns_names(body))

    async def test_expired_certificate(self, world):
        """A certificate that ran out is counted, and replaced as soon as a token comes."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            assert _value(metrics.EXPIRED) == 0
            world.clock.ahead = timedelta(hours=30).total_seconds()
            assert _value(metrics.EXPIRED) == 1
            world.clock.ahead = LATER
            await keeper.publish(world.publication(body), world.token(body))
            await eventually(lambda: world.files(body) != first)


class TestRestart:
    async def test_nothing_changes(self, world):
        """Volumes of before are kept as they are: no new key, no request."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
        async with world.keeper() as keeper:
            await keeper.publish(world.publication(body), world.token(body))
            keeper.look()
            assert not len(keeper.worklist)
            assert keeper.published(world.publication(body).volume_id) == world.publication(body)
        assert world.files(body) == first
        assert len(world.requests()) == 1

    async def test_without_the_cluster(self, world):
        """A volume of before is published again while no API server is seen."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
        async with world.keeper(sees=False) as keeper:
            await keeper.publish(world.publication(body), world.token(body))
        assert world.files(body) == first

    async def test_what_changed_meanwhile(self, world):
        """What a pod shall have now is found out by its files, and waits for its token."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            await published(world, keeper, body)
        world.add_service("front")
        async with world.signer(), world.keeper() as keeper:
            await eventually(lambda: _value(metrics.WITHOUT_TOKEN) == 1)
            await keeper.publish(world.publication(body), world.token(body))
            await eventually(lambda: "front.shop.svc" in world.dns_names(body))

    async def test_bundles_need_no_token(self, world):
        """A root that joined meanwhile is there before any token."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
        both = first["example.org.trust-bundle.pem"] + DevelopmentCA("example.org").bundle.to_pem()
        world.publish_bundle(text=both)
        async with world.keeper():
            await eventually(lambda: world.files(body) != first)
        assert world.files(body)["credential-bundle.pem"] == first["credential-bundle.pem"]


class TestUnpublish:
    async def test_twice(self, world):
        """Volume and target are gone, and so they stay."""
        body = world.add_pod()
        publication = world.publication(body)
        async with world.signer(), world.keeper() as keeper:
            await published(world, keeper, body)
            for _ in range(2):
                await keeper.unpublish(publication.volume_id, publication.target)
                assert not publication.target.exists()
            assert keeper.published(publication.volume_id) is None
            assert list(world.state.iterdir()) == []

    async def test_while_it_is_renewed(self, world):
        """A renewal that is under way writes nothing any more."""
        body = world.add_pod()
        publication = world.publication(body)
        async with world.keeper() as keeper:
            async with world.signer():
                await published(world, keeper, body)
            world.add_service("front")
            await eventually(lambda: len(world.requests()) == 2)
            await keeper.unpublish(publication.volume_id, publication.target)
            async with world.signer():
                await eventually(lambda: not len(keeper.worklist))
        assert not publication.target.exists()
        assert list(world.state.iterdir()) == []

    async def test_error_on_the_way(self, world, monkeypatch):
        """What could not be placed is not kept, and the kubelet's next call makes it whole."""
        body = world.add_pod()
        async with world.signer(), world.keeper() as keeper:
            with monkeypatch.context() as patch:
                patch.setattr(keeper.store, "expose", _fail)
                with pytest.raises(OSError, match="no way"):
                    await published(world, keeper, body)
            publication = world.publication(body)
            assert keeper.published(publication.volume_id) is None
            await keeper.unpublish(publication.volume_id, publication.target)
            assert list(world.state.iterdir()) == []
            assert await published(world, keeper, body)


def _fail(*_):
    raise OSError("no way")


def _value(gauge):
    (family,) = gauge.collect()
    return family.samples[0].value
