# SPDX-License-Identifier: Apache-2.0
"""The installed control plane, end to end: its own manifests, accounts, processes and pods.

Rules:
1. The tests of this module are one walk, in the order of an operator's life: installed, used,
   upgraded, reconfigured, looked over, uninstalled.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import yaml

from cluster import binaries, kubectl
from cluster.exceptions import ApiStatusError
from examples.demo_cluster.manifests import LEGACY, NAMESPACE, PLATFORM
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.audit_log import PARTS, Right, granted, is_used
from tests.cluster.chart import SYSTEM
from tests.cluster.installed_world import installed_world, wait_for_readiness
from tests.waiting import until
from webhook.names import DEFAULT_SIGNER_NAME, VOLUME

pytestmark = pytest.mark.timeout(240)

PREFIX = "kubetls.gauntletwizard.net"
BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
PARTNER = DevelopmentCA("partner.example").bundle
PARTNER_BUNDLE = f"{PREFIX}:partner:acme"
# Used only when something is out of the ordinary, which this walk has not.
RARE = {
    Right("signer", "get", "pods"): "a request whose pod the watch has not shown yet",
    Right("signer", "get", "podcertificaterequests.certificates.k8s.io"): "kubelets of 1.35",
    Right("signer", "get", "configmaps", "kubetls-trust-default"): "no ClusterTrustBundles",
    Right("signer", "update", "configmaps", "kubetls-trust-default"): "no ClusterTrustBundles",
    Right("signer", "update", "configmaps", "kubetls-capabilities"): "an upgrade of the cluster",
    Right("signer", "update", "secrets", "kubetls-webhook-tls"): "its renewal",
    Right("signer", "patch", "events.events.k8s.io"): "the same Event again",
    Right("secret-issuer", "patch", "events.events.k8s.io"): "the same Event again",
    Right("secret-issuer", "create", "events.events.k8s.io"): "a refusal",
    Right("secret-issuer", "list", "configmaps", "kubetls-trust-default"): "no ClusterTrustBundles",
    Right(
        "secret-issuer", "watch", "configmaps", "kubetls-trust-default"
    ): "no ClusterTrustBundles",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The control plane, installed, and the shop of the demonstration."""
    folders = (tmp_path_factory.mktemp(name) for name in ("installed", "audit"))
    with installed_world(*folders) as world:
        yield world


class TestInstalled:
    @pytest.mark.parametrize("part", PARTS)
    def test_parts_are_ready(self, installed, part):
        """Each replica of each part says that it is alive and ready."""
        until(lambda: installed.is_ready(part), timeout=60)
        assert [
            installed.get(name, "/healthz")[0] for name in installed.installation.names(part)
        ] == [200, 200]

    @pytest.mark.parametrize(
        ("part", "metrics"),
        [
            ("injector", ["kubetls_admission_reviews_total", "kubetls_admission_certificate_not"]),
            ("signer", ["kubetls_signer_issued_total", "kubetls_ca_not_after_timestamp_seconds"]),
            ("secret-issuer", ["kubetls_"]),
        ],
    )
    def test_metrics(self, installed, part, metrics):
        """Each part has its metrics; what happened is in them, on one replica or another."""
        texts = [installed.get(name, "/metrics")[1] for name in installed.installation.names(part)]
        for metric in metrics:
            assert any(f"\n{metric}" in text for text in texts)

    def test_namespace_is_restricted(self, installed):
        """The parts run in a namespace that admits restricted pods only."""
        labels = installed.api.get(f"/api/v1/namespaces/{SYSTEM}")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    def test_preflight(self, installed):
        """The preflight, as the signer's own account, finds that nothing is missing."""
        done = _run(installed, "preflight")
        assert done.returncode == 0, done.stdout + done.stderr
        verdicts = [line.split()[0] for line in done.stdout.splitlines()]
        assert set(verdicts) == {"ok"}, done.stdout

    def test_ca_status(self, installed):
        """The signer's account shows the authorities to an operator, and no key."""
        done = _run(installed, "ca", "status")
        assert "active" in done.stdout, done.stderr
        assert "PRIVATE" not in done.stdout


