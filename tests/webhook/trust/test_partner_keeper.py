# SPDX-License-Identifier: Apache-2.0
"""Bundles of partners from their endpoints, honest and not: what is published, and for how long."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation.bundle_document import MAX_DOCUMENT_BYTES
from kubetls_sdk.testing import DevelopmentCA
from tests.integration import bundle_server
from tests.integration.bundle_server import BundleServer, edited, redirect_to
from tests.integration.origin import stock_server_context
from tests.webhook.trust.partner_world import (
    NAME,
    PREFIX,
    SERVER,
    add_keys,
    partner_world,
    spiffe_world,
)
from tests.webhook.trust.world import BUNDLE, PLATFORM, until
from webhook.api.errors import InvalidError
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, CONFIG_MAPS
from webhook.config import PlatformConfig
from webhook.exceptions import WebhookError
from webhook.trust import publication
from webhook.trust.leader import Leader
from webhook.trust.publisher import ConfigMapPublisher
from webhook.trust.zone_keeper import now_utc

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
DAY = timedelta(days=1)


@pytest.fixture
async def world():
    async with partner_world() as made, made.leader():
        yield made


@pytest.fixture
async def spiffe():
    async with spiffe_world() as made, made.leader():
        yield made


def value(name, **labels):
    return REGISTRY.get_sample_value(f"kubetls_partner_{name}", {"partner": "acme", **labels})


def nobody(world):
    return TrustBundle(world.ca.trust_domain, ())


class TestPublished:
    async def test_web(self, world):
        """Under the partner's own name, and remembered with its number and its time."""
        await world.begin()
        assert world.body["spec"]["signerName"] == f"{PREFIX}/partner"
        assert world.in_force == world.ca.bundle
        assert world.annotation("bundle-sequence") == "7"
        assert world.annotation("bundle-fetched-at") == world.clock.now.isoformat()
        assert f"{PREFIX}/trust-domain" not in world.body["metadata"]["labels"]

    async def test_spiffe(self, spiffe):
        """A server that proves its SPIFFE ID by the bundle that the configuration begins with."""
        await spiffe.begin()
        assert spiffe.in_force == spiffe.ca.bundle

    async def test_presents_nothing(self, world, spiffe):
        """Both ask for a client certificate, and get none."""
        await world.begin()
        await spiffe.begin()
        assert world.server.client_certificates == [None]
        assert spiffe.server.client_certificates == [None]

    async def test_a_url_is_not_told(self, world):
        """Whoever reads bundles learns no URL, which may have a secret in its query."""
        await world.begin()
        assert world.server.url not in yaml.safe_dump(world.body)

    async def test_new_root(self, world):
        """What the partner publishes follows, in both directions."""
        await world.begin()
        first = world.ca.bundle
        world.ca.add_root()
        world.server.publish(world.ca.bundle, sequence=8)
        await world.again()
        assert world.in_force == world.ca.bundle != first
        world.server.publish(first, sequence=9)
        await world.again()
        assert world.in_force == first
        assert world.annotation("bundle-sequence") == "9"

    async def test_self_serving_roots_that_follow_each_other(self, spiffe):
        """The latest bundle verifies the next fetch, long after the first root has gone."""
        await spiffe.begin()
        spiffe.ca.add_root()
        spiffe.server.publish(spiffe.ca.bundle, sequence=8)
        await spiffe.again()
        spiffe.ca.activate_root()
        spiffe.ca.retire_root()
        with BundleServer.running(stock_server_context(spiffe.ca.issue(SERVER))) as successor:
            successor.publish(spiffe.ca.bundle, sequence=9)
            spiffe.server.act = redirect_to(successor.url)
            await spiffe.again()
        assert spiffe.in_force == spiffe.ca.bundle

    async def test_nothing_new_writes_nothing(self, world):
        """Neither a fetch nor a round touches the object, until its time is worth a write."""
        await world.begin()
        version = world.body["metadata"]["resourceVersion"]
        for _ in range(3):
            world.clock.pass_(timedelta(minutes=5))
            await world.again()
        assert world.body["metadata"]["resourceVersion"] == version
        world.clock.pass_(timedelta(hours=2))
        await world.again()
        assert world.annotation("bundle-fetched-at") == world.clock.now.isoformat()

    async def test_edits_are_reverted(self, world):
        """Of the text, our labels and our annotations; other people's stay."""
        await world.begin()
        right = world.body

        def edit(body):
            body["spec"]["trustBundle"] = DevelopmentCA("partner.example").bundle.to_pem().decode()
            body["metadata"]["labels"] = {f"{PREFIX}/trust-domain": "example.org", "own": "x"}
            body["metadata"]["annotations"] = {f"{PREFIX}/bundle-sequence": "1", "own": "y"}

        world.edit(edit)
        await world.keep()
        assert world.body["spec"] == right["spec"]
        for kind in ("labels", "annotations"):
            found = world.body["metadata"][kind]
            assert found.pop("own") in ("x", "y")
            assert found == right["metadata"][kind]

    async def test_keys_of_jwt_svids(self, world, caplog):
        """They are none of a volume's: for the next leader, the same roots are the same bundle."""
        key = {"use": "jwt-svid", "kty": "EC", "kid": "a", "crv": "P-256", "x": "AA", "y": "AA"}
        world.server.body = edited(world.server.body, lambda found: found["keys"].append(key))
        await world.begin()
        await world.keeper.aclose()
        async with world.leader():
            world.server.body = edited(world.server.body, lambda it: it.update(spiffe_sequence=6))
            await world.begin()
        assert world.in_force == world.ca.bundle
        assert "expected a sequence" not in caplog.text

    async def test_without_cluster_trust_bundles(self, world):
        """Where the API has none, it is in a ConfigMap for the secret issuer."""
        world.publisher = ConfigMapPublisher(world.api)
        await world.begin()
        found = world.api.find(CONFIG_MAPS, "kubetls-partner-acme", "kubetls-system")
        pem = world.ca.bundle.to_pem().decode()
        assert found["data"] == {"partner.example.trust-bundle.pem": pem}
        world.server.body = b'{"keys": []}'
        await world.again()
        found = world.api.find(CONFIG_MAPS, "kubetls-partner-acme", "kubetls-system")
        assert found["metadata"]["annotations"][f"{PREFIX}/withdrawn"] == "empty"
        assert pem not in yaml.safe_dump(found)


