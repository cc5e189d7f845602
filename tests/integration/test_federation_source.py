# SPDX-License-Identifier: Apache-2.0
"""A source with partners: what is trusted while endpoints, files and the platform change."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from kubetls_sdk import metrics
from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.context import client_context, server_context
from kubetls_sdk.exceptions import (
    ConfigurationError,
    NotReadyError,
    PeerVerificationError,
    SourceClosedError,
)
from kubetls_sdk.expectation import expected_peer
from kubetls_sdk.federation import Endpoint, FederatedSource, Partner
from kubetls_sdk.federation.bundle_document import to_jwks
from kubetls_sdk.source import StaticSource
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.volume_source import VolumeSource
from tests.handshaking import Handshake
from tests.integration import bundle_server
from tests.integration.bundle_server import BundleServer, web_context
from tests.integration.origin import stock_server_context
from tests.waiting import eventually, until

SERVER_PATH = "/ns/spire/sa/bundles"


class Clock:
    def __init__(self):
        self.ahead = timedelta(0)

    def __call__(self):
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def ours():
    return DevelopmentCA("example.org")


@pytest.fixture
def partner_ca():
    return DevelopmentCA("partner.example")


@pytest.fixture
def inner(ours):
    return StaticSource(ours.issue(), TrustBundleSet([ours.bundle]))


@pytest.fixture
def web(web_ca, partner_ca):
    with BundleServer.running(web_context(web_ca, "localhost")) as server:
        server.publish(partner_ca.bundle, sequence=1)
        yield server


@pytest.fixture
def partner(web, partner_ca, roots):
    def make(**options):
        domain = options.pop("trust_domain", partner_ca.trust_domain)
        endpoint = Endpoint(url=options.pop("url", web.url), profile="https_web", ca_file=roots)
        return Partner(trust_domain=domain, endpoint=endpoint, **options)

    return make


def trusts(source, ca):
    """Whether a leaf that a CA issues now is verified in a handshake with the source's server."""
    server = server_context(source)
    client = StaticSource(ca.issue("/peer"), TrustBundleSet([source.snapshot.own_bundle]))
    expected = expected_peer(source.snapshot.svid.spiffe_id)
    done = Handshake.run(client_context(client, expect=expected), server)
    if done.server_error is not None:
        assert isinstance(done.server_error, PeerVerificationError)
    return done.server_error is None and done.server_done


def domains(source):
    return sorted(map(str, source.snapshot.bundles))


class TestFetching:
    def test_partner_is_trusted(self, inner, ours, partner_ca, partner):
        """A partner's bundle is in force once it was fetched, and ours as before."""
        with FederatedSource(inner, partners=[partner()]) as source:
            assert domains(source) == ["example.org", "partner.example"]
            assert trusts(source, partner_ca)
            assert trusts(source, ours)
            assert source.snapshot.svid is inner.snapshot.svid
            assert source.status.problems == ()

    def test_partner_mints_no_name_of_ours(self, inner, partner_ca, partner):
        """What is fetched vouches for the partner's own names only."""
        with FederatedSource(inner, partners=[partner()]) as source:
            server = server_context(source)
            forged = StaticSource(
                partner_ca.issue_for("example.org", "/admin"), inner.snapshot.bundles
            )
            expected = expected_peer(inner.snapshot.svid.spiffe_id)
            done = Handshake.run(client_context(forged, expect=expected), server)
            assert isinstance(done.server_error, PeerVerificationError)

    def test_rotation(self, inner, partner_ca, partner, web):
        """A new root comes and the old one goes with the next fetches, as one generation each."""
        with FederatedSource(inner, partners=[partner()]) as source:
            heard = []
            source.subscribe(lambda snapshot: heard.append(snapshot.generation))
            partner_ca.add_root()
            web.publish(partner_ca.bundle, sequence=2)
            source.refresh()
            until(lambda: len(heard) == 1)
            partner_ca.activate_root()
            assert trusts(source, partner_ca)
            partner_ca.retire_root()
            web.publish(partner_ca.bundle, sequence=3)
            source.refresh()
            until(lambda: len(heard) == 2)
            assert heard == [source.snapshot.generation - 1, source.snapshot.generation]
            assert trusts(source, partner_ca)

    def test_number_alone_is_no_generation(self, inner, partner_ca, partner, web):
        """A partner that counts up without a change makes nobody reconnect."""
        with FederatedSource(inner, partners=[partner()]) as source:
            before = source.snapshot
            web.publish(partner_ca.bundle, sequence=2, refresh_hint=77)
            source.refresh()
            until(lambda: source.status.partners[0].sequence == 2)
            assert source.snapshot is before

    def test_revoked(self, inner, partner_ca, partner, web, caplog):
        """An empty bundle revokes everything at once, and the log says so."""
        with FederatedSource(inner, partners=[partner()]) as source:
            web.body = b'{"keys": [], "spiffe_sequence": 2}'
            source.refresh()
            until(lambda: not len(source.snapshot.bundles[partner_ca.trust_domain]))
            assert not trusts(source, partner_ca)
            assert "publishes no authority" in caplog.text

    def test_hint(self, inner, partner_ca, partner, web):
        """The hint decides when to ask again, within the configured bounds."""
        web.publish(partner_ca.bundle, refresh_hint=0)
        quick = partner(min_refresh_seconds=0.05, max_refresh_seconds=60)
        with FederatedSource(inner, partners=[quick]):
            until(lambda: len(web.paths) >= 4)


