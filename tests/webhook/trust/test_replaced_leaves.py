# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kubetls_sdk.spiffe_id import SpiffeId
from tests.webhook.trust.world import PROPAGATION, SIGNER, World
from webhook.api.resources import CERTIFICATE_SIGNING_REQUESTS, POD_CERTIFICATE_REQUESTS, PODS
from webhook.issuance.grant import Grant
from webhook.issuance.profile import issue
from webhook.trust.issued_leaf import IssuedLeaf, key_identifier
from webhook.trust.replaced_leaves import ReplacedLeaves
from webhook.trust.rotation import FORCE_WORD

pytestmark = pytest.mark.anyio

PREFIX = "kubetls.gauntletwizard.net"
LEAF_LIFETIME = timedelta(hours=24)


class Rotated(World):
    """A zone whose new root signs, with pods that were issued leaves before and after."""

    async def begin(self):
        await self.settle()
        self.old = self.pool().active
        await self.orders().rotate(force_propagation=FORCE_WORD)
        await self.keep()
        self.new = self.pool().active
        return self.pool().entries[0].id

    def chain(self, authority):
        grant = Grant(
            zone=self.zone,
            spiffe_id=SpiffeId.parse("spiffe://example.org/ns/shop/sa/web"),
            common_name="web",
            dns_names=(),
            public_key=ec.generate_private_key(ec.SECP256R1()).public_key(),
            lifetime=LEAF_LIFETIME,
        )
        return issue(grant, authority, now=self.clock.now).chain_pem.decode()

    def pod(self, name, *, uid=None, signers=(SIGNER,), annotations=None, phase="Running"):
        sources = [{"podCertificate": {"signerName": signer}} for signer in signers]
        volumes = [{"name": "kubetls", "projected": {"sources": sources}}] if signers else []
        self.api.put(
            PODS,
            {
                "metadata": {
                    "namespace": "shop",
                    "name": name,
                    "uid": uid or f"uid-{name}",
                    "annotations": annotations or {},
                },
                "spec": {"volumes": volumes},
                "status": {"phase": phase},
            },
        )

    def answered(self, pod, authority, name=None):
        self.api.put(
            POD_CERTIFICATE_REQUESTS,
            {
                "metadata": {"namespace": "shop", "name": name or f"req-{pod}-{self.clock.now}"},
                "spec": {"signerName": SIGNER, "podUID": f"uid-{pod}"},
                "status": {"certificateChain": self.chain(authority)},
            },
        )

    def signed(self, pod, authority, **extra):
        certificate = base64.b64encode(self.chain(authority).encode()).decode()
        self.api.put(
            CERTIFICATE_SIGNING_REQUESTS,
            {
                "metadata": {
                    "name": f"csr-{pod}",
                    "annotations": {f"{PREFIX}/pod-uid": f"uid-{pod}"},
                },
                "spec": {"signerName": SIGNER, **extra},
                "status": {"certificate": certificate},
            },
        )


@pytest.fixture
async def rotated():
    world = Rotated()
    world.old_id = await world.begin()
    return world


@pytest.fixture
async def leaves(rotated):
    async with ReplacedLeaves(rotated.api, clock=rotated.clock) as leaves:
        await leaves.follow([SIGNER], POD_CERTIFICATE_REQUESTS)
        await leaves.synced()
        yield leaves


async def judged(rotated, leaves, *, after=PROPAGATION):
    """The verdict, once all that was put was seen and time has passed."""
    for _ in range(50):
        await asyncio.sleep(0)
    rotated.clock.pass_(after)
    return leaves.replaced(rotated.zone, rotated.pool(), rotated.config)


