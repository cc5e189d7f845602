# SPDX-License-Identifier: Apache-2.0
"""What in a cluster is not as the configuration says."""

from datetime import timedelta

import pytest

from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.zones.platforms import (
    NOW,
    ROOTS,
    SIGNERS,
    bundle,
    partner_bundle,
    platform,
    pod,
    zone_bundle,
    zone_partner,
)
from webhook.finding import Verdict
from webhook.trust.labels import WITHDRAWN
from webhook.zones.census import census
from webhook.zones.cluster_state import ClusterState, EquippedPod, PublishedBundle
from webhook.zones.drift import bundle_findings, fingerprint, pod_findings

MAIN = "trust bundle of main.example.org"


def complete():
    """What is published when all is well."""
    return [*map(zone_bundle, ROOTS), partner_bundle()]


def found(bodies, *, now=NOW, config=None):
    """Findings by subject."""
    bundles = tuple(map(PublishedBundle.parse, bodies))
    return {each.subject: each for each in bundle_findings(config or platform(), bundles, now=now)}


class TestBundles:
    def test_all_is_well(self):
        """Each bundle is told with its roots' fingerprints and expiry."""
        report = found(complete())
        assert {each.verdict for each in report.values()} == {Verdict.OK}
        assert len(report) == 4
        root = ROOTS["main"].authority
        expected = f"sha256 {fingerprint(root)} until {root.not_valid_after_utc:%Y-%m-%d}"
        assert expected in report[MAIN].message

    def test_missing(self):
        """The name that it should have is told."""
        finding = found([])[MAIN]
        assert finding.verdict is Verdict.WARNING
        assert "kubetls.gauntletwizard.net:main:main.example.org" in finding.message

    def test_stale(self):
        """A bundle that is not the configured one: what it lacks, and what it still has."""
        old = DevelopmentCA("acme.example")
        report = found([*map(zone_bundle, ROOTS), partner_bundle(old)])
        finding = report["trust bundle of acme.example"]
        assert finding.verdict is Verdict.WARNING
        assert f"still has {fingerprint(old.authority)}" in finding.message

    def test_unreadable(self):
        """What nobody can read is a failure."""
        body = zone_bundle("main")
        body["spec"]["trustBundle"] = "rubbish"
        assert found([body])[MAIN].verdict is Verdict.FAILURE

    @pytest.mark.parametrize(
        ("left", "word"), [(timedelta(days=1), "SOON"), (timedelta(days=-1), "EXPIRED")]
    )
    def test_expiry(self, left, word):
        """A root that expires soon, or has expired, is shown as such."""
        now = ROOTS["main"].authority.not_valid_after_utc - left
        finding = found(complete(), now=now)[MAIN]
        assert finding.verdict is Verdict.WARNING
        assert word in finding.message

    @pytest.mark.parametrize("managed", [True, False])
    def test_foreign(self, managed):
        """What others publish under our signer name is a failure, labelled as ours or not."""
        name = "kubetls.gauntletwizard.net:pci:evil"
        text = DevelopmentCA("pci.example.org").bundle.to_pem().decode()
        report = found([*complete(), bundle(name, SIGNERS["pci"], text, managed=managed)])
        assert report[f"trust bundle {name}"].verdict is Verdict.FAILURE
        assert "zone pci" in report[f"trust bundle {name}"].message

    @pytest.mark.parametrize(
        ("declared", "label", "verdict"),
        [
            pytest.param(True, "pci", Verdict.OK, id="as declared"),
            pytest.param(True, "", Verdict.WARNING, id="not yet"),
            pytest.param(False, "pci", Verdict.WARNING, id="not any more"),
        ],
    )
    def test_zone_as_partner(self, declared, label, verdict):
        """A zone's bundle has a partner's label exactly while it is declared as one."""
        config = platform(partners=[zone_partner("pci", ["shop"])] if declared else [])
        bodies = [zone_bundle("main"), zone_bundle("lab"), zone_bundle("pci", partner=label)]
        report = found(bodies, config=config)
        assert report["trust bundle of pci.example.org"].verdict is verdict

    def test_withdrawn(self):
        """A partner's bundle that is there to be remembered is told as what it is."""
        body = partner_bundle()
        body["metadata"]["annotations"] = {WITHDRAWN: "too-old"}
        finding = found([body])["trust bundle of acme.example"]
        assert finding.verdict is Verdict.WARNING
        assert "withdrawn (too-old): nobody of it is trusted" in finding.message

    def test_left_over(self):
        """A bundle of a zone that is not configured any more."""
        name = "kubetls.gauntletwizard.net:gone:gone.example.org"
        text = ROOTS["main"].bundle.to_pem().decode()
        report = found([*complete(), bundle(name, "kubetls.gauntletwizard.net/gone", text)])
        assert report[f"trust bundle {name}"].verdict is Verdict.WARNING

    def test_of_others(self):
        """Other people's bundles are nobody's concern here."""
        other = bundle("example.org:x:y", "example.org/x", "", managed=False)
        assert len(found([*complete(), other])) == 4


class TestPods:
    def test_named(self):
        """Pods that have what they would not get today are counted and named."""
        pods = [pod("shop", f"p{number}", zone="pci") for number in range(12)]
        state = ClusterState((), tuple(map(EquippedPod.parse, pods)), ())
        (finding,) = pod_findings(census(platform(), state))
        assert finding.verdict is Verdict.WARNING
        assert finding.message.startswith("12 pods in a zone")
        assert finding.message.endswith("and 4 more")