ABUSE = [
    pytest.param(lambda web: setattr(web, "status", 503), "503", id="failing"),
    pytest.param(lambda web: setattr(web, "body", b"{"), "JSON", id="malformed"),
    pytest.param(lambda web: setattr(web, "act", bundle_server.hold), "within", id="silent"),
    pytest.param(lambda web: setattr(web, "act", bundle_server.drip), "within", id="slow"),
    pytest.param(lambda web: setattr(web, "act", bundle_server.pour), "at most", id="huge"),
    pytest.param(lambda web: setattr(web, "act", bundle_server.cut), "JSON", id="truncated"),
    pytest.param(
        lambda web: setattr(web, "act", bundle_server.redirect_to("/")), "circle", id="redirects"
    ),
    pytest.param(
        lambda web: web.headers.update({"content-type": "text/html"}), "content type", id="a page"
    ),
    pytest.param(
        lambda web: setattr(web, "body", web.body.replace(b'"keys"', b'"keys": [], "keys"')),
        "duplicate",
        id="duplicate keys",
    ),
    pytest.param(
        lambda web: web.publish(DevelopmentCA("mallory.example").bundle, sequence=9),
        "mallory",
        id="another domain's authorities",
    ),
    pytest.param(
        lambda web: web.publish(DevelopmentCA("partner.example").bundle, sequence=0),
        "sequence",
        id="a sequence that goes back",
    ),
]


class TestAbuse:
    @pytest.mark.parametrize(("abuse", "message"), ABUSE)
    def test_last_good_is_kept(self, inner, ours, partner_ca, partner, web, abuse, message):
        """A clear error, the last good bundle in force, nothing else affected, and recovery."""
        patience = 2 if message == "within" else 20
        with FederatedSource(inner, partners=[partner(timeout_seconds=patience)]) as source:
            until(lambda: len(domains(source)) == 2)
            before = source.snapshot
            good = (web.status, web.body, web.act, dict(web.headers))
            abuse(web)
            source.refresh()
            until(lambda: source.status.partners[0].error)
            assert message in source.status.problems[0]
            assert source.snapshot is before
            assert trusts(source, partner_ca)
            web.status, web.body, web.act, web.headers = good
            web.released.set()
            source.refresh()
            until(lambda: source.status.problems == ())

    @pytest.mark.parametrize(("abuse", "message"), ABUSE[:-1])
    def test_from_the_start(self, inner, ours, partner_ca, partner, web, abuse, message):
        """A partner that never answers well is not trusted, and harms no other."""
        abuse(web)
        patience = 0.5 if message == "within" else 20
        with FederatedSource(
            inner, partners=[partner(timeout_seconds=patience)], wait_seconds=30
        ) as source:
            assert message in source.status.problems[0]
            assert domains(source) == ["example.org"]
            assert trusts(source, ours)
            assert not trusts(source, partner_ca)

    def test_others_are_fetched(self, inner, partner, web, web_ca, tmp_path):
        """One endpoint that stalls holds up no other."""
        other = DevelopmentCA("other.example")
        context = web_context(web_ca, "localhost")
        web.act = bundle_server.hold
        with BundleServer.running(context) as good:
            good.publish(other.bundle)
            both = [partner(), partner(trust_domain=other.trust_domain, url=good.url)]
            with FederatedSource(inner, partners=both, wait_seconds=0) as source:
                until(lambda: "other.example" in domains(source))
                web.released.set()

    def test_start_does_not_wait_for_ever(self, inner, partner, web):
        """The start goes on without the answers."""
        web.act = bundle_server.hold
        began = time.monotonic()
        with FederatedSource(inner, partners=[partner()], wait_seconds=0.2):
            assert time.monotonic() - began < 5
        assert time.monotonic() - began < 8