class TestReplaced:
    async def test_when_every_pod_has_a_leaf_of_the_new_root(self, rotated, leaves):
        """And had the time to mount and load it."""
        rotated.pod("web")
        rotated.answered("web", rotated.new)
        assert await judged(rotated, leaves) == {rotated.old_id}

    async def test_not_before_it_can_have_been_loaded(self, rotated, leaves):
        """A second less than the propagation time."""
        rotated.pod("web")
        rotated.answered("web", rotated.new)
        early = PROPAGATION - timedelta(seconds=1)
        assert await judged(rotated, leaves, after=early) == frozenset()

    async def test_without_any_pod(self, rotated, leaves):
        """Nobody holds a leaf."""
        assert await judged(rotated, leaves) == {rotated.old_id}

    async def test_one_pod_that_was_not_seen_keeps_the_old_root(self, rotated, leaves):
        """However many were."""
        for name in ("a", "b"):
            rotated.pod(name)
            rotated.answered(name, rotated.new)
        rotated.pod("c")
        assert await judged(rotated, leaves) == frozenset()

    async def test_what_a_pod_was_issued_last_counts(self, rotated, leaves):
        """A replica that lagged signed once more under the old root."""
        rotated.pod("web")
        rotated.answered("web", rotated.new)
        rotated.clock.pass_(timedelta(minutes=1))
        rotated.answered("web", rotated.old)
        assert await judged(rotated, leaves) == frozenset()
        rotated.answered("web", rotated.new)
        assert await judged(rotated, leaves) == {rotated.old_id}

    async def test_the_order_in_which_requests_are_seen_does_not_matter(self, rotated, leaves):
        """A list has them in any order: what was issued later counts."""
        rotated.pod("web")
        early = rotated.chain(rotated.new)
        rotated.clock.pass_(timedelta(minutes=1))
        rotated.answered("web", rotated.old, name="later")
        for _ in range(50):
            await asyncio.sleep(0)
        body = rotated.api.find(POD_CERTIFICATE_REQUESTS, "later", "shop")
        body["metadata"] = {"namespace": "shop", "name": "earlier"}
        body["status"]["certificateChain"] = early
        rotated.api.put(POD_CERTIFICATE_REQUESTS, body)
        assert await judged(rotated, leaves) == frozenset()

    async def test_what_ended_pods_were_issued_is_forgotten(self, rotated, leaves):
        """Or a year of Jobs would fill the memory."""
        rotated.pod("web")
        rotated.answered("web", rotated.new)
        await judged(rotated, leaves)
        assert set(leaves._last) == {("uid-web", SIGNER)}
        rotated.api.remove(PODS, "web", "shop")
        await judged(rotated, leaves)
        assert leaves._last == {}

    async def test_requests_that_are_collected_are_remembered(self, rotated, leaves):
        """The controller manager deletes them after a quarter of an hour."""
        rotated.pod("web")
        rotated.answered("web", rotated.new, name="req")
        await judged(rotated, leaves)
        rotated.api.remove(POD_CERTIFICATE_REQUESTS, "req", "shop")
        assert await judged(rotated, leaves) == {rotated.old_id}

    @pytest.mark.parametrize(
        "pod",
        [
            pytest.param({"phase": "Succeeded"}, id="ended"),
            pytest.param({"signers": ("other.example/signer",)}, id="another signer's"),
            pytest.param({"signers": ()}, id="without credentials"),
        ],
    )
    async def test_pods_that_hold_no_leaf_of_the_zone_do_not_count(self, rotated, leaves, pod):
        """Others' business, or over."""
        rotated.pod("job", **pod)
        assert await judged(rotated, leaves) == {rotated.old_id}

    async def test_a_pod_with_two_sources_is_never_sure(self, rotated, leaves):
        """A request does not say which of them it is for."""
        rotated.pod("web", signers=(SIGNER, SIGNER))
        rotated.answered("web", rotated.new)
        assert await judged(rotated, leaves) == frozenset()

    async def test_another_pod_of_the_same_name_is_another_pod(self, rotated, leaves):
        """A StatefulSet's `web-0` that came again has a UID of its own."""
        rotated.pod("web")
        rotated.answered("web", rotated.new)
        await judged(rotated, leaves)
        rotated.api.remove(PODS, "web", "shop")
        rotated.pod("web", uid="uid-of-the-second")
        assert await judged(rotated, leaves) == frozenset()

    async def test_secret_mode_counts_by_its_signing_requests(self, rotated, leaves):
        """Which the secret issuer made for the pod."""
        rotated.pod("web", signers=(), annotations={f"{PREFIX}/secret": "kubetls-0"})
        assert await judged(rotated, leaves) == frozenset()
        rotated.signed("web", rotated.new)
        assert await judged(rotated, leaves) == {rotated.old_id}

    async def test_a_pod_that_asked_by_itself_counts_too(self, rotated, leaves):
        """It has no volume of ours, and holds a leaf all the same."""
        rotated.pod("own", signers=())
        rotated.signed("own", rotated.old)
        assert await judged(rotated, leaves) == frozenset()
        rotated.clock.pass_(timedelta(minutes=1))
        rotated.signed("own", rotated.new)
        assert await judged(rotated, leaves) == {rotated.old_id}

    async def test_a_pod_whose_zone_cannot_be_told_keeps_the_old_root(self, rotated, leaves):
        """Its annotation names a zone that is not there (any more)."""
        rotated.pod(
            "web",
            signers=(),
            annotations={f"{PREFIX}/secret": "kubetls-0", f"{PREFIX}/zone": "gone"},
        )
        assert await judged(rotated, leaves) == frozenset()

    async def test_what_is_not_seen_clearly_is_not_seen(self, rotated):
        """Nothing is followed, so nothing is known."""
        async with ReplacedLeaves(rotated.api, clock=rotated.clock) as leaves:
            assert await judged(rotated, leaves) == frozenset()

    async def test_without_a_retired_authority_there_is_nothing_to_judge(self, world):
        """The usual case."""
        await world.settle()
        async with ReplacedLeaves(world.api, clock=world.clock) as leaves:
            assert leaves.replaced(world.zone, world.pool(), world.config) == frozenset()