def pads(world):
    world.server.body = b" " * (MAX_DOCUMENT_BYTES + 1)


def doubles(world):
    world.server.body = world.server.body.replace(b'"keys":', b'"keys": [], "keys":')


def publishes(domain):
    def change(world):
        world.server.publish(DevelopmentCA(domain).bundle, sequence=8)

    return change


def adds(domain):
    def change(world):
        world.server.publish(world.ca.bundle, sequence=8)
        add_keys(world.server, DevelopmentCA(domain).bundle)

    return change


def acts(act):
    return lambda world: setattr(world.server, "act", act)


def goes_back(world):
    world.ca.add_root()
    world.server.publish(world.ca.bundle, sequence=6)


BAD = {
    "slow": acts(bundle_server.hold),
    "dripping": acts(bundle_server.drip),
    "a head without end": acts(bundle_server.drip_head),
    "a body without end": acts(bundle_server.pour),
    "huge": pads,
    "truncated": acts(bundle_server.truncate),
    "cut": acts(bundle_server.cut),
    "hung up": acts(bundle_server.hang_up),
    "a page": lambda world: world.server.headers.update({"content-type": "text/html"}),
    "an error": lambda world: setattr(world.server, "status", 500),
    "a circle of redirects": acts(redirect_to("/bundle.json?v=1")),
    "a row of redirects": acts(redirect_to("/{n}.json")),
    "a redirect to http": acts(redirect_to("http://localhost:{port}/")),
    "no JSON": lambda world: setattr(world.server, "body", b"<html>"),
    "duplicate keys": doubles,
    "a sequence that goes back": goes_back,
    "another domain": publishes("other.example"),
    "our own domain": publishes("example.org"),
    "two domains in one document": adds("other.example"),
    "ours beside the partner's": adds("example.org"),
}


