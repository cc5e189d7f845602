# SPDX-License-Identifier: Apache-2.0
"""The mode `csi` in real pods: mounts and memory of the node, and whatever is restarted under them.

Rules:
1. The tests of this module are one walk; the last one reboots the node.
2. The service web calls orders without a pause, and no call may fail until then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from cluster.overlay import NodeDriver
from tests.node import manifests
from tests.node.manifests import NAMESPACE
from tests.node.real_shop import IDENTITIES, RealShop
from tests.node.test_walk import MOUNTS, certificates, holding, names, owner
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org, propagation: 60s}
namespaces:
  - {names: [shop], zones: [default], modes: [csi], lifetime: {default: 1h, maximum: 24h}}
"""
CREDENTIALS = "/run/secrets/workload-spiffe-credentials/credential-bundle.pem"
READ = f"""
import os, sys
try:
    print(os.getuid(), "BEGIN PRIVATE KEY" in open("{CREDENTIALS}").read())
except OSError as err:
    print(os.getuid(), err.strerror)
"""
WRITE = f"""
import os
try:
    os.unlink("{CREDENTIALS}")
except OSError as err:
    print(err.strerror)
"""
ROOT_IS_READ_ONLY = "import os; print(bool(os.statvfs('/').f_flag & os.ST_RDONLY))"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealShop]:
    """The cluster of this walk."""
    folder = tmp_path_factory.mktemp("csi")
    with RealShop(folder, platform=PLATFORM, driver=NodeDriver()) as running:
        yield running


def files(shop: RealShop, pod: dict[str, Any]) -> Path:
    """The folder of a pod's credentials, as seen from within the node."""
    return shop.files(pod, kind="csi")


def mounts(shop: RealShop, pod: dict[str, Any]) -> list[str]:
    """The node's mounts that are of a pod's credentials."""
    uid = pod["metadata"]["uid"]
    return [line for line in shop.node.mounts() if f"/{uid}/" in line and "~csi/" in line]


def homes(shop: RealShop) -> list[str]:
    """What the driver keeps: a folder, with a tmpfs of its own, for each volume."""
    lines = [line.split()[4] for line in shop.node.mounts() if " - tmpfs kubetls-csi-" in line]
    return sorted({line for line in lines if line.startswith("/var/lib/kubetls/")})


def driver(shop: RealShop) -> dict[str, Any]:
    """The driver's only pod."""
    [pod] = shop.installation.pods("node")
    return pod


def state(pod: dict[str, Any]) -> dict[str, Any]:
    """The status of a pod's only container."""
    return pod["status"]["containerStatuses"][0]


def kill_driver(shop: RealShop) -> None:
    """Kill the driver's processes, and wait until the kubelet has started it again."""
    before = state(driver(shop))
    shop.node.kill(before["containerID"])

    def is_back() -> bool:
        now = state(driver(shop))
        return now["restartCount"] > before["restartCount"] and now["ready"]

    until(is_back, timeout=120)


class TestDriver:
    def test_runs(self, shop: RealShop) -> None:
        """It is ready, was never restarted, and cannot write to its image."""
        found = state(driver(shop))
        assert (found["ready"], found["restartCount"]) == (True, 0)
        assert shop.python(driver(shop), ROOT_IS_READ_ONLY) == "True"

    def test_preflight(self, shop: RealShop) -> None:
        """The command that the documentation names sees it on each node."""
        printed = shop.kubectl(
            "exec", "--namespace=kubetls-system", "deploy/kubetls-signer",
            "--", "python3", "-m", "webhook", "preflight",
        )  # fmt: skip
        assert {line.split()[0] for line in printed.splitlines()} == {"ok"}


class TestVolume:
    @pytest.mark.parametrize(
        ("security", "expected", "user"),
        [
            pytest.param({"runAsUser": 10001}, "-rw-r--r-- 0 0", 10001, id="user"),
            pytest.param({"fsGroup": 2000}, "-rw-r----- 0 2000", 65532, id="group"),
            pytest.param(
                {"runAsUser": 10001, "fsGroup": 2000}, "-rw-r----- 0 2000", 10001, id="both"
            ),
            pytest.param({}, "-rw-r--r-- 0 0", 65532, id="user-of-the-image"),
        ],
    )
    def test_owner(
        self, shop: RealShop, security: dict[str, int], expected: str, user: int
    ) -> None:
        """The pod's user reads it, by its group where the pod names one; nobody can write."""
        name = f"owner-{'-'.join(security).lower() or 'none'}"
        shop.apply(manifests.idle(name, securityContext=security))
        pod = shop.running(name)
        assert owner(files(shop, pod) / "credential-bundle.pem") == expected
        assert shop.python(pod, READ) == f"{user} True"
        assert shop.python(pod, WRITE) == "Read-only file system"
        shop.kubectl("delete", "pod", f"--namespace={NAMESPACE}", name, "--wait=false")

    def test_memory_only(self, shop: RealShop) -> None:
        """It is in a tmpfs, read only for the pod, in no file on the disk, and in no Secret."""
        pod = shop.running("orders")
        shown = shop.python(pod, MOUNTS)
        assert shown.startswith("kubetls-csi-")
        assert shown.split()[2] == "tmpfs"
        assert "ro" in shown.split()[3].split(",")
        [line] = mounts(shop, pod)
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))
        lines = (files(shop, pod) / "credential-bundle.pem").read_bytes().splitlines()
        assert lines[0].endswith(b" PRIVATE KEY-----")
        folder = shop.control_plane.folder
        assert holding(folder, lines[2]) == []
        secrets = shop.api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets")["items"]
        assert secrets == []

    def test_end(self, shop: RealShop) -> None:
        """With the pod go its mounts, its memory and its folder."""
        shop.apply(manifests.idle("ending"))
        pod = shop.running("ending")
        [home] = [each for each in homes(shop) if is_of(shop, each, pod)]
        assert len(mounts(shop, pod)) == 1
        shop.kubectl("delete", "pod", f"--namespace={NAMESPACE}", "ending", "--wait=false")
        until(lambda: mounts(shop, pod) == [], timeout=90)
        until(lambda: home not in homes(shop), timeout=30)
        assert not shop.node.as_seen(home).exists()