class TestPods:
    def test_sdk_processes_talk(self, installed):
        """Processes that were started from the kubelets' files talk mTLS, and none fails."""
        requests = installed.shop.load()["requests"]
        until(lambda: _load_beyond(installed, requests + 200), timeout=60)
        assert installed.failed() == 0

    @pytest.mark.parametrize("namespace", [NAMESPACE, LEGACY], ids=["pod-certificate", "secret"])
    def test_each_mode(self, installed, namespace):
        """A pod of either mode has an identity of its namespace, as the SDK reads it."""
        created = installed.create(f"single-{namespace}", namespace=namespace)
        with VolumeSource(installed.files(created)) as source:
            found = str(source.snapshot.svid.spiffe_id)
        assert found.startswith(f"spiffe://example.org/ns/{namespace}/sa/")

    def test_new_service_reaches_a_secret(self, installed):
        """In Secret mode, a Service that comes later is in the certificate soon."""
        created = installed.create("named", namespace=LEGACY, labels={"app": "named"})
        folder = installed.files(created)
        body = {
            "metadata": {"name": "named"},
            "spec": {"selector": {"app": "named"}, "ports": [{"port": 443}]},
        }
        installed.api.post(f"/api/v1/namespaces/{LEGACY}/services", body)
        secret = f"/api/v1/namespaces/{LEGACY}/secrets/{_secret_of(created)}"
        before = installed.api.get(secret)["data"]["tls.crt"]
        until(lambda: installed.api.get(secret)["data"]["tls.crt"] != before, timeout=60)
        assert (folder / "tls.key").exists()


class TestRollingRestart:
    def test_nothing_is_lost(self, installed):
        """While signers and injectors are replaced, no admission fails and no request is lost."""
        with _creating(installed) as made:
            installed.roll("injector")
            installed.roll("signer")
        assert made.failures == []
        assert len(made.pods) > 10
        unequipped = [each["metadata"]["name"] for each in made.pods if not _is_injected(each)]
        assert unequipped == []
        for each in made.pods:
            installed.files(each)
        assert installed.failed() == 0

    def test_secret_issuer(self, installed):
        """Secret issuers are replaced, or die and start again under their name, unnoticed."""
        installed.roll("secret-issuer")
        installed.installation.runner.restart(installed.installation.names("secret-issuer")[0])
        until(lambda: installed.is_ready("secret-issuer"), timeout=60)
        for number in range(3):
            installed.files(installed.create(f"after-a-crash-{number}", namespace=LEGACY))

    def test_manifests_again(self, installed):
        """Applying the same manifests again keeps the injector's authority: no gap on upgrades."""
        path = (
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kubetls-injector"
        )
        before = installed.api.get(path)["webhooks"][0]["clientConfig"]
        overlay = installed.control_plane.folder / "installation"
        text = installed.kubectl("kustomize", str(overlay))
        objects = [each for each in yaml.safe_load_all(text) if each]
        for each in objects:
            if each["kind"] == "MutatingWebhookConfiguration":
                # Without a cluster network, the address is the harness's.
                client = each["webhooks"][0]["clientConfig"]
                del client["service"]
                client["url"] = before["url"]
        kubectl.run(
            installed.control_plane.kubeconfig,
            "apply", "--server-side", "--force-conflicts", "--filename=-",
            stdin=yaml.safe_dump_all(objects),
        )  # fmt: skip
        for part in PARTS:
            wait_for_readiness(installed.control_plane, part)
        assert installed.api.get(path)["webhooks"][0]["clientConfig"] == before
        assert _is_injected(installed.create("after-an-upgrade"))


class TestConfiguration:
    def test_partner_reaches_pods(self, installed):
        """A partner that is added is in the volume of the next pod that asks for it."""
        installed.installation.configure(PLATFORM + _partner())
        until(lambda: installed.api.exists(f"{BUNDLES}/{PARTNER_BUNDLE}"), timeout=90)
        installed.hurry()
        names = (f"with-partner-{number}" for number in range(1000))
        created = until(lambda: _created_with_partner(installed, next(names)), timeout=120)
        folder = installed.files(created)
        with VolumeSource(folder) as source:
            assert source.snapshot.bundles[PARTNER.trust_domain].authorities

    def test_removed_partner_leaves(self, installed):
        """A partner that is removed loses its bundle, and nobody else does."""
        installed.installation.configure(PLATFORM)
        until(lambda: not installed.api.exists(f"{BUNDLES}/{PARTNER_BUNDLE}"), timeout=90)
        own = f"{DEFAULT_SIGNER_NAME.replace('/', ':')}:example.org"
        assert installed.api.exists(f"{BUNDLES}/{own}")


class TestTrust:
    def test_foreign_edit_is_reverted(self, installed):
        """A root that somebody adds to our bundle leaves it again, at once."""
        path = f"{BUNDLES}/{DEFAULT_SIGNER_NAME.replace('/', ':')}:example.org"
        found = installed.api.get(path)
        before = found["spec"]["trustBundle"]
        found["spec"]["trustBundle"] += PARTNER.to_pem().decode()
        installed.api.put(path, found)
        until(lambda: installed.api.get(path)["spec"]["trustBundle"] == before, timeout=30)