class TestFailure:
    @pytest.mark.parametrize("change", BAD.values(), ids=BAD)
    async def test_last_good_is_kept(self, world, change):
        """Whatever an endpoint answers: the last good bundle stays, and somebody can see it."""
        await world.begin()
        world.timeout = 0.5
        await world.keep()
        before, failed = world.body, value("fetches_total", result="failed") or 0
        good = world.in_force
        change(world)
        await world.again()
        assert world.body == before
        assert world.in_force == good
        assert value("fetches_total", result="failed") == failed + 1

    @pytest.mark.parametrize("name", sorted(BAD.keys() - {"a sequence that goes back"}))
    async def test_nothing_is_published_at_first(self, world, name):
        """Before there was a good one, a bad answer publishes nothing, and is a failing task."""
        world.timeout = 0.5
        BAD[name](world)
        await world.keep()
        with pytest.raises(WebhookError, match="no bundle of it yet"):
            await world.fetched()
        assert world.body is None

    async def test_it_is_told_once(self, world, caplog):
        """An error line when it begins, not for each try, and one when it is over."""
        await world.begin()
        world.server.status = 500
        with caplog.at_level(logging.INFO):
            await world.again()
            await world.again()
            assert caplog.text.count("expected status 200, got 500") == 1
            world.server.status = 200
            await world.again()
            assert "recovered" in caplog.text

    async def test_another_server(self, spiffe):
        """An endpoint that cannot prove the configured SPIFFE ID is not even asked."""
        await spiffe.begin()
        impostor = DevelopmentCA("partner.example").issue(SERVER)
        with BundleServer.running(stock_server_context(impostor)) as other:
            other.publish(DevelopmentCA("partner.example").bundle, sequence=9)
            spiffe.server.act = redirect_to(other.url)
            await spiffe.again()
            assert other.paths == []
        assert spiffe.in_force == spiffe.ca.bundle

    async def test_web_roots(self, world):
        """`webRoots` are the web's, which know nothing of this endpoint."""
        del world.endpoint["roots"]
        world.endpoint["webRoots"] = True
        await world.keep()
        with pytest.raises(WebhookError, match=r"(?i)certificate"):
            await world.fetched()
        assert world.server.paths == []

    async def test_refused_by_the_api_server(self, world):
        """A bundle that cannot be published does not lengthen the life of the last one."""
        await world.begin()
        first = world.ca.bundle
        world.ca.add_root()
        world.server.publish(world.ca.bundle, sequence=8)
        world.api.fail("replace", InvalidError("no PEM of ours"))
        with pytest.raises(InvalidError):
            await world.again()
        assert world.in_force == first
        world.clock.pass_(DAY + timedelta(minutes=1))
        world.api.fail("replace", InvalidError("no PEM of ours"))
        with pytest.raises(InvalidError):
            await world.again()
        assert world.in_force == nobody(world)

    async def test_too_large_to_be_published(self, world, monkeypatch):
        """Nor does one that is larger as PEM than the API server's objects may be."""
        await world.begin()
        first = world.ca.bundle
        world.ca.add_root()
        world.server.publish(world.ca.bundle, sequence=8)
        monkeypatch.setattr(publication, "MAX_BYTES", len(first.to_pem()))
        with pytest.raises(ConfigurationError, match="at most"):
            await world.again()
        assert world.in_force == first
        world.clock.pass_(DAY + timedelta(minutes=1))
        with pytest.raises(ConfigurationError, match="at most"):
            await world.again()
        assert world.in_force == nobody(world)
        assert world.annotation("withdrawn") == "refused"


