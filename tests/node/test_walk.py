# SPDX-License-Identifier: Apache-2.0
"""The control plane's main job in real pods: its image, its manifests, and what pods get.

Rules:
1. The tests of this module are one walk, in the order of an operator's life: installed, used,
   upgraded, a root replaced, the Secret mode; each one says what it needs of the ones before.
2. Commands for operators are the ones of the documentation, run in the pods that it names.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from cluster.overlay import NAMESPACE as SYSTEM
from examples.demo_cluster.manifests import LEGACY
from tests.node import manifests
from tests.node.manifests import NAMESPACE
from tests.node.real_shop import IDENTITIES, RealShop
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

PARTS = ("injector", "signer", "secret-issuer")
ROOT_IS_WRITABLE = "import os; print(os.getuid(), os.getgid(), os.access('/tmp', os.W_OK))"
MOUNTS = "print(*(l for l in open('/proc/mounts') if '/workload-spiffe-credentials ' in l))"
ANONYMOUS = """
import socket, ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with context.wrap_socket(socket.create_connection(("orders.shop.svc", 8443), 10)) as link:
    try:
        link.sendall(b"GET /orders/1 HTTP/1.1\\r\\nHost: orders.shop.svc\\r\\n\\r\\n")
        print("answered" if link.recv(100) else "refused")
    except OSError:
        print("refused")
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealShop]:
    """The cluster of this walk."""
    with RealShop(tmp_path_factory.mktemp("walk")) as running:
        yield running


def certificates(file: Path) -> list[x509.Certificate]:
    """The certificates in a file."""
    return x509.load_pem_x509_certificates(file.read_bytes())


def roots(folder: Path) -> frozenset[x509.Certificate]:
    """The roots of our own trust domain in a volume."""
    return frozenset(certificates(folder / "example.org.trust-bundle.pem"))


def names(folder: Path, file: str = "credential-bundle.pem") -> tuple[str, list[str]]:
    """SPIFFE ID and DNS names of the certificate in a volume."""
    leaf = certificates(folder / file)[0]
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = found.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0], found.get_values_for_type(x509.DNSName)


def owner(file: Path) -> str:
    """Mode, user and group of a file."""
    found = file.stat()
    return f"{stat.filemode(found.st_mode)} {found.st_uid} {found.st_gid}"


class TestInstallation:
    """`kubectl apply -k` of our manifests, and what comes of it."""

    @pytest.mark.parametrize("part", PARTS)
    def test_runs(self, shop: RealShop, part: str) -> None:
        """Each part has two pods, ready, never restarted, with no rights and nowhere to write."""
        pods = shop.installation.pods(part)
        states = [each["status"]["containerStatuses"][0] for each in pods]
        assert [(each["ready"], each["restartCount"]) for each in states] == [(True, 0)] * 2
        assert shop.python(pods[0], ROOT_IS_WRITABLE) == "65532 65532 False"

    def test_preflight(self, shop: RealShop) -> None:
        """The command that the documentation names says, in a signer's pod, that all is well."""
        printed = shop.kubectl(
            "exec", f"--namespace={SYSTEM}", "deploy/kubetls-signer",
            "--", "python3", "-m", "webhook", "preflight",
        )  # fmt: skip
        assert {line.split()[0] for line in printed.splitlines()} == {"ok"}

    def test_keys_of_the_injector(self, shop: RealShop) -> None:
        """Its pods have no token of the API server, and two kinds of volumes: see the manifests."""
        pod = shop.installation.pods("injector")[0]
        kinds = {kind for each in pod["spec"]["volumes"] for kind in each if kind != "name"}
        assert kinds == {"configMap", "secret"}
        list_tokens = "import os; print(os.path.exists('/var/run/secrets/kubernetes.io'))"
        assert shop.python(pod, list_tokens) == "False"

    @pytest.mark.parametrize("part", ["injector", "signer"])
    def test_replaced_while_pods_are_created(self, shop: RealShop, part: str) -> None:
        """An upgrade of a part refuses no pod, and each pod gets its volume."""
        before = {each["metadata"]["name"] for each in shop.installation.pods(part)}
        with shop.admissions() as refused:
            shop.installation.roll(part)
        assert refused == []
        until(
            lambda: not before & {p["metadata"]["name"] for p in shop.installation.pods(part)},
            timeout=60,
        )


