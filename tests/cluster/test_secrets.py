# SPDX-License-Identifier: Apache-2.0
"""Secret mode against the real API server, with no rights but those of the manifests."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import sys

import pytest
from cryptography import x509

from cluster import ApiStatusError, ControlPlane, HollowNode
from cluster.ports import free_ports
from cluster.process import Process
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.pods import pod
from tests.cluster.signing_world import ROOT, SigningWorld, secret_pod, volume
from tests.waiting import until

WEB = "spiffe://example.org/ns/shop/sa/default"


def is_listening(port):
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def new_name():
    """A name as the injector makes one."""
    return f"kubetls-{secrets.token_hex(10)}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cluster with a signer; the secret issuer may write in `shop`, and not in `closed`."""
    folder = tmp_path_factory.mktemp("secrets")
    with (
        ControlPlane(folder) as control_plane,
        HollowNode(control_plane, "node-1") as node,
    ):
        world = SigningWorld(control_plane, {node.name: node})
        world.install()
        for name in ("shop", "closed", "foreign"):
            control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            until(lambda account=account: control_plane.api.exists(account))
        for name in ("shop", "foreign"):
            world.allow_secrets(name)
        with world.replica():
            yield world


@pytest.fixture(scope="class")
def issuer(world):
    """One replica of the secret issuer."""
    with world.replica("secrets", "issuer-1") as process:
        yield process


def stored(world, name, namespace="shop"):
    """A Secret, or None."""
    try:
        return world.api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except ApiStatusError:
        return None


def leaf_in(secret):
    """The leaf in a Secret."""
    return x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))


def dns_names(secret):
    """The DNS names of the leaf in a Secret."""
    found = leaf_in(secret).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


def told(world, pod, text):
    """Events of the secret issuer about a pod, with a text in their note."""
    return [
        event
        for event in world.events("shop", "SecretNotWritten")
        if event["regarding"]["uid"] == pod["metadata"]["uid"] and text in event["note"]
    ]


def may_write_anything(world):
    """Whether no policy holds the secret issuer's account any more."""
    account = "system:serviceaccount:kubetls-system:kubetls-secret-issuer"
    try:
        world.kubectl(
            *("create", "secret", "generic", "anything", "-n", "shop"),
            *("--dry-run=server", f"--as={account}"),
        )
    except subprocess.CalledProcessError:
        return False
    return True


