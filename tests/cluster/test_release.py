# SPDX-License-Identifier: Apache-2.0
"""The chart as a release: what Helm itself installs, upgrades and removes."""

from __future__ import annotations

import base64

import pytest

from cluster import WITHOUT_TRUST_BUNDLES, ControlPlane, Options
from tests.cluster.chart import CHART, SYSTEM, helm
from webhook.names import INJECTOR

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
BUNDLE = base64.b64encode(b"the leader's").decode()


class Release:
    """The chart as a release of Helm's, in a cluster of its own."""

    def __init__(self, control_plane, home):
        self.api = control_plane.api
        self._kubeconfig = control_plane.kubeconfig
        self._home = home

    def helm(self, command, *arguments):
        place = (f"--kubeconfig={self._kubeconfig}", f"--namespace={SYSTEM}")
        done = helm(command, "kubetls", *arguments, *place, home=self._home)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def registration(self):
        return self.api.get(f"{ADMISSION}/mutatingwebhookconfigurations/{INJECTOR}")


@pytest.fixture(scope="module", params=[Options(), WITHOUT_TRUST_BUNDLES], ids=["new", "old"])
def release(request, tmp_path_factory):
    """A release on a cluster with pod certificates, and on one that has never heard of them."""
    folder = tmp_path_factory.mktemp("release")
    with ControlPlane(folder, options=request.param) as control_plane:
        found = Release(control_plane, folder)
        values = ("--set=trustDomain=example.org", "--set=secretIssuer.enabled=true")
        notes = found.helm("install", str(CHART), *values, "--create-namespace")
        assert "python3 -m webhook preflight" in notes
        yield found


class TestRelease:
    """The tests go on from each other: installed, upgraded, uninstalled."""

    def test_upgrade_keeps_what_the_leader_wrote(self, release):
        """An upgrade leaves the caBundle alone, which no manifest has."""
        found = release.registration()
        found["webhooks"][0]["clientConfig"]["caBundle"] = BUNDLE
        path = f"{ADMISSION}/mutatingwebhookconfigurations/{INJECTOR}"
        release.api.put(path, found)
        release.helm("upgrade", str(CHART), "--reuse-values", "--set=injector.timeoutSeconds=3")
        (webhook,) = release.registration()["webhooks"]
        assert webhook["clientConfig"]["caBundle"] == BUNDLE
        assert webhook["timeoutSeconds"] == 3

    def test_namespaces_and_secrets_of_others(self, release):
        """The policies hinder nobody on a cluster of either kind."""
        release.api.post("/api/v1/namespaces", {"metadata": {"name": "others"}})
        release.api.post(
            "/api/v1/namespaces/others/secrets", {"metadata": {"name": "theirs"}, "type": "Opaque"}
        )

    def test_uninstall_leaves_pools_and_bundles(self, release):
        """What holds the keys, and what pods trust, survives; nothing stands in the way of pods."""
        secrets = f"/api/v1/namespaces/{SYSTEM}/secrets"
        pool = {
            "metadata": {"name": "kubetls-ca-default"},
            "type": "kubetls.gauntletwizard.net/ca-pool",
        }
        release.api.post(secrets, pool)
        release.helm("uninstall")
        assert release.api.exists(f"{secrets}/kubetls-ca-default")
        for kind in ("mutatingwebhookconfigurations", "validatingadmissionpolicies"):
            names = [
                each["metadata"]["name"] for each in release.api.get(f"{ADMISSION}/{kind}")["items"]
            ]
            assert [name for name in names if name.startswith("kubetls")] == []