class TestAge:
    def test_too_old(self, inner, partner_ca, partner, web, caplog):
        """A bundle that was not renewed for too long is out, with an error and a metric."""
        registry, clock = CollectorRegistry(), Clock()
        metrics.enable(registry)
        try:
            old = partner(max_stale_seconds=600)
            with FederatedSource(inner, partners=[old], clock=clock) as source:
                web.status = 500
                source.refresh()
                until(lambda: source.status.problems)
                assert trusts(source, partner_ca)
                clock.ahead = timedelta(seconds=700)
                until(lambda: not len(source.snapshot.bundles[partner_ca.trust_domain]))
                assert not trusts(source, partner_ca)
                assert "nobody of it is trusted" in caplog.text

                def stale():
                    labels = {"trust_domain": "partner.example"}
                    return registry.get_sample_value("kubetls_bundle_stale_seconds", labels)

                until(lambda: (stale() or 0) > 600)
                web.status = 200
                source.refresh()
                until(lambda: len(source.snapshot.bundles[partner_ca.trust_domain]))
                until(lambda: stale() == 0)
                counted = registry.get_sample_value(
                    "kubetls_bundle_fetches_total",
                    {"trust_domain": "partner.example", "result": "failed"},
                )
                assert counted == 1
        finally:
            metrics.disable()


class TestPrecedence:
    def test_platform_wins(self, ours, partner_ca, partner, caplog):
        """A bundle that the platform delivers is in force alone: nothing is merged into it."""
        delivered = DevelopmentCA("partner.example")
        bundles = TrustBundleSet([ours.bundle, delivered.bundle])
        inner = StaticSource(ours.issue(), bundles)
        with FederatedSource(inner, partners=[partner()]) as source:
            assert dict(source.snapshot.bundles) == dict(bundles)
            assert trusts(source, delivered)
            assert not trusts(source, partner_ca)
            assert "the platform gave us" in source.status.problems[0]
            inner.replace(bundles=TrustBundleSet([ours.bundle]))
            assert trusts(source, partner_ca)
            assert not trusts(source, delivered)

    def test_removed_by_the_platform(self, ours, partner_ca, partner):
        """An empty bundle of the platform's trusts nobody, whatever an endpoint says."""
        nobody = TrustBundle(partner_ca.trust_domain, ())
        inner = StaticSource(ours.issue(), TrustBundleSet([ours.bundle, nobody]))
        with FederatedSource(inner, partners=[partner()]) as source:
            assert not trusts(source, partner_ca)

    def test_our_own_domain(self, inner, ours, partner):
        """Nobody else publishes the bundle of our own trust domain."""
        mine = partner(trust_domain=ours.trust_domain)
        with FederatedSource(inner, partners=[mine]) as source:
            assert dict(source.snapshot.bundles) == dict(inner.snapshot.bundles)
            assert "our own trust domain" in source.status.problems[0]


