# SPDX-License-Identifier: Apache-2.0
"""The zones' bundle endpoint on a real API server, as partners use it.

Rules:
1. Installed by the chart, run with the files that the kubelet wrote and its own account's rights.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
from datetime import timedelta

import pytest
import yaml
from click.testing import CliRunner

from cluster import ONLY_BETA, WITHOUT_TRUST_BUNDLES, ControlPlane
from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.federation import FederatedSource, Partner, Profile
from kubetls_sdk.federation.bundle_document import parse_document
from kubetls_sdk.source import StaticSource
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from tests.cluster.account import Account
from tests.cluster.bundle_endpoint_world import (
    BUNDLES,
    OURS,
    PATHS,
    SERVER,
    SIGNERS,
    VALUES,
    bundle_endpoint_world,
    run_alone,
)
from tests.cluster.chart import SYSTEM, rendered
from tests.waiting import until
from webhook.api import Api
from webhook.api.discovery import first_served
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1
from webhook.config import PlatformConfig
from webhook.endpoint.published_zones import PublishedZones

pytestmark = pytest.mark.timeout(240)

OK, FORBIDDEN, NOT_FOUND = 200, 403, 404
PROFILES = pytest.mark.parametrize("profile", list(Profile), ids=str)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The cluster, for this module."""
    with bundle_endpoint_world(tmp_path_factory.mktemp("bundle-endpoint")) as running:
        yield running


@pytest.fixture
def known(world, tmp_path):
    """The file of our bundle that a partner was given for its first fetch."""
    path = tmp_path / "example.org.pem"
    path.write_bytes(world.published().to_pem())
    return path


@pytest.fixture
def account(world):
    """The endpoint's own account."""
    return Account(world.control_plane, SYSTEM, "kubetls-bundle-endpoint")


def document(world, name, domain="example.org"):
    """The bundle that a replica serves."""
    status, body = world.answer(name, PATHS[domain])
    assert status == OK
    return parse_document(TrustDomain.parse(domain), body).bundle


class TestPartners:
    @PROFILES
    def test_command(self, world, known, profile):
        """`kubetls bundle fetch` takes a zone's bundle by either profile."""
        options = {
            Profile.WEB: ["--ca-file", str(world.roots)],
            Profile.SPIFFE: ["--spiffe-id", str(SERVER), "--bundle", str(known)],
        }
        done = CliRunner().invoke(
            kubetls,
            [
                *("bundle", "fetch", world.url(profile), "--trust-domain", "example.org"),
                *("--profile", profile.value, "--json", *options[profile]),
            ],
        )
        assert done.exit_code == 0, done.output
        found = json.loads(done.output)
        assert len(found["authorities"]) == len(world.published())
        assert found["sequence"] > 0
        assert found["refresh_hint"] == 120

    @PROFILES
    def test_rotation(self, world, known, profile):
        """A partner that follows us has a new root, and loses one, each with a greater sequence."""
        theirs = DevelopmentCA("partner.example")
        inner = StaticSource(theirs.issue(), TrustBundleSet([theirs.bundle]))
        we = Partner(
            trust_domain=OURS,
            endpoint=world.endpoint(profile),
            bundle=known if profile is Profile.SPIFFE else None,
            min_refresh_seconds=0.5,
            max_refresh_seconds=1,
        )
        with FederatedSource(inner, partners=[we]) as partner:
            assert partner.snapshot.bundles[OURS] == world.published()
            numbers = [partner.status.partners[0].sequence]
            for order, count in ((lambda ca: ca.rotate(), 2), (lambda ca: ca.abort(), 1)):
                world.operator.order(order)
                until(lambda n=count: len(partner.snapshot.bundles[OURS]) == n, timeout=60)
                numbers.append(partner.status.partners[0].sequence)
            assert partner.snapshot.bundles[OURS] == world.published()
            assert partner.status.problems == ()
        assert numbers == sorted(set(numbers))