class TestKey:
    """Whose the file with the key is, where it is, and where it is not."""

    @pytest.mark.parametrize(
        ("security", "expected"),
        [
            pytest.param({"runAsUser": 10001}, "-rw------- 10001 0", id="user"),
            pytest.param({"fsGroup": 2000}, "-rw-r----- 0 2000", id="group"),
            pytest.param({"runAsUser": 10001, "fsGroup": 2000}, "-rw-r----- 10001 2000", id="both"),
            pytest.param({}, "-rw-r--r-- 0 0", id="user-of-the-image"),
        ],
    )
    def test_owner(self, shop: RealShop, security: dict[str, int], expected: str) -> None:
        """Nobody but the pod's user or group can read it, where the pod names one."""
        name = f"owner-{'-'.join(security).lower() or 'none'}"
        shop.apply(manifests.idle(name, securityContext=security))
        file = shop.files(shop.running(name)) / "credential-bundle.pem"
        assert owner(file) == expected
        shop.kubectl("delete", "pod", f"--namespace={NAMESPACE}", name, "--wait=false")

    def test_memory_only(self, shop: RealShop) -> None:
        """It is in a tmpfs, read only for the pod, in no file on the disk, and in no Secret."""
        pod = shop.running("orders")
        assert shop.python(pod, MOUNTS).startswith("tmpfs /run/secrets/workload-spiffe-credentials")
        assert " ro," in shop.python(pod, MOUNTS)
        lines = (shop.files(pod) / "credential-bundle.pem").read_bytes().splitlines()
        key = lines[2]  # A line of base64 of the key: any copy of the key has it.
        assert lines[0].endswith(b" PRIVATE KEY-----")
        folder = shop.control_plane.folder
        assert holding(folder, key) == []
        secrets = shop.api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets")["items"]
        assert secrets == []


def holding(folder: Path, content: bytes) -> list[Path]:
    """The files with some content on the cluster's disk, etcd's and the kubelet's files too.

    Those of images are left out; what vanishes meanwhile does not hold it any more.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith("io.containerd.")]
        for path in (Path(parent, each) for each in files):
            with suppress(FileNotFoundError):
                if path.is_file() and content in path.read_bytes():
                    found.append(path)
    return found


class TestCalls:
    """Who gets in with what the pods have got."""

    def test_identities(self, shop: RealShop) -> None:
        """Each pod has its account's identity; that of orders has the names of its Service."""
        service = ["orders.shop.svc", "orders.shop.svc.cluster.local"]
        assert names(shop.files(shop.running("orders"))) == (f"{IDENTITIES}/orders", service)
        assert names(shop.files(shop.running("web"))) == (f"{IDENTITIES}/web", [])

    def test_allowed(self, shop: RealShop) -> None:
        """The service web gets its orders, again and again."""
        assert shop.call(shop.running("web")) == "200"
        shop.check_load()

    @pytest.mark.parametrize(
        ("app", "server", "outcome"),
        [
            pytest.param("guest", "orders", "403", id="not-in-the-policy"),
            pytest.param("web", "guest", "ConnectError", id="another-server-expected"),
        ],
    )
    def test_refused(self, shop: RealShop, app: str, server: str, outcome: str) -> None:
        """The policy refuses the one, the client refuses the other."""
        assert shop.call(shop.running(app), server=server) == outcome

    def test_no_certificate(self, shop: RealShop) -> None:
        """Whoever presents none is refused, without any answer."""
        assert shop.python(shop.running("guest"), ANONYMOUS) == "refused"

    def test_doctor(self, shop: RealShop) -> None:
        """The documented command finds no fault in a pod's volume."""
        printed = shop.kubectl(
            "exec", f"--namespace={NAMESPACE}", "deploy/orders", "--", "kubetls", "doctor", "--json"
        )
        assert json.loads(printed)["findings"] == []

    def test_rolling_restart(self, shop: RealShop) -> None:
        """All pods of orders are replaced, and no request of web fails."""
        before = {each["metadata"]["name"] for each in shop.pods("orders")}
        shop.roll("orders")
        assert not before & {each["metadata"]["name"] for each in shop.pods("orders")}
        until(lambda: not before & shop.all_names("orders"), timeout=60)
        shop.check_load()