class TestAge:
    async def test_too_old(self, world, caplog):
        """Past its maximum age nobody of the partner is trusted; log, metric and Event say so."""
        await world.begin()
        world.server.status = 500
        await world.again()
        world.clock.pass_(DAY)
        await world.keep()
        assert world.in_force == world.ca.bundle
        world.clock.pass_(timedelta(seconds=1))
        with pytest.raises(WebhookError, match="nobody of it is trusted"):
            await world.keep()
        assert world.in_force == nobody(world)
        assert world.ca.bundle.to_pem().decode() not in world.body["spec"]["trustBundle"]
        assert value("too_old") == 1
        assert value("authorities") == 0
        assert "nobody of it is trusted" in caplog.text
        ((name, type_, reason, note, _),) = world.events.told
        assert (name, type_, reason) == (NAME, "Warning", "PartnerBundleTooOld")
        assert "got 500" in note

    async def test_it_is_told_once(self, world):
        """Not with each round; and again when it comes again."""
        await world.begin()
        for _ in range(2):
            world.clock.pass_(2 * DAY)
            for _ in range(3):
                with pytest.raises(WebhookError):
                    await world.keep()
            await world.again()
        assert len(world.events.told) == 2

    async def test_recovered(self, world):
        """The next good answer brings it back."""
        await world.begin()
        world.clock.pass_(2 * DAY)
        with pytest.raises(WebhookError):
            await world.keep()
        await world.again()
        assert world.in_force == world.ca.bundle
        assert value("too_old") == 0

    async def test_configured(self, world):
        """The maximum age is the configuration's."""
        world.more = {"maximumAge": "5m"}
        await world.begin()
        world.clock.pass_(timedelta(minutes=6))
        with pytest.raises(WebhookError):
            await world.keep()
        assert world.in_force == nobody(world)

    async def test_clock_that_is_set_back(self, world):
        """It lengthens no life."""
        await world.begin()
        world.clock.pass_(-DAY)
        await world.keep()
        world.clock.pass_(DAY + timedelta(seconds=1))
        with pytest.raises(WebhookError):
            await world.keep()

    async def test_revoked(self, world):
        """A partner that publishes no authority is trusted by nobody, at once, and is no fault."""
        await world.begin()
        world.server.publish(nobody(world), sequence=8)
        await world.again()
        assert world.in_force == nobody(world)
        assert world.annotation("withdrawn") == "empty"
        world.server.publish(world.ca.bundle, sequence=7)
        await world.again()
        assert world.in_force == nobody(world)