class TestReplicas:
    def test_agree(self, world):
        """After a change both replicas serve the same bytes."""
        one, two = world.replicas
        before = document(world, one).sequence
        world.operator.order(lambda ca: ca.rotate())
        until(lambda: len(document(world, one)) == len(document(world, two)) == 2, timeout=60)
        answers = [world.answer(name, PATHS["example.org"]) for name in (one, two)]
        world.operator.order(lambda ca: ca.abort())
        until(lambda: len(document(world, one)) == len(document(world, two)) == 1, timeout=60)
        assert answers[0] == answers[1]
        assert before < parse_document(OURS, answers[0][1]).bundle.sequence
        assert parse_document(OURS, answers[0][1]).bundle.sequence < document(world, two).sequence

    def test_restart(self, world):
        """A replica that starts anew serves the number that the other one has."""
        one, two = world.replicas
        before = world.answer(one, PATHS["example.org"])
        world.runner.restart(one)
        until(lambda: world.is_ready(one), timeout=60)
        assert world.answer(one, PATHS["example.org"]) == before
        assert world.answer(two, PATHS["example.org"]) == before

    def test_each_zone(self, world):
        """Each zone has its own path, with its own authorities and a number of its own."""
        for name in world.replicas:
            ours, pci = (document(world, name, domain) for domain in PATHS)
            assert (len(ours), len(pci)) == (1, 1)
            assert ours.authorities != pci.authorities
            assert ours.sequence != pci.sequence

    @pytest.mark.parametrize(
        "path", ["/", "/bundles", "/bundles/", "/bundles/example.org/", "/bundles/partner.example"]
    )
    def test_nothing_else(self, world, path):
        """A partner's bundle is in the cluster and is not published again; other paths are none."""
        assert world.api.exists(f"{BUNDLES}/kubetls.gauntletwizard.net:partner:acme")
        assert world.answer(world.replicas[0], path)[0] == NOT_FOUND

    def test_api_server_away(self, world):
        """While the API server is away, what was last seen is served; afterwards it is followed."""
        before = {name: world.answer(name, PATHS["example.org"]) for name in world.replicas}
        world.control_plane.process("kube-apiserver").end()
        assert {name: world.answer(name, PATHS["example.org"]) for name in before} == before
        assert all(world.is_ready(name) for name in before)
        world.control_plane.process("kube-apiserver").start()
        until(world.api.is_ready, timeout=60)
        path = f"{BUNDLES}/kubetls.gauntletwizard.net:workload:example.org"
        found = world.api.get(path)
        found["metadata"]["labels"]["example.org/edited"] = "yes"
        number = int(world.api.put(path, found)["metadata"]["resourceVersion"])
        until(lambda: all(document(world, name).sequence >= number for name in before), timeout=60)

    def test_renewed_web_certificate(self, world):
        """A renewed certificate is presented by the same processes, without a restart."""
        pids = [world.runner.pods[name].process.process.pid for name in world.replicas]
        world.renew_web_certificate()
        until(lambda: all(_is_trusted(world, name) for name in world.replicas), timeout=90)
        after = [world.runner.pods[name].process.process.pid for name in world.replicas]
        assert after == pids