class TestRotation:
    """A root is replaced under running pods."""

    @pytest.mark.timeout(600)
    def test_new_root(self, shop: RealShop) -> None:
        """Running pods have it before it signs; certificates under it are good; nothing fails."""
        web = shop.running("web")
        [old] = roots(shop.files(web))
        order(shop, "rotate")
        running = [web, *shop.pods("orders")]
        until(lambda: all(len(roots(shop.files(each))) == 2 for each in running), timeout=170)
        [new] = roots(shop.files(web)) - {old}
        until(lambda: signing(shop) == new.fingerprint(SHA256()).hex(), timeout=170)
        shop.roll("orders")
        for pod in shop.pods("orders"):
            certificates(shop.files(pod) / "credential-bundle.pem")[0].verify_directly_issued_by(
                new
            )
        assert shop.call(web) == "200"
        shop.check_load()


def order(shop: RealShop, *arguments: str) -> str:
    """Run `ca` in a signer's pod, as the documentation says."""
    place = (f"--namespace={SYSTEM}", "deploy/kubetls-signer")
    return shop.kubectl("exec", *place, "--", "python3", "-m", "webhook", "ca", *arguments)


def signing(shop: RealShop) -> str:
    """The fingerprint of the authority that signs."""
    status = json.loads(order(shop, "status", "--json"))
    return next(e["fingerprint"] for e in status["authorities"] if e["state"] == "active")


class TestSecretMode:
    """A namespace whose pods get Secrets."""

    def test_walk(self, shop: RealShop) -> None:
        """A pod has key and certificate from a Secret, in memory, and is known by them."""
        hosts = manifests.hosts(shop.orders_address)
        shop.apply(manifests.idle("old", namespace=LEGACY, hostAliases=hosts))
        pod = shop.running("old", namespace=LEGACY)
        folder = shop.files(pod, kind="secret")
        assert {each.name for each in folder.glob("[!.]*")} == {"tls.key", "tls.crt", "ca.crt"}
        assert shop.python(pod, MOUNTS).startswith("tmpfs /run/secrets/workload-spiffe-credentials")
        assert names(folder, "tls.crt") == ("spiffe://example.org/ns/legacy/sa/default", [])
        assert shop.call(pod) == "403"

    def test_owner(self, shop: RealShop) -> None:
        """Everybody in the pod can read the key: the kubelet gives Secrets to no user."""
        security = {"runAsUser": 10001, "fsGroup": 2000}
        shop.apply(manifests.idle("owned", namespace=LEGACY, securityContext=security))
        pod = shop.running("owned", namespace=LEGACY)
        assert owner(shop.files(pod, kind="secret") / "tls.key") == "-rw-r--r-- 0 2000"

    def test_refresh(self, shop: RealShop) -> None:
        """A new Service is in the running pod's certificate once the kubelet has written it."""
        folder = shop.files(shop.running("old", namespace=LEGACY), kind="secret")
        key = (folder / "tls.key").read_bytes()
        service = {"metadata": {"name": "old"}, "spec": {"ports": [{"port": 443}]}}
        service["spec"]["selector"] = {"app": "old"}
        shop.api.post(f"/api/v1/namespaces/{LEGACY}/services", service)
        until(lambda: "old.legacy.svc" in names(folder, "tls.crt")[1], timeout=170)
        assert (folder / "tls.key").read_bytes() != key
        assert shop.call(shop.running("old", namespace=LEGACY)) == "403"