class TestSpiffeProfile:
    @pytest.fixture
    def bundle_file(self, tmp_path, partner_ca):
        path = tmp_path / "partner.pem"
        path.write_bytes(partner_ca.bundle.to_pem())
        return path

    @pytest.fixture
    def make(self, partner_ca, bundle_file):
        def make(server, **options):
            endpoint = Endpoint(
                url=server.url, profile="https_spiffe", spiffe_id=partner_ca.spiffe_id(SERVER_PATH)
            )
            return Partner(
                **{
                    "trust_domain": partner_ca.trust_domain,
                    "endpoint": endpoint,
                    "bundle": bundle_file,
                    **options,
                }
            )

        return make

    def test_bootstrap_trusts_nobody_else(self, inner, partner_ca, make):
        """What verifies the first fetch is not in force for callers before the fetch."""
        with BundleServer.running(stock_server_context(partner_ca.issue(SERVER_PATH))) as server:
            server.status = 500
            with FederatedSource(inner, partners=[make(server)]) as source:
                assert domains(source) == ["example.org"]
                assert not trusts(source, partner_ca)

    def test_latest_bundle_verifies(self, inner, partner_ca, make):
        """After the first fetch the fetched bundle counts: the partner replaces its roots alone."""
        with BundleServer.running(stock_server_context(partner_ca.issue(SERVER_PATH))) as server:
            server.publish(partner_ca.bundle)
            with FederatedSource(inner, partners=[make(server)]) as source:
                partner_ca.add_root()
                partner_ca.activate_root()
                partner_ca.retire_root()
                server.publish(partner_ca.bundle)
                source.refresh()
                until(lambda: trusts(source, partner_ca))
                server.context = stock_server_context(partner_ca.issue(SERVER_PATH))
                paths = len(server.paths)
                source.refresh()
                until(lambda: len(server.paths) > paths)
                until(lambda: source.status.problems == ())

    def test_bootstrap_is_replaced(self, inner, partner_ca, make, bundle_file):
        """An operator who replaces the bundle file repairs a relation that was lost."""
        with BundleServer.running(stock_server_context(partner_ca.issue(SERVER_PATH))) as server:
            server.publish(partner_ca.bundle, sequence=9)
            with FederatedSource(inner, partners=[make(server)]) as source:
                rebuilt = DevelopmentCA("partner.example")
                server.context = stock_server_context(rebuilt.issue(SERVER_PATH))
                server.publish(rebuilt.bundle, sequence=1)
                source.refresh()
                until(lambda: source.status.problems)
                bundle_file.write_bytes(rebuilt.bundle.to_pem())
                until(lambda: trusts(source, rebuilt))
                assert not trusts(source, partner_ca)

    def test_through_another_domain(self, inner, partner_ca, make):
        """A server of a third domain is verified by that one's fetched bundle, once it is there."""
        third = DevelopmentCA("third.example")
        with (
            BundleServer.running(stock_server_context(partner_ca.issue(SERVER_PATH))) as one,
            BundleServer.running(stock_server_context(partner_ca.issue(SERVER_PATH))) as two,
        ):
            one.publish(partner_ca.bundle)
            two.publish(third.bundle)
            endpoint = make(two).endpoint
            chained = Partner(trust_domain=third.trust_domain, endpoint=endpoint)
            with FederatedSource(inner, partners=[chained, make(one)], wait_seconds=0) as source:
                until(lambda: trusts(source, third))
                assert two.client_certificates == [None]