class TestRights:
    def test_no_secrets(self, world, account):
        """It reads no Secret: neither an authority's nor its own certificate's."""
        for name in ("kubetls-ca-default", "bundle-endpoint-web"):
            path = f"/api/v1/namespaces/{SYSTEM}/secrets/{name}"
            assert world.api.exists(path)
            assert account.status("GET", path) == FORBIDDEN
        for path in ("/api/v1/secrets", f"/api/v1/namespaces/{SYSTEM}/secrets"):
            assert account.status("GET", path) == FORBIDDEN
            assert account.status("GET", f"{path}?watch=true&timeoutSeconds=1") == FORBIDDEN

    def test_reads_bundles(self, account):
        """It reads and follows ClusterTrustBundles, and cannot write one."""
        assert account.status("GET", BUNDLES) == OK
        assert account.status("GET", f"{BUNDLES}?watch=true&timeoutSeconds=1") == OK
        body = {
            "metadata": {"name": "try"},
            "spec": {"trustBundle": VALUES["platform"]["partners"][0]["bundle"]},
        }
        assert account.status("POST", f"{BUNDLES}?dryRun=All", body) == FORBIDDEN

    def test_nothing_more(self, world, account):
        """Its rules are those of an account without any, and the reading of bundles."""
        nobody = Account(world.control_plane, SYSTEM, "default").rules(SYSTEM)
        more = [json.loads(rule) for rule in set(account.rules(SYSTEM)) - set(nobody)]
        assert {rule["resources"][0] for rule in more} <= {"clustertrustbundles"}
        assert {verb for rule in more for verb in rule["verbs"]} <= {"get", "list", "watch"}

    def test_its_pods_hold_no_more(self, world):
        """Its pods mount its own certificates, the configuration and its token."""
        (pod, _) = (world.runner.pods[name].pod for name in world.replicas)
        volumes = {each["name"].rsplit("-", 1)[0] for each in pod["spec"]["volumes"]}
        assert volumes == {"configuration", "web", "svid", "kube-api-access"}
        assert pod["spec"]["serviceAccountName"] == "kubetls-bundle-endpoint"

    def test_off_by_default(self):
        """Without being asked for it is not installed."""
        text = str(rendered({"trustDomain": "example.org"}))
        assert "bundle-endpoint" not in text

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"spiffe": {"enabled": False}}, "it would serve nobody"),
            ({"spiffe": {"zone": "other"}}, 'there is no zone "other"'),
        ],
        ids=["no profile", "no zone"],
    )
    def test_what_cannot_be(self, settings, message):
        """Values that would serve nobody are refused by the chart."""
        values = {"trustDomain": "example.org", "bundleEndpoint": {"enabled": True, **settings}}
        with pytest.raises(ValueError, match=message):
            rendered(values)


class TestOlderClusters:
    def test_without_trust_bundles(self, tmp_path):
        """Where the API is missing the program ends, with one line that says so."""
        config = tmp_path / "platform.yaml"
        config.write_text(_platform())
        with ControlPlane(tmp_path / "cluster", options=WITHOUT_TRUST_BUNDLES) as control_plane:
            done = run_alone(
                control_plane,
                *("--config", str(config), "--host", "127.0.0.1", "--status-port", "0"),
                *("--web-certificate", str(tmp_path)),
            )
        assert done.returncode == 2
        assert "the cluster serves no ClusterTrustBundles" in done.stderr
        assert "Traceback" not in done.stderr

    def test_beta(self, tmp_path):
        """Where the API is v1beta1 only, that is followed, and a change has a greater number."""
        with ControlPlane(tmp_path / "cluster", options=ONLY_BETA) as control_plane:
            numbers = asyncio.run(_followed_beta(control_plane, tmp_path))
        assert numbers == sorted(set(numbers))


def _is_trusted(world, name):
    """Whether a replica presents a certificate under the roots of now."""
    try:
        return world.answer(name, PATHS["example.org"])[0] == OK
    except urllib.error.URLError:
        return False


async def _followed_beta(control_plane, folder):
    """The numbers of a bundle that changes, as one replica publishes them."""
    ca, place = DevelopmentCA("example.org"), BUNDLES.replace("/v1/", "/v1beta1/")
    made = control_plane.api.post(place, _bundle(ca))
    async with await Api.connect(control_plane.kubeconfig) as api:
        resource = await first_served(api, CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1)
        assert resource == CLUSTER_TRUST_BUNDLES_V1BETA1
        async with PublishedZones(api, resource, max_stale=timedelta(hours=1)) as zones:
            await zones.follow_zones(PlatformConfig.parse(_platform()).zones.values())
            await zones.synced()
            at = zones.publication_at(PATHS["example.org"])
            first = parse_document(OURS, at.answer("GET").body).bundle
            ca.add_root()
            changed = made | {"spec": _bundle(ca)["spec"]}
            control_plane.api.put(f"{place}/{made['metadata']['name']}", changed)
            async with asyncio.timeout(30):
                while True:
                    second = parse_document(OURS, at.answer("GET").body).bundle
                    if len(second) == 2:
                        return [first.sequence, second.sequence]
                    await asyncio.sleep(0.02)


def _bundle(ca):
    signer = "kubetls.gauntletwizard.net/workload"
    text = ca.bundle.to_pem().decode()
    return {
        "metadata": {"name": f"{SIGNERS['example.org']}:example.org"},
        "spec": {"signerName": signer, "trustBundle": text},
    }


def _platform():
    return yaml.safe_dump({"version": 1, "zones": VALUES["platform"]["zones"]})