@pytest.mark.usefixtures("issuer")
class TestDelivery:
    def test_pod_gets_its_files(self, world):
        """The Secret appears after the pod, owned by it, and the SDK reads the volume."""
        name = new_name()
        created = world.create_pod("shop", secret_pod("web", name))
        with VolumeSource(world.files(created, kind="secret")) as source:
            svid = source.snapshot.svid
        assert str(svid.spiffe_id) == "spiffe://example.org/ns/shop/sa/default"
        secret = stored(world, name)
        assert secret["type"] == "kubetls.gauntletwizard.net/workload"
        (owner,) = secret["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Pod", created["metadata"]["uid"])

    def test_speaks_with_pods_of_the_other_mode(self, world):
        """A pod with a Secret and one with a pod certificate speak mTLS, and know each other."""
        first = world.create_pod("shop", secret_pod("caller", new_name()))
        second = world.create_pod("shop", pod("callee", volumes=[volume()]))
        places = world.files(first, kind="secret"), world.files(second)
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "kubetls_sdk", "serve", "tests.cluster.echo:app"]
        server = Process(
            "echo",
            [*command, "--no-policy", "--port", str(port), "--volume", str(places[1])],
            log=world.control_plane.folder / "echo.log",
            environment={"PYTHONPATH": str(ROOT)},
        )
        server.start()
        try:
            until(lambda: is_listening(port), timeout=20)
            done = subprocess.run(
                [sys.executable, "-m", "tests.cluster.echo", f"https://127.0.0.1:{port}/", WEB],
                env={**os.environ, "KUBETLS_DIR": str(places[0]), "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=30,
            )
        finally:
            server.end()
        assert (done.stdout.strip(), done.returncode) == (WEB, 0), done.stderr

    def test_new_service(self, world):
        """A Service that is created later is in the certificate at once."""
        name = new_name()
        world.create_pod("shop", secret_pod("late", name))
        until(lambda: stored(world, name), timeout=30)
        world.create_service("shop", "afterwards", "late")
        expected = ["afterwards.shop.svc", "afterwards.shop.svc.cluster.local"]
        until(lambda: dns_names(stored(world, name)) == expected, timeout=15)

    def test_cleaned_up_with_the_pod(self, world):
        """The garbage collector deletes the Secret with its pod."""
        name = new_name()
        created = world.create_pod("shop", secret_pod("short", name))
        until(lambda: stored(world, name), timeout=30)
        world.kubectl(
            "delete",
            "pod",
            "-n",
            "shop",
            created["metadata"]["name"],
            "--grace-period=0",
            "--force",
        )
        until(lambda: stored(world, name) is None, timeout=30)

    def test_requests_are_cleared_away(self, world):
        """Signing requests do not pile up."""
        path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
        until(lambda: not world.api.get(path)["items"], timeout=15)

    def test_pod_without_injection(self, world):
        """A pod whose volume and annotation differ gets no Secret."""
        body = secret_pod("forged", new_name())
        other = body["spec"]["volumes"][0]["secret"]["secretName"] = new_name()
        created = world.create_pod("shop", body)
        uid = created["metadata"]["uid"]

        def noted():
            return [each["regarding"]["uid"] for each in world.events("shop", "SecretNotWritten")]

        until(lambda: uid in noted(), timeout=30)
        assert stored(world, other) is None

    def test_namespace_that_may_not(self, world):
        """A pod cannot choose Secret mode where the platform does not allow it."""
        name = new_name()
        world.create_pod("foreign", secret_pod("web", name))
        (event,) = until(lambda: world.events("foreign", "SecretNotWritten"), timeout=30)
        assert "ModeNotAllowed" in event["note"]
        assert stored(world, name, "foreign") is None

    def test_namespace_without_binding(self, world):
        """Without the platform's RoleBinding there, nothing is written in a namespace."""
        name = new_name()
        world.create_pod("closed", secret_pod("web", name))
        (event,) = until(lambda: world.events("closed", "SecretNotWritten"), timeout=30)
        assert "Forbidden" in event["note"]


@pytest.mark.usefixtures("issuer")
class TestForeignSecrets:
    @pytest.mark.parametrize("type_", ["Opaque", "kubetls.gauntletwizard.net/workload"])
    def test_never_overwritten(self, world, type_):
        """A Secret that is there already and not the pod's is left as it is, and told of."""
        name = new_name()
        other = world.create_pod("shop", secret_pod(f"owner-{name}", new_name()))
        owner = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": other["metadata"]["name"],
            "uid": other["metadata"]["uid"],
        }
        body = {
            "metadata": {"name": name, "ownerReferences": [owner]},
            "type": type_,
            "data": {"precious": "eA=="},
        }
        before = world.api.post("/api/v1/namespaces/shop/secrets", body)
        created = world.create_pod("shop", secret_pod(f"victim-{name}", name))

        until(lambda: told(world, created, "another owner"), timeout=30)
        assert stored(world, name) == before


class TestRestart:
    def test_another_replica_takes_over(self, world):
        """A replica that knows nothing of a pod's Secret proves it, and writes it anew."""
        name = new_name()
        with world.replica("secrets", "first") as first:
            world.create_pod("shop", secret_pod("kept", name))
            before = until(lambda: stored(world, name), timeout=40)
            first.end()
        with world.replica("secrets", "second"):
            world.create_service("shop", "forces-a-change", "kept")
            until(lambda: len(dns_names(stored(world, name))) == 2, timeout=40)
        after = stored(world, name)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert leaf_in(after).public_key() != leaf_in(before).public_key()

    def test_nothing_is_overwritten_without_the_policy(self, world):
        """Where our policy is not in force, a Secret that is there is not touched."""
        name = new_name()
        binding = json.loads(
            world.kubectl(
                "get", "validatingadmissionpolicybinding", "kubetls-secret-issuer", "-o", "json"
            )
        )
        with world.replica("secrets", "third") as third:
            created = world.create_pod("shop", secret_pod("unsafe", name))
            before = until(lambda: stored(world, name), timeout=40)
            third.end()
        world.kubectl("delete", "validatingadmissionpolicybinding", "kubetls-secret-issuer")
        until(lambda: may_write_anything(world), timeout=30)
        try:
            with world.replica("secrets", "fourth"):
                world.create_service("shop", "another-change", "unsafe")
                until(lambda: told(world, created, "ValidatingAdmissionPolicy"), timeout=40)
            assert stored(world, name) == before
        finally:
            binding["metadata"] = {"name": binding["metadata"]["name"]}
            world.kubectl("apply", "-f", "-", stdin=json.dumps(binding))