class TestFollow:
    async def test_nothing_is_watched_without_need(self, rotated, leaves):
        """Pods of a whole cluster cost memory."""
        for _ in range(50):
            await asyncio.sleep(0)
        assert rotated.api.watch_count == 3
        await leaves.follow([SIGNER], POD_CERTIFICATE_REQUESTS)
        assert rotated.api.watch_count == 3
        await leaves.follow([], POD_CERTIFICATE_REQUESTS)
        assert rotated.api.watch_count == 0


class TestIssuedLeaf:
    async def test_a_pod_that_asked_for_itself_is_known_by_its_token(self, rotated):
        """The API server wrote its UID."""
        body = {
            "metadata": {"name": "csr"},
            "spec": {
                "signerName": SIGNER,
                "extra": {"authentication.kubernetes.io/pod-uid": ["uid-web"]},
            },
            "status": {
                "certificate": base64.b64encode(rotated.chain(rotated.new).encode()).decode()
            },
        }
        leaf = IssuedLeaf.of_signing_request(body)
        assert leaf.pod_uid == "uid-web"
        assert leaf.issuer == key_identifier(rotated.new.certificate)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param({"metadata": {}, "spec": {}, "status": {}}, id="no certificate"),
            pytest.param(
                {"metadata": {}, "spec": {}, "status": {"certificate": "eA=="}}, id="no pod"
            ),
        ],
    )
    def test_other_requests_tell_nothing(self, body):
        """Pending, or of somebody who is no pod."""
        assert IssuedLeaf.of_signing_request(body) is None

    def test_a_pending_request_of_a_pod_tells_nothing(self):
        """It has no certificate yet."""
        assert IssuedLeaf.of_pod_certificate_request({"spec": {"podUID": "u"}}) is None

    def test_an_authority_without_identifier_is_known_by_its_key(self):
        """As its leaves name it."""
        key = ec.generate_private_key(ec.SECP256R1()).public_key()

        class Bare:
            extensions = x509.Extensions([])

            def public_key(self):
                return key

        expected = x509.SubjectKeyIdentifier.from_public_key(key).digest
        assert key_identifier(Bare()) == expected
