# SPDX-License-Identifier: Apache-2.0
"""What operators may order, and how the leader carries it out."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography import x509

from kubetls_sdk.exceptions import ConfigurationError, CredentialError
from kubetls_sdk.testing import name_constraints
from tests.webhook.trust.corporate_ca import authority, key_pem, pem
from tests.webhook.trust.world import BUNDLE, LIFETIME, PLATFORM, PROPAGATION, START, World
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, SECRETS
from webhook.config import LONGEST_LIFETIME
from webhook.trust.pool_entry import SIGNER_LAG, PoolError
from webhook.trust.rotation import FORCE_WORD

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


class TestFirstPool:
    async def test_the_leader_makes_it(self, world):
        """A zone without anything gets a root that signs, and its bundle."""
        await world.keep()
        assert world.states() == ["active"]
        assert world.published() == {world.pool().active_entry.anchor_der}
        assert world.pool().active_entry.published_at == START

    async def test_an_order_makes_it_with_other_terms(self, world):
        """A P-384 root of ten years, say."""
        status = await world.orders().create(key_type="p384", validity=timedelta(days=3650))
        root = status.pool.active_entry.anchor
        assert root.public_key().curve.name == "secp384r1"
        assert root.not_valid_after_utc == START + timedelta(days=3650)

    async def test_it_is_made_once(self, world):
        """A second order is refused, for the first root has leaves."""
        await world.orders().create()
        with pytest.raises(PoolError, match="has a CA pool"):
            await world.orders().create()

    async def test_its_secret_is_of_our_own_type(self, world):
        """Nobody mounts or reads it by accident, and policies can name it."""
        await world.keep()
        secret = world.api.find(SECRETS, "kubetls-ca-default", "kubetls-system")
        assert secret["type"] == "kubetls.gauntletwizard.net/ca-pool"
        assert list(secret["data"]) == ["pool.json"]

    async def test_a_secret_of_another_type_is_left_alone(self, world):
        """Whatever it is, it is not ours."""
        metadata = {"name": "kubetls-ca-default", "namespace": "kubetls-system"}
        world.api.put(SECRETS, {"metadata": metadata, "type": "Opaque", "data": {}})
        with pytest.raises(PoolError, match="of type"):
            await world.keep()
        assert world.api.find(SECRETS, "kubetls-ca-default", "kubetls-system")["data"] == {}

    async def test_the_trust_domain_cannot_be_changed_under_a_pool(self, world):
        """Leaves of another domain under this root would be worthless, so nothing is published."""
        await world.settle()
        before = world.api.all(CLUSTER_TRUST_BUNDLES)
        other = World(PLATFORM.replace("example.org", "example.net"))
        other.api = world.api
        with pytest.raises(ConfigurationError, match=r"authorities of 'example\.net'"):
            await other.keep()
        assert world.api.all(CLUSTER_TRUST_BUNDLES) == before


class TestLostPool:
    async def lost(self, world):
        await world.settle()
        old = world.pool().active_entry
        world.api.remove(SECRETS, "kubetls-ca-default", "kubetls-system")
        return old

    async def test_the_leader_makes_no_new_one_by_itself(self, world):
        """Every pod trusts a root whose key has gone: a person must know."""
        await self.lost(world)
        with pytest.raises(PoolError, match="its key is lost"):
            await world.keep()

    async def test_what_pods_trust_stays_published(self, world):
        """The old root has no key any more, and stays for the longest lifetime there is."""
        old = await self.lost(world)
        await world.orders().create()
        await world.keep()
        assert world.states() == ["retired", "next"]
        adopted = world.pool().entries[0]
        assert adopted.anchor == old.anchor
        assert adopted.authority is None
        assert adopted.last_leaf_not_after == START + SIGNER_LAG + LONGEST_LIFETIME
        assert len(world.published()) == 2

    async def test_the_new_one_waits_for_its_propagation(self, world):
        """Until then requests are pending, unless it is forced."""
        await self.lost(world)
        await world.orders().create()
        await world.keep()
        world.clock.pass_(PROPAGATION)
        await world.keep()
        assert world.states() == ["retired", "active"]

    async def test_an_anchor_that_comes_back_with_its_key_is_no_relic(self, world):
        """The corporate root is imported again from its backup: nothing is to be waited out."""
        root = authority("corporate root")
        await world.orders().import_authority(pem(root.certificate), key_pem(root))
        await self.lost(world)
        await world.orders().import_authority(pem(root.certificate), key_pem(root))
        await world.keep()
        assert world.states() == ["active"]

    async def test_it_can_be_forced(self, world):
        """With the word."""
        await self.lost(world)
        await world.orders().create(force_propagation=FORCE_WORD)
        await world.keep()
        assert world.states() == ["retired", "active"]


class TestRotate:
    async def test_step_by_step(self, world):
        """Each state comes when its time has come, and not before."""
        await world.settle()
        await world.orders().rotate()
        await world.keep()
        assert world.states() == ["active", "next"]
        assert len(world.published()) == 2
        world.clock.pass_(PROPAGATION - MINUTE)
        await world.keep()
        assert world.states() == ["active", "next"]
        world.clock.pass_(MINUTE)
        await world.keep()
        assert world.states() == ["retired", "active"]
        world.clock.pass_(SIGNER_LAG + LIFETIME - MINUTE)
        await world.keep()
        assert len(world.published()) == 2
        world.clock.pass_(MINUTE)
        await world.keep()
        assert world.states() == ["active"]
        assert len(world.published()) == 1

    async def test_twice_is_once(self, world):
        """An impatient operator makes no second successor."""
        await world.settle()
        await world.orders().rotate()
        await world.keep()
        await world.orders().rotate()
        await world.keep()
        assert world.states() == ["active", "next"]

    async def test_forcing_later_counts(self, world):
        """The order that is under way becomes a forced one."""
        await world.settle()
        await world.orders().rotate()
        await world.keep()
        await world.orders().rotate(force_propagation=FORCE_WORD)
        await world.keep()
        assert world.states() == ["retired", "active"]

    async def test_the_word_must_be_right(self, world):
        """`yes` is typed too quickly."""
        await world.settle()
        with pytest.raises(ConfigurationError, match=FORCE_WORD):
            await world.orders().rotate(force_propagation="yes")

    async def test_the_successor_is_like_its_predecessor(self, world):
        """Key type and validity stay, unless others are asked for."""
        await world.orders().create(key_type="p384", validity=timedelta(days=400))
        await world.keep()
        await world.orders().rotate()
        await world.keep()
        root = world.pool().next_entry.anchor
        assert root.public_key().curve.name == "secp384r1"
        assert root.not_valid_after_utc == START + timedelta(days=400)

    async def test_another_rotation_may_begin_before_the_old_root_has_gone(self, world):
        """A stolen key cannot wait until the last one's leaves have expired."""
        await world.settle()
        await world.orders().rotate(force_propagation=FORCE_WORD)
        await world.keep()
        await world.orders().rotate(force_propagation=FORCE_WORD)
        await world.keep()
        assert world.states() == ["retired", "retired", "active"]
        await world.settle()

    async def test_a_root_that_grows_old_is_replaced_by_itself(self, world):
        """At two thirds of its life."""
        await world.orders().create(validity=timedelta(days=600))
        await world.keep()
        world.clock.pass_(timedelta(days=399))
        await world.keep()
        assert world.states() == ["active"]
        world.clock.pass_(timedelta(days=2))
        await world.keep()
        assert world.states() == ["active", "next"]
        assert world.pool().rotation.cause == "age"
        await world.settle()

    async def test_a_next_root_that_vanished_from_the_bundle_is_waited_for_anew(self, world):
        """Somebody put the old bundle back: kubelets may have done so too."""
        await world.settle()
        old = world.api.find(CLUSTER_TRUST_BUNDLES, BUNDLE)["spec"]["trustBundle"]
        await world.orders().rotate()
        await world.keep()
        world.clock.pass_(PROPAGATION - MINUTE)
        world.vandalise(old)
        await world.keep()
        assert len(world.published()) == 2
        world.clock.pass_(MINUTE)
        await world.keep()
        assert world.states() == ["active", "next"]
        world.clock.pass_(PROPAGATION)
        await world.keep()
        assert world.states() == ["retired", "active"]

    async def test_leaves_that_were_seen_replaced_need_no_expiry(self, world):
        """Then the old root goes at once."""
        await world.settle()
        await world.orders().rotate(force_propagation=FORCE_WORD)
        await world.keep()
        old = world.pool().entries[0]
        await world.keep(replaced=frozenset({old.id}))
        assert world.states() == ["active"]
        assert old.anchor_der not in world.published()

    async def test_without_a_pool_there_is_nothing_to_rotate(self, world):
        """The order says what to do first."""
        with pytest.raises(PoolError, match="create it"):
            await world.orders().rotate()