class TestNextLeader:
    async def test_goes_on_without_an_answer(self, world):
        """What is published is in force for the next leader, too, whatever the endpoint does."""
        await world.begin()
        await world.keeper.aclose()
        world.server.status = 500
        async with world.leader():
            await world.begin()
            assert world.in_force == world.ca.bundle

    async def test_sequence(self, world):
        """It takes no older bundle than the last leader knew."""
        await world.begin()
        good = world.ca.bundle
        await world.keeper.aclose()
        goes_back(world)
        async with world.leader():
            await world.begin()
            assert world.in_force == good
            world.server.publish(world.ca.bundle, sequence=7)
            await world.again()
            assert world.in_force == world.ca.bundle

    async def test_age(self, world):
        """The age goes on, and is never shorter than it was."""
        await world.begin()
        world.clock.pass_(timedelta(hours=1))
        await world.again()
        await world.keeper.aclose()
        world.server.status = 500
        world.clock.pass_(DAY - timedelta(minutes=59))
        async with world.leader():
            with pytest.raises(WebhookError, match="nobody of it is trusted"):
                await world.keep()
            assert world.in_force == nobody(world)

    @pytest.mark.parametrize("why", ["too-old", "empty"])
    async def test_sequence_of_a_withdrawn_bundle(self, world, why):
        """Withdrawn is not forgotten: no older bundle takes its place."""
        await world.begin()
        if why == "empty":
            world.server.publish(nobody(world), sequence=7)
            await world.again()
        else:
            world.clock.pass_(2 * DAY)
            with pytest.raises(WebhookError):
                await world.keep()
        assert world.annotation("withdrawn") == why
        await world.keeper.aclose()
        goes_back(world)
        async with world.leader():
            for step in (world.keep, world.fetched):
                try:
                    await step()
                except WebhookError:
                    assert why == "too-old"
                assert world.in_force == nobody(world)
            world.server.publish(world.ca.bundle, sequence=8)
            await world.again()
            assert world.in_force == world.ca.bundle

    async def test_self_serving_endpoint_of_a_withdrawn_bundle(self, spiffe, tmp_path):
        """Its server is verified by the latest bundle, however old, not by the first one."""
        await spiffe.begin()
        spiffe.ca.add_root()
        spiffe.server.publish(spiffe.ca.bundle, sequence=8)
        await spiffe.again()
        spiffe.clock.pass_(2 * DAY)
        with pytest.raises(WebhookError):
            await spiffe.keep()
        await spiffe.keeper.aclose()
        spiffe.ca.activate_root()
        spiffe.server.context.load_cert_chain(*files_of(spiffe.ca, tmp_path))
        async with spiffe.leader():
            with pytest.raises(WebhookError):
                await spiffe.keep()
            await spiffe.fetched()
            assert spiffe.in_force == spiffe.ca.bundle

    async def test_edited_meanwhile(self, world):
        """What somebody wrote while nobody led is not taken for the last good one."""
        await world.begin()
        await world.keeper.aclose()
        forged = DevelopmentCA("partner.example").bundle.to_pem().decode()
        world.edit(lambda body: body["spec"].update(trustBundle=forged))
        goes_back(world)
        async with world.leader():
            await world.keep()
            with pytest.raises(WebhookError, match="sequence of 7 or more"):
                await world.fetched()
            assert world.in_force == nobody(world)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("bundle-sequence", "-1"),
            ("bundle-sequence", "x"),
            ("bundle-sequence", "9" * 5000),
            ("bundle-fetched-at", "yesterday"),
            ("bundle-fetched-at", "9999-12-31T23:59:59-12:00"),
            ("bundle-fetched-at", "0001-01-01T00:00:00+12:00"),
        ],
        ids=range(6),
    )
    async def test_unreadable(self, world, name, text):
        """What cannot be read is as good as none; the endpoint decides anew."""
        await world.begin()
        await world.keeper.aclose()
        world.edit(lambda body: body["metadata"]["annotations"].update({f"{PREFIX}/{name}": text}))
        async with world.leader():
            await world.begin()
            assert world.in_force == world.ca.bundle
            assert world.annotation("bundle-sequence") == "7"

    async def test_a_time_of_the_future(self, world):
        """Whoever edits the time of the last fetch lengthens no life beyond a good fetch's."""
        await world.begin()
        await world.keeper.aclose()
        text = (world.clock.now + 90 * DAY).isoformat()
        name = f"{PREFIX}/bundle-fetched-at"
        world.edit(lambda body: body["metadata"]["annotations"].update({name: text}))
        world.server.status = 500
        async with world.leader():
            await world.begin()
            world.clock.pass_(DAY + timedelta(minutes=1))
            with pytest.raises(WebhookError, match="nobody of it is trusted"):
                await world.keep()
            assert world.in_force == nobody(world)


def files_of(ca, folder):
    """Certificate and key of an SVID of the endpoint, as files."""
    svid = ca.issue(SERVER)
    (folder / "chain.pem").write_bytes(svid.certificates_pem())
    (folder / "key.pem").write_bytes(svid.private_key_pem())
    return folder / "chain.pem", folder / "key.pem"