class TestRights:
    def test_nothing_was_forbidden(self, installed):
        """In all of this walk the API server refused no part anything: no right is missing."""
        assert installed.audit.refused() == []

    def test_injector_asked_nothing(self, installed):
        """The injector never spoke to the API server."""
        assert not [each for each in installed.audit.done() if each[0] == "injector"]

    def test_no_right_is_unused(self, installed):
        """Each right was used in this walk, or is for a rare case that is named."""
        text = installed.kubectl("kustomize", str(installed.control_plane.folder / "installation"))
        roles = [each for each in yaml.safe_load_all(text) if each["kind"] in _ROLES]
        rights = granted(roles)
        done = installed.audit.done()
        assert RARE.keys() <= rights
        assert {each for each in rights if not is_used(each, done)} - RARE.keys() == set()


class TestLogs:
    def test_nothing_secret(self, installed):
        """No key, certificate or token is in any part's log."""
        logs = [*(installed.control_plane.folder / "pods").glob("kubetls-*.log")]
        assert len(logs) >= 10
        for log in logs:
            text = log.read_text(errors="replace")
            assert "PRIVATE KEY" not in text
            assert "BEGIN" not in text
            assert "eyJ" not in text

    def test_no_tracebacks(self, installed):
        """No part stumbled."""
        for log in (installed.control_plane.folder / "pods").glob("kubetls-*.log"):
            assert "Traceback" not in log.read_text(errors="replace"), log.name


class TestUninstalled:
    def test_running_pods_are_left_alone(self, installed):
        """When all is removed, running pods go on, and new ones start without certificates."""
        created = installed.create("before-the-end")
        folder = installed.files(created)
        overlay = installed.control_plane.folder / "installation"
        before = installed.shop.load()
        installed.kubectl(
            "delete", "mutatingwebhookconfiguration", "kubetls-injector", "--ignore-not-found"
        )
        installed.kubectl("delete", f"--kustomize={overlay}", "--wait=false", "--ignore-not-found")
        until(lambda: not installed.installation.runner.pods, timeout=90)
        until(lambda: _load_beyond(installed, before["requests"] + 200), timeout=60)
        assert installed.failed() == 0
        with VolumeSource(folder) as source:
            assert source.snapshot.svid.spiffe_id
        plain = installed.create("after-the-end")
        assert not _is_injected(plain)
        name = f"{DEFAULT_SIGNER_NAME.replace('/', ':')}:example.org"
        assert installed.api.exists(f"{BUNDLES}/{name}"), "kubelets need it as long as pods run"


_ROLES = {"Role", "ClusterRole"}


class _Made:
    """Pods that were created one after the other, and what failed."""

    def __init__(self):
        self.pods = []
        self.failures = []


@contextmanager
def _creating(installed):
    """Create a pod each second or so, until the block ends."""
    made, stop = _Made(), threading.Event()

    def create():
        number = 0
        while not stop.wait(0.8):
            number += 1
            try:
                made.pods.append(installed.create(f"rolling-{number}"))
            except (ApiStatusError, OSError) as err:
                made.failures.append(str(err))

    thread = threading.Thread(target=create)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join(30)


def _run(installed, *command):
    """Run a command of the control plane with the signer's rights."""
    platform = installed.control_plane.folder / "platform-of-operator.yaml"
    platform.write_text(PLATFORM)
    kubeconfig = installed.control_plane.kubeconfig_of_service_account(SYSTEM, "kubetls-signer")
    first, *rest = command
    return subprocess.run(
        [sys.executable, "-m", "webhook", first, "--config", str(platform), *rest],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=binaries.ROOT,
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": SYSTEM},
    )


def _is_injected(created):
    return VOLUME in [each["name"] for each in created["spec"]["volumes"]]


def _secret_of(created):
    return created["metadata"]["annotations"][f"{PREFIX}/secret"]


def _partner():
    document = {
        "name": "acme",
        "trustDomain": str(PARTNER.trust_domain),
        "namespaces": [NAMESPACE],
        "bundle": PARTNER.to_pem().decode(),
    }
    return yaml.safe_dump({"partners": [document]})


def _created_with_partner(installed, name):
    """A pod that asks for the partner, once the injectors know it."""
    try:
        return installed.create(name, annotations={f"{PREFIX}/partners": "acme"})
    except ApiStatusError:
        return None


def _load_beyond(installed, requests):
    load = installed.shop.load()
    return load if load["requests"] > requests else None