class TestAbort:
    async def test_the_next_root_goes(self, world):
        """From pool and bundle, key and all."""
        await world.settle()
        first = world.pool().active_entry
        await world.orders().rotate()
        await world.keep()
        await world.orders().abort()
        await world.keep()
        assert [entry.id for entry in world.pool().entries] == [first.id]
        assert world.published() == {first.anchor_der}

    async def test_an_order_that_nobody_began_is_forgotten(self, world):
        """Before the leader has made anything."""
        await world.settle()
        await world.orders().rotate()
        await world.orders().abort()
        await world.keep()
        assert world.states() == ["active"]

    async def test_not_once_it_signs(self, world):
        """Then it is `take_back` that goes back."""
        await world.settle()
        await world.orders().rotate(force_propagation=FORCE_WORD)
        await world.keep()
        with pytest.raises(PoolError, match="does not sign yet"):
            await world.orders().abort()
        first = world.pool().entries[0].id
        await world.orders().take_back()
        await world.keep()
        assert world.pool().active_entry.id == first
        await world.settle()


class TestWithdraw:
    async def test_a_stolen_root_goes_at_once(self, world):
        """With the word; a second time does no harm."""
        await world.settle()
        stolen = world.pool().active_entry
        await world.orders().rotate(force_propagation=FORCE_WORD)
        await world.keep()
        with pytest.raises(PoolError, match="the last leaf"):
            await world.orders().withdraw(stolen.id)
        await world.orders().withdraw(stolen.id, force=FORCE_WORD)
        await world.orders().withdraw(stolen.id, force=FORCE_WORD)
        await world.keep()
        assert stolen.anchor_der not in world.published()