class TestDeclaration:
    async def test_another_endpoint(self, world):
        """What came from the last one stays until the new one was asked, and no longer."""
        await world.begin()
        world.endpoint = {**world.endpoint, "url": "https://localhost:9/"}
        await world.keep()
        assert world.in_force == world.ca.bundle
        with pytest.raises(WebhookError, match="no bundle of it yet"):
            await world.fetched()
        assert world.in_force == nobody(world)
        assert world.annotation("withdrawn") == "unknown"

    async def test_another_endpoint_begins_the_sequence_anew(self, world):
        """Numbers of two endpoints cannot be compared."""
        await world.begin()
        world.endpoint = {**world.endpoint, "url": f"{world.server.url}&new"}
        goes_back(world)
        await world.begin()
        assert world.in_force == world.ca.bundle
        assert world.annotation("bundle-sequence") == "6"

    async def test_other_times_go_on(self, world):
        """How often is no new relation: nothing is asked again at once."""
        await world.begin()
        world.more = {"maximumAge": "7d"}
        await world.keep()
        assert len(world.server.paths) == 1
        world.clock.pass_(2 * DAY)
        await world.keep()
        assert world.in_force == world.ca.bundle

    async def test_another_bootstrap(self, spiffe, tmp_path):
        """A bundle that the operator has replaced is the latest, and begins the sequence anew."""
        await spiffe.begin()
        reborn = DevelopmentCA("partner.example")
        spiffe.server.context.load_cert_chain(*files_of(reborn, tmp_path))
        spiffe.server.publish(reborn.bundle, sequence=1)
        await spiffe.again()
        assert spiffe.in_force == spiffe.ca.bundle
        spiffe.endpoint["bootstrap"] = reborn.bundle.to_pem().decode()
        await spiffe.begin()
        assert spiffe.in_force == reborn.bundle

    async def test_from_a_bundle_to_an_endpoint(self, world):
        """The configured bundle is published until the endpoint has answered; and back."""
        inline = world.declared(endpoint=None, bundle=world.ca.bundle.to_pem().decode())
        await world.keep(inline)
        assert world.body["metadata"]["annotations"] == {}
        world.ca.add_root()
        world.server.publish(world.ca.bundle)
        await world.keep()
        assert world.in_force == inline.bundle
        await world.fetched()
        assert world.in_force == world.ca.bundle
        await world.keep(inline)
        assert world.in_force == inline.bundle
        assert world.body["metadata"]["annotations"] == {}

    async def test_removed_while_an_answer_comes(self, world):
        """What arrives for a partner that is declared no more has no effect."""
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def act(answer):
            loop.call_soon_threadsafe(started.set)
            answer.server.released.wait(5)
            return True

        world.server.act = act
        await world.keep()
        await asyncio.wait_for(started.wait(), 5)
        world.keeper.retain(())
        world.server.released.set()
        await world.keeper.aclose()
        assert not world.changed.is_set()
        assert world.body is None
        assert value("authorities") is None

    async def test_server_of_another_partner(self, world):
        """A bundle of one partner verifies the server that has another one's."""
        bank = DevelopmentCA("bank.example")
        with BundleServer.running(stock_server_context(world.ca.issue(SERVER))) as server:
            server.publish(bank.bundle)
            entries = [
                {"name": "bank", "trustDomain": "bank.example", "namespaces": ["*"]},
                {"name": "acme", "trustDomain": "partner.example", "namespaces": ["*"]},
            ]
            entries[0]["endpoint"] = {
                "url": server.url,
                "profile": "https_spiffe",
                "spiffeId": str(world.ca.spiffe_id(SERVER)),
            }
            entries[1]["endpoint"] = world.endpoint
            text = PLATFORM + yaml.safe_dump({"partners": entries})
            partners = PlatformConfig.parse(text).partners.values()
            world.keeper.retain(partners)

            async def is_there():
                for partner in partners:
                    try:
                        await world.keeper.keep(partner, world.publisher)
                    except WebhookError:
                        return False
                name = NAME.replace("acme", "bank")
                found = world.api.find(CLUSTER_TRUST_BUNDLES, name)
                return found and found["spec"]["trustBundle"] == bank.bundle.to_pem().decode()

            async with asyncio.timeout(10):
                while not await is_there():
                    await world.changed.wait()
                    world.changed.clear()


def selected(world, partner):
    """What the volumes of a partner's pods have, whose file is named by its trust domain."""
    labels = partner.labels.items()
    bodies = [world.body] if world.body else []
    return "".join(
        body["spec"]["trustBundle"]
        for body in bodies
        if labels <= body["metadata"]["labels"].items()
    )