def is_of(shop: RealShop, home: str, pod: dict[str, Any]) -> bool:
    """Whether a folder of the driver has the volume of a pod."""
    return pod["metadata"]["uid"] in (shop.node.as_seen(home) / "state.json").read_text()


class TestCalls:
    def test_identities(self, shop: RealShop) -> None:
        """Each pod has its account's identity; that of orders has the names of its Service."""
        service = ["orders.shop.svc", "orders.shop.svc.cluster.local"]
        assert names(files(shop, shop.running("orders"))) == (f"{IDENTITIES}/orders", service)
        assert names(files(shop, shop.running("web"))) == (f"{IDENTITIES}/web", [])

    def test_allowed(self, shop: RealShop) -> None:
        """The service web gets its orders; whoever is not in the policy does not."""
        assert shop.call(shop.running("web")) == "200"
        assert shop.call(shop.running("guest")) == "403"
        shop.check_load()


class TestRestart:
    """Whatever is restarted, pods keep what they have."""

    def test_of_the_driver(self, shop: RealShop) -> None:
        """Killed and started again, it has its volumes, and writes none of them."""
        pods = [shop.running("web"), *shop.pods("orders")]
        held = [os.readlink(files(shop, each) / "..data") for each in pods]
        kept = homes(shop)
        kill_driver(shop)
        assert [os.readlink(files(shop, each) / "..data") for each in pods] == held
        assert homes(shop) == kept
        shop.check_load()

    def test_token_of_the_kubelet(self, shop: RealShop) -> None:
        """The kubelet comes again with a fresh token, by which the new driver renews at once."""
        service = {"metadata": {"name": "late"}, "spec": {"ports": [{"port": 443}]}}
        service["spec"]["selector"] = {"app": "guest"}
        shop.api.post(f"/api/v1/namespaces/{NAMESPACE}/services", service)
        folder = files(shop, shop.running("guest"))
        until(lambda: "late.shop.svc" in names(folder)[1], timeout=200)

    def test_of_the_kubelet(self, shop: RealShop) -> None:
        """It finds the volumes of before, and makes and removes others."""
        shop.apply(manifests.idle("ending"))
        ending, web = shop.running("ending"), shop.running("web")
        held = os.readlink(files(shop, web) / "..data")
        shop.node.restart_kubelet()
        shop.apply(manifests.idle("starting"))
        assert names(files(shop, shop.running("starting")))[0] == f"{IDENTITIES}/default"
        shop.kubectl("delete", "pod", f"--namespace={NAMESPACE}", "ending", "--wait=false")
        until(lambda: mounts(shop, ending) == [], timeout=120)
        assert os.readlink(files(shop, web) / "..data") == held
        shop.check_load()

    def test_of_the_daemon_set(self, shop: RealShop) -> None:
        """Replaced as by an upgrade, the driver is taken over by the next pod."""
        web = shop.running("web")
        held = os.readlink(files(shop, web) / "..data")
        shop.installation.roll("node")
        assert os.readlink(files(shop, web) / "..data") == held
        assert shop.call(web) == "200"
        shop.check_load()


class TestReboot:
    def test_all_is_made_anew(self, shop: RealShop) -> None:
        """Memory is gone; the driver makes new keys for the pods that are started again."""
        web = shop.running("web")
        before = key(shop, web)
        shop.node.reboot()
        until(lambda: is_made(shop, web), timeout=200)
        assert key(shop, web) != before
        assert names(files(shop, web)) == (f"{IDENTITIES}/web", [])
        kept = [each for each in homes(shop) if is_of(shop, each, web)]
        assert len(kept) == 1
        assert len(mounts(shop, web)) == 1


def is_made(shop: RealShop, pod: dict[str, Any]) -> bool:
    return (files(shop, pod) / "..data").exists()


def key(shop: RealShop, pod: dict[str, Any]) -> bytes:
    """The public key of a pod's certificate."""
    leaf = certificates(files(shop, pod) / "credential-bundle.pem")[0]
    return leaf.public_key().public_numbers().x.to_bytes(32)