class TestImport:
    async def test_an_intermediate_under_a_corporate_root(self, world):
        """It signs, its chain goes with the leaves, and the corporate root is published."""
        root = authority("corporate root", path_length=2)
        middle = authority("division", above=root)
        signing = authority("kubetls", above=middle, path_length=0)
        await world.orders().import_authority(
            pem(signing.certificate, middle.certificate), key_pem(signing), pem(root.certificate)
        )
        await world.keep()
        entry = world.pool().active_entry
        assert entry.origin.value == "imported"
        assert entry.anchor == root.certificate
        assert list(world.pool().active.certificates) == [signing.certificate, middle.certificate]
        assert len(world.published()) == 1

    async def test_the_next_one_waits_for_an_order(self, world):
        """It is published, and signs when a rotation is asked for."""
        await world.settle()
        root = authority("corporate root")
        await world.orders().import_authority(pem(root.certificate), key_pem(root))
        await world.keep()
        world.clock.pass_(PROPAGATION * 2)
        await world.keep()
        assert world.states() == ["active", "next"]
        await world.orders().rotate()
        await world.keep()
        assert world.states() == ["retired", "active"]
        assert world.pool().active_entry.anchor == root.certificate

    async def test_a_second_intermediate_under_a_published_root_needs_no_wait(self, world):
        """Pods trust the anchor already."""
        root = authority("corporate root")
        for name in ("one", "two"):
            signing = authority(name, above=root, path_length=0)
            await world.orders().import_authority(
                pem(signing.certificate), key_pem(signing), pem(root.certificate)
            )
            await world.keep()
            world.clock.pass_(PROPAGATION)
        await world.orders().rotate()
        await world.keep()
        assert world.states() == ["retired", "active"]
        world.clock.pass_(LIFETIME + SIGNER_LAG)
        await world.keep()
        assert world.states() == ["active"]
        assert len(world.published()) == 1

    async def test_only_its_owner_can_make_its_successor(self, world):
        """A rotation asks for the import first, or for leave to make a root of our own."""
        root = authority("corporate root")
        await world.orders().import_authority(pem(root.certificate), key_pem(root))
        world.clock.pass_(timedelta(days=365 * 4))
        await world.keep()
        assert world.states() == ["active"]
        with pytest.raises(PoolError, match="import its successor first"):
            await world.orders().rotate()
        await world.orders().rotate(own_root=True)
        await world.keep()
        assert world.states() == ["active", "next"]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            pytest.param(
                {"constraints": name_constraints(permitted_uris=["corp.example"])},
                "cannot sign for 'example.org'",
                id="constrained to another trust domain",
            ),
            pytest.param(
                {"constraints": name_constraints(permitted_dns=["corp.example"])},
                "cannot sign for 'example.org'",
                id="constrained to other DNS names",
            ),
        ],
    )
    async def test_one_whose_leaves_nobody_would_believe_is_refused(self, world, options, reason):
        """It is tried before it is stored."""
        root = authority("corporate root", **options)
        with pytest.raises(PoolError, match=reason):
            await world.orders().import_authority(pem(root.certificate), key_pem(root))
        assert world.pool() is None

    async def test_one_that_has_ended_is_refused(self, world):
        """Its leaves would be worthless from the start."""
        root = authority("corporate root", years=1)
        world.clock.pass_(timedelta(days=400))
        with pytest.raises(PoolError, match="cannot sign"):
            await world.orders().import_authority(pem(root.certificate), key_pem(root))

    async def test_another_s_key_is_refused(self, world):
        """And the error has nothing of it."""
        root = authority("corporate root")
        with pytest.raises(CredentialError) as caught:
            await world.orders().import_authority(
                pem(root.certificate), key_pem(authority("another"))
            )
        assert "PRIVATE" not in str(caught.value)