class TestAnotherTrustDomain:
    """The same name, for another trust domain: no authority of the one is ever the other's."""

    @pytest.mark.parametrize("source", ["bundle", "endpoint"])
    async def test_volumes(self, world, source):
        """Volumes of the last one lose it; volumes of the new one get what is its own."""
        bank = DevelopmentCA("bank.example")
        before, after = world.declared(), world.declared(trustDomain="bank.example")
        if source == "bundle":
            pems = [ca.bundle.to_pem().decode() for ca in (world.ca, bank)]
            before = world.declared(endpoint=None, bundle=pems[0])
            after = world.declared(endpoint=None, bundle=pems[1], trustDomain="bank.example")
            await world.keep(before)
        else:
            await world.begin(before)
        assert selected(world, before) == world.ca.bundle.to_pem().decode()
        assert selected(world, after) == ""
        world.server.publish(bank.bundle, sequence=8)
        await world.keep(after)
        assert selected(world, before) == ""
        assert world.ca.bundle.to_pem().decode() not in selected(world, after)
        if source == "endpoint":
            await world.fetched(after)
        assert selected(world, before) == ""
        assert selected(world, after) == bank.bundle.to_pem().decode()

    async def test_an_endpoint_that_does_not_answer(self, world):
        """What was published of the last one is withdrawn before the new one is asked."""
        await world.begin()
        world.server.act = bundle_server.hold
        await world.keep(world.declared(trustDomain="bank.example"))
        assert world.in_force == nobody(world)
        assert world.annotation("withdrawn") == "unknown"


class Configuration:
    def __init__(self, text):
        self.text = text

    async def fresh(self):
        return PlatformConfig.parse(self.text)


class TestLeader:
    async def test_nobody_waits_for_an_endpoint(self, world):
        """While one never answers, zones and other partners are published, and it ends in time."""
        world.server.act = bundle_server.hold
        other = DevelopmentCA("other.example").bundle.to_pem().decode()
        more = {
            "name": "other",
            "trustDomain": "other.example",
            "namespaces": ["*"],
            "bundle": other,
        }
        text = PLATFORM + yaml.safe_dump({"partners": [entry(world, "acme"), more]})
        began = time.monotonic()
        leader = Leader(world.api, Configuration(text), clock=now_utc)
        task = asyncio.create_task(leader.run())
        wanted = {BUNDLE, NAME.replace("acme", "other")}
        await until(lambda: names(world) == wanted)
        await until(lambda: world.server.paths)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert time.monotonic() - began < 5

    async def test_comes_and_goes(self, world, monkeypatch):
        """With the configuration, at once; a new leader knows nothing else."""
        monkeypatch.setattr("webhook.trust.leader._LOOK_SECONDS", 0.02)
        configuration = Configuration(PLATFORM)
        leader = Leader(world.api, configuration, clock=now_utc)
        task = asyncio.create_task(leader.run())
        try:
            await until(lambda: names(world) == {BUNDLE})
            partners = yaml.safe_dump({"partners": [entry(world, "acme")]})
            configuration.text = PLATFORM + partners
            await until(lambda: world.in_force == world.ca.bundle)
            configuration.text = PLATFORM
            await until(lambda: names(world) == {BUNDLE})
            assert value("authorities") is None
        finally:
            task.cancel()
            await asyncio.wait([task])


class TestInjector:
    def test_fetches_nothing(self):
        """It reads the same configuration, and has not even loaded what could fetch."""
        code = (
            "import sys, webhook.injection.serve, webhook.config_document;"
            "sys.exit(not {'httpx', 'httpx2', 'webhook.trust'}.isdisjoint(sys.modules))"
        )
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def entry(world, name):
    return {
        "name": name,
        "trustDomain": "partner.example",
        "namespaces": ["*"],
        "endpoint": world.endpoint,
    }


def names(world):
    return {body["metadata"]["name"] for body in world.api.all(CLUSTER_TRUST_BUNDLES)}