class TestFile:
    @pytest.fixture
    def file(self, tmp_path, partner_ca):
        (tmp_path / "partner.json").write_bytes(
            to_jwks(partner_ca.bundle, sequence=None, refresh_hint=None)
        )
        path = tmp_path / "federation.yaml"
        path.write_text(
            "version: 1\npartners:\n- {trustDomain: partner.example, bundle: partner.json}\n"
        )
        return path

    def test_removed_from_the_file(self, inner, partner_ca, file):
        """A partner that is taken out of the file is out within a second."""
        with FederatedSource(inner, file=file) as source:
            assert trusts(source, partner_ca)
            began = time.monotonic()
            file.write_text("version: 1\npartners: []\n")
            until(lambda: domains(source) == ["example.org"], interval=0.005)
            assert time.monotonic() - began < 1
            assert not trusts(source, partner_ca)

    def test_file_removed(self, inner, partner_ca, file):
        """A file that is gone declares nobody, within a second; it may come back."""
        with FederatedSource(inner, file=file) as source:
            text = file.read_text()
            began = time.monotonic()
            file.unlink()
            until(lambda: domains(source) == ["example.org"], interval=0.005)
            assert time.monotonic() - began < 1
            assert "gone" in source.status.error
            file.write_text(text)
            until(lambda: trusts(source, partner_ca))
            assert source.status.problems == ()

    def test_bundle_file_removed(self, inner, partner_ca, file):
        """The bundle file of a partner that is gone trusts nobody, within a second."""
        with FederatedSource(inner, file=file) as source:
            began = time.monotonic()
            (file.parent / "partner.json").unlink()
            until(lambda: not len(source.snapshot.bundles[partner_ca.trust_domain]), interval=0.005)
            assert time.monotonic() - began < 1
            assert "expected a bundle file" in source.status.problems[0]

    def test_bundle_file_changes(self, inner, partner_ca, file):
        """A bundle file is followed."""
        other = DevelopmentCA("partner.example")
        with FederatedSource(inner, file=file) as source:
            (file.parent / "partner.json").write_bytes(other.bundle.to_pem())
            until(lambda: trusts(source, other))
            assert not trusts(source, partner_ca)

    def test_bundle_file_unusable(self, inner, partner_ca, file):
        """One that cannot be used keeps the last good one, for its time, and says so."""
        clock = Clock()
        place = file.parent / "partner.json"
        with FederatedSource(inner, file=file, clock=clock) as source:
            good = place.read_bytes()
            place.write_bytes(good[:-20])
            until(lambda: source.status.problems)
            assert trusts(source, partner_ca)
            clock.ahead = timedelta(days=2)
            until(lambda: not trusts(source, partner_ca))
            place.write_bytes(good)
            until(lambda: trusts(source, partner_ca))

    def test_bundle_in_another_directory(self, inner, partner_ca, file, tmp_path):
        """The directory of a bundle that is declared later is followed as well."""
        (tmp_path / "else").mkdir()
        place = tmp_path / "else" / "third.pem"
        one, two = DevelopmentCA("third.example"), DevelopmentCA("third.example")
        place.write_bytes(one.bundle.to_pem())
        with FederatedSource(inner, file=file) as source:
            file.write_text(
                f"version: 1\npartners:\n- {{trustDomain: third.example, bundle: {place}}}\n"
            )
            until(lambda: domains(source) == ["example.org", "third.example"])
            place.write_bytes(two.bundle.to_pem())
            until(lambda: trusts(source, two))

    @pytest.mark.parametrize("text", ["version: 1\n", "{", "", "version: 1\npartners: 3\n"])
    def test_unusable(self, inner, partner_ca, file, text):
        """A file that cannot be used keeps what was declared, and says so."""
        with FederatedSource(inner, file=file) as source:
            good = file.read_text()
            file.write_text(text)
            until(lambda: source.status.error)
            assert trusts(source, partner_ca)
            file.write_text(good)
            until(lambda: source.status.error is None)

    def test_unusable_for_long(self, inner, partner_ca, file):
        """Not for ever: then nobody is a partner."""
        clock = Clock()
        with FederatedSource(inner, file=file, clock=clock, poll_seconds=0.1) as source:
            file.write_text("{")
            until(lambda: source.status.error)
            clock.ahead = timedelta(hours=2)
            until(lambda: domains(source) == ["example.org"])
            assert "nobody is a partner" in source.status.error

    def test_other_endpoint(self, inner, partner_ca, file, web, roots):
        """A partner with another place is a new relation: nothing of the old one is kept."""
        with FederatedSource(inner, file=file) as source:
            fresh = DevelopmentCA("partner.example")
            web.publish(fresh.bundle)
            file.write_text(
                "version: 1\npartners:\n- trustDomain: partner.example\n"
                f"  endpoint: {{profile: https_web, url: '{web.url}', caFile: {roots}}}\n"
            )
            until(lambda: trusts(source, fresh))
            assert not trusts(source, partner_ca)

    @pytest.mark.parametrize("text", [None, "{"], ids=["missing", "unusable"])
    def test_start(self, inner, tmp_path, text):
        """At the start a file that is missing or unusable is an error."""
        if text is not None:
            (tmp_path / "f.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match=r"f\.yaml"):
            FederatedSource(inner, file=tmp_path / "f.yaml").start()

    def test_removal_while_fetching(self, inner, partner_ca, partner, web):
        """The answer to a fetch that was under way does not bring a removed partner back."""
        entered, go = threading.Event(), threading.Event()

        def act(_):
            entered.set()
            return go.wait(10)

        web.act = act
        with FederatedSource(inner, partners=[partner()], wait_seconds=0) as source:
            assert entered.wait(10)
            source.set_partners([])
            go.set()
            until(lambda: not source.status.partners)
            assert domains(source) == ["example.org"]
            assert source.snapshot.generation == 1


def _threads():
    names = [each.name for each in threading.enumerate()]
    return [name for name in names if name.startswith("kubetls-federation")]


class TestLife:
    def test_not_started(self, inner):
        """Before the start there is nothing."""
        with pytest.raises(NotReadyError):
            FederatedSource(inner).snapshot  # noqa: B018

    def test_closed(self, inner, partner):
        """After the end there is nothing, and no thread is left."""
        source = FederatedSource(inner, partners=[partner()]).start()
        source.close()
        source.close()
        with pytest.raises(SourceClosedError):
            source.snapshot  # noqa: B018
        assert _threads() == []
        inner.replace(bundles=TrustBundleSet())
        with pytest.raises(ConfigurationError, match="new source"):
            source.start()

    def test_follows_the_volume(self, kubetls_volume, kubetls_ca, partner_ca, partner):
        """A rotation of the volume comes through at once, with the partner's bundle beside it."""
        volume = kubetls_volume()
        with (
            VolumeSource(volume.directory) as inner,
            FederatedSource(inner, partners=[partner()]) as source,
        ):
            before = source.snapshot
            volume.rotate()
            until(lambda: inner.snapshot.generation == 2)
            after = source.snapshot
            assert after.svid == inner.snapshot.svid != before.svid
            assert after.generation == before.generation + 1
            assert trusts(source, partner_ca)

    def test_closed_volume(self, kubetls_volume, partner):
        """A volume that was closed hands out nothing through us either."""
        inner = VolumeSource(kubetls_volume().directory).start()
        with FederatedSource(inner, partners=[partner()]) as source:
            inner.close()
            with pytest.raises(SourceClosedError):
                source.snapshot  # noqa: B018

    def test_prepared(self, kubetls_volume, partner):
        """A context has each new generation ready before it is in force."""
        volume = kubetls_volume()
        early = []
        with (
            VolumeSource(volume.directory) as inner,
            FederatedSource(inner, partners=[partner()]) as source,
        ):
            before = source.snapshot
            source.subscribe_early(lambda snapshot: early.append((snapshot, source.snapshot)))
            volume.rotate()
            until(lambda: source.snapshot is not before)
            ((prepared, in_force),) = early
            assert prepared is source.snapshot
            assert in_force is before

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_fork(self, inner, partner):
        """A forked child has no source: nobody follows the partners there."""
        with FederatedSource(inner, partners=[partner()]) as source:
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    source.snapshot  # noqa: B018
                except SourceClosedError:
                    os.write(write, b"closed")
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            os.close(write)
            assert os.read(read, 10) == b"closed"
            os.close(read)
            assert len(source.snapshot.bundles) == 2

    def test_async(self, inner, partner, partner_ca):
        """It is an async context manager as well."""

        async def run():
            async with FederatedSource(inner, partners=[partner()]) as source:
                return domains(source)

        assert asyncio.run(run()) == ["example.org", "partner.example"]

    def test_cancelled_async_start(self, inner, partner, web):
        """A start that is cancelled while it waits leaves no thread behind."""
        web.act = bundle_server.hold

        async def use():
            source = FederatedSource(inner, partners=[partner()], wait_seconds=30)
            task = asyncio.create_task(source.__aenter__())
            await eventually(_threads)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        began = time.monotonic()
        asyncio.run(use())  # joins the threads of `asyncio.to_thread`
        assert time.monotonic() - began < 10
        assert _threads() == []

    def test_arguments(self, inner, partner, tmp_path):
        """Contradictions are errors at construction."""
        for options in (
            {"file": tmp_path / "x", "partners": [partner()]},
            {"partners": [partner(), partner()]},
            {"poll_seconds": 0},
            {"wait_seconds": -1},
        ):
            with pytest.raises(ConfigurationError):
                FederatedSource(inner, **options)
        with pytest.raises(ConfigurationError):
            FederatedSource(inner, file=tmp_path / "x").set_partners([])


class TestRestart:
    """With a store, a restarted process goes on where the last one ended."""

    def test_trusted_at_once(self, inner, partner_ca, partner, web, tmp_path):
        """The last good bundle is in force before an endpoint answers, and its sequence counts."""
        web.publish(partner_ca.bundle, sequence=9)
        with FederatedSource(inner, partners=[partner()], store=tmp_path / "s") as source:
            assert trusts(source, partner_ca)
        web.publish(DevelopmentCA("partner.example").bundle, sequence=8)
        with FederatedSource(inner, partners=[partner()], store=tmp_path / "s") as source:
            until(lambda: source.status.problems)
            assert "sequence of 9" in source.status.problems[0]
            assert trusts(source, partner_ca)

    def test_age_goes_on(self, inner, partner_ca, partner, web, tmp_path):
        """What is too old is not trusted after a restart either."""
        with FederatedSource(inner, partners=[partner()], store=tmp_path / "s"):
            pass
        web.status = 500
        clock = Clock()
        clock.ahead = timedelta(days=2)
        with FederatedSource(
            inner, partners=[partner()], store=tmp_path / "s", clock=clock
        ) as source:
            assert not trusts(source, partner_ca)

    def test_removed_partner(self, inner, partner, web, tmp_path):
        """A partner that was removed begins anew when it comes back."""
        with FederatedSource(inner, partners=[partner()], store=tmp_path / "s") as source:
            source.set_partners([])
        web.status = 500
        with FederatedSource(inner, partners=[partner()], store=tmp_path / "s") as source:
            assert domains(source) == ["example.org"]

    def test_rotated_while_down(self, inner, partner_ca, tmp_path):
        """A self-serving endpoint is verified by the stored bundle, not by what it began with."""
        (tmp_path / "first.pem").write_bytes(partner_ca.bundle.to_pem())
        with BundleServer.running(stock_server_context(partner_ca.issue(SERVER_PATH))) as server:
            partner_ca.add_root()
            server.publish(partner_ca.bundle)
            partner_ca.activate_root()
            endpoint = Endpoint(
                url=server.url, profile="https_spiffe", spiffe_id=partner_ca.spiffe_id(SERVER_PATH)
            )
            options = {
                "partners": [
                    Partner(
                        trust_domain=partner_ca.trust_domain,
                        endpoint=endpoint,
                        bundle=tmp_path / "first.pem",
                    )
                ],
                "store": tmp_path / "s",
            }
            with FederatedSource(inner, **options) as source:
                assert trusts(source, partner_ca)
            partner_ca.retire_root()
            server.context = stock_server_context(partner_ca.issue(SERVER_PATH))
            server.publish(partner_ca.bundle)
            with FederatedSource(inner, **options) as source:
                until(lambda: len(source.snapshot.bundles[partner_ca.trust_domain]) == 1)
                assert source.status.problems == ()
            rebuilt = DevelopmentCA("partner.example")
            server.context = stock_server_context(rebuilt.issue(SERVER_PATH))
            server.publish(rebuilt.bundle)
            (tmp_path / "first.pem").write_bytes(rebuilt.bundle.to_pem())
            with FederatedSource(inner, **options) as source:
                until(lambda: trusts(source, rebuilt))