class TestOrdersOfZones:
    def test_an_unknown_zone_is_an_error(self, world):
        """The message has the zones that there are."""
        with pytest.raises(ConfigurationError, match="expected a zone of default"):
            type(world.orders())(world.api, world.config, "other")

    async def test_a_zone_with_an_external_signer_has_no_pool(self):
        """Its configured authorities are published, and nothing can be ordered."""
        root = authority("external")
        indented = pem(root.certificate).decode().replace("\n", "\n      ")
        world = World(
            PLATFORM.replace(
                "    trustDomain: example.org\n",
                "    trustDomain: example.org\n"
                "    externalSigner: issuers.cert-manager.io/kubetls-system.ca\n"
                f"    trustBundle: |\n      {indented}\n",
            )
        )
        assert await world.keep() is None
        (anchor,) = world.published()
        assert x509.load_der_x509_certificate(anchor) == root.certificate
        with pytest.raises(ConfigurationError, match="external signer"):
            world.orders()


class TestStatus:
    async def walk(self, world):
        """The status in each state of a rotation."""
        await world.settle()
        yield await world.orders().status()
        await world.orders().rotate()
        yield await world.orders().status()
        await world.keep()
        yield await world.orders().status()
        world.clock.pass_(PROPAGATION)
        await world.keep()
        yield await world.orders().status()

    async def test_the_table_says_what_is_waited_for(self, world):
        """And until when."""
        texts = [status.to_text(world.clock.now) async for status in self.walk(world)]
        assert "Nothing is under way." in texts[0]
        assert "the leader to make its successor" in texts[1]
        assert "its propagation until 2026-11-25T12:10:00Z" in texts[2]
        assert "the last leaf under it until 2026-11-26T12:15:00Z" in texts[3]
        assert all(world.pool().entries[0].fingerprint in text for text in texts)

    async def test_the_json_says_the_same(self, world):
        """For programs that wait."""
        found = [json.loads(status.to_json()) async for status in self.walk(world)]
        assert [each["isSettled"] for each in found] == [True, False, False, False]
        assert found[2]["authorities"][1]["waitsUntil"] == "2026-11-25T12:10:00Z"
        assert found[3]["authorities"][0]["state"] == "retired"

    async def test_no_key_is_in_it(self, world):
        """Neither in the table nor in the JSON."""
        async for status in self.walk(world):
            for text in (status.to_text(START), status.to_json(), repr(status)):
                assert "PRIVATE" not in text

    async def test_without_a_pool_it_is_an_error(self, world):
        """There is nothing to show."""
        with pytest.raises(PoolError, match="no CA pool yet"):
            await world.orders().status()
