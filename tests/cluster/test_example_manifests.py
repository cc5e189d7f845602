# SPDX-License-Identifier: Apache-2.0
"""`examples/kubernetes`, applied as a user does, to a cluster with KubeTLS installed."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from cluster import binaries
from examples.demo_cluster.cases import call
from examples.demo_cluster.manifests import FOLDER, NAMESPACE
from tests.cluster.installed_world import installed_world
from tests.waiting import until
from webhook.names import VOLUME

WORKLOADS = ["guest", "orders", "web"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A cluster with the control plane, to which the example was applied."""
    folders = (tmp_path_factory.mktemp(name) for name in ("installed", "audit"))
    with installed_world(*folders) as world:
        yield world


def apply(installed, *options):
    """What kubectl says on both outputs."""
    done = subprocess.run(
        [
            *(binaries.find("kubectl"), f"--kubeconfig={installed.control_plane.kubeconfig}"),
            *("apply", "--server-side", "--validate=strict", f"--kustomize={FOLDER}", *options),
        ],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class TestApply:
    def test_dry_run(self, installed):
        """The API server knows each field, and warns of nothing."""
        said = apply(installed, "--dry-run=server")
        assert "Warning" not in said
        rendered = installed.kubectl("kustomize", str(FOLDER))
        objects = [each for each in yaml.safe_load_all(rendered) if each]
        assert said.count("serverside-applied") == len(objects) > len(WORKLOADS) * 2

    def test_again(self, installed):
        """Applying it again changes nothing: no pod is replaced."""
        before = {app: installed.shop.serving(app) for app in WORKLOADS}
        assert "Warning" not in apply(installed)
        assert {app: installed.shop.serving(app) for app in WORKLOADS} == before


class TestPods:
    @pytest.mark.parametrize("app", WORKLOADS)
    def test_identity(self, installed, app):
        """Each pod was injected, and has the identity of its service account."""
        pod = installed.shop.pod(app)
        mounts = pod["spec"]["containers"][0]["volumeMounts"]
        assert VOLUME in [each["name"] for each in mounts]
        found = installed.shop.snapshot_of(pod).svid.spiffe_id
        assert str(found) == f"spiffe://example.org/ns/{NAMESPACE}/sa/{app}"

    def test_calls(self, installed):
        """Web is served without an end, and guest is not."""
        shop = installed.shop
        assert call(shop, shop.snapshot_of(shop.pod("web"))) == "200"
        assert call(shop, shop.snapshot_of(shop.pod("guest"))) == "403"
        before = shop.load()["requests"]
        until(lambda: shop.load()["requests"] > before + 100, timeout=60)
        assert installed.failed() == 0

    @pytest.mark.timeout(180)
    def test_policy_is_followed(self, installed):
        """A policy that is applied is in force in running pods, for guest as well."""
        shop = installed.shop
        guest, pods = shop.snapshot_of(shop.pod("guest")), shop.serving("orders")
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/orders-policy"
        found = installed.api.get(path)
        policy = yaml.safe_load(found["data"]["policy.yaml"])
        policy["policies"][0]["allow"][0]["from"]["serviceAccount"] = ["web", "guest"]
        found["data"]["policy.yaml"] = yaml.safe_dump(policy)
        installed.api.put(path, found)
        installed.kubectl(
            "annotate", "pods", "--all", f"--namespace={NAMESPACE}", "example.org/touched=now"
        )  # the kubelets look at the ConfigMap at once
        until(lambda: {call(shop, guest) for _ in pods} == {"200"}, timeout=150)
        assert shop.serving("orders") == pods
        assert installed.failed() == 0
