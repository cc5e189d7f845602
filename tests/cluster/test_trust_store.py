# SPDX-License-Identifier: Apache-2.0
"""Pods that believe their zone in place of the web: what the real API server and kubelet make."""

from __future__ import annotations

import pytest

from cluster.exceptions import ApiStatusError
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.spiffe_id import TrustDomain
from tests.cluster.trust_store_world import NAMESPACE, store_world
from tests.waiting import until
from tests.webhook.injection.world import (
    ENVIRONMENT,
    MOUNT,
    STORE_ENVIRONMENT,
    STORE_FILES,
    STORE_MOUNTS,
    store_volume,
)

pytestmark = pytest.mark.timeout(400)

DOMAIN = TrustDomain.parse("example.org")
STORE = "kubetls-trust-store"
KUBELET_SECONDS = 150
"""A kubelet looks at a pod's volumes about once a minute, and later on a busy machine."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with store_world(tmp_path_factory.mktemp("trust-store")) as world:
        yield world


@pytest.fixture(scope="module")
def asking(world):
    """A pod with the annotation."""
    return world.make("asking", trust_store="internal")


@pytest.fixture(scope="module")
def silent(world):
    """A pod without it, with a certificate for `silent.shop.svc`."""
    return world.make("silent")


def volumes(pod):
    return {each["name"]: each for each in pod["spec"]["volumes"]}


def our_mounts(container):
    return [each for each in container["volumeMounts"] if each["name"].startswith("kubetls")]


def containers(pod):
    return pod["spec"]["initContainers"] + pod["spec"]["containers"]


def bundle_of(text):
    """The authorities, in whatever order: the kubelet shuffles them."""
    return TrustBundle.from_pem(DOMAIN, text.encode())


def has_everywhere(folder, bundle):
    """Whether each file of a store is exactly a bundle."""
    return all(bundle_of((folder / file).read_text()) == bundle for file in STORE_FILES)


class TestPods:
    def test_asking(self, asking):
        """The API server stores volume, mounts and variables of each container as injected."""
        assert volumes(asking)[STORE] == store_volume()
        for container in containers(asking):
            assert our_mounts(container) == [MOUNT, *STORE_MOUNTS]
            assert container["env"] == ENVIRONMENT + STORE_ENVIRONMENT

    def test_silent(self, silent):
        """A pod without the annotation is as it was before there was one."""
        assert STORE not in volumes(silent)
        for container in containers(silent):
            assert our_mounts(container) == [MOUNT]
            assert container["env"] == ENVIRONMENT

    def test_debugging(self, world):
        """A container for debugging believes whom the pod believes."""
        made = world.make("debugged", trust_store="internal")
        debugger = {"name": "debug", "image": "none.example/debug"}
        path = f"{world.path(made)}/ephemeralcontainers"

        def debugged():
            current = world.api.get(world.path(made))
            current["spec"]["ephemeralContainers"] = [debugger]
            del current["metadata"]["resourceVersion"]  # the scheduler may write meanwhile
            return world.api.put(path, current)

        (found,) = debugged()["spec"]["ephemeralContainers"]
        assert found["volumeMounts"] == [MOUNT, *STORE_MOUNTS]
        assert found["env"] == ENVIRONMENT + STORE_ENVIRONMENT

    def test_a_refusal(self, world):
        """Whoever asks and brings roots of their own reads which container and variable."""
        body = world.api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/kube-root-ca.crt")
        assert body["data"]
        mount = {"name": "roots", "mountPath": "/etc/ssl/certs/cluster.crt", "subPath": "ca.crt"}
        made = {
            "metadata": {
                "name": "own",
                "annotations": {"kubetls.gauntletwizard.net/trust-store": "internal"},
            },
            "spec": {
                "containers": [
                    {"name": "main", "image": "none.example/main", "volumeMounts": [mount]}
                ],
                "volumes": [{"name": "roots", "configMap": {"name": "kube-root-ca.crt"}}],
            },
        }
        with pytest.raises(ApiStatusError) as refused:
            world.create_pod(NAMESPACE, made)
        assert refused.value.status == 403
        assert "container 'main': expected nothing else mounted at /etc/ssl/certs" in str(
            refused.value
        )


class TestFiles:
    def test_pod_certificate(self, world, asking):
        """Each file of the store is the zone's published bundle."""
        folder = world.folder(asking, STORE, "projected")
        assert has_everywhere(folder, bundle_of(world.published()))

    def test_secret(self, world):
        """In Secret mode too, and key and certificate are not in that folder."""
        made = world.make("legacy", trust_store="internal", mode="secret")
        folder = world.folder(made, STORE, "secret")
        assert has_everywhere(folder, bundle_of(world.published()))
        written = [each for each in (folder / "..data").resolve().rglob("*") if each.is_file()]
        assert len(written) == len(STORE_FILES)
        assert not any("PRIVATE KEY" in each.read_text() for each in written)


class TestPrograms:
    def test_a_service_of_the_zone(self, world, asking, silent):
        """An ordinary program believes another pod by its Service's name, and no other name."""
        with world.serving(silent) as port:
            assert world.accepts(asking, port, "silent.shop.svc")
            assert not world.accepts(asking, port, "asking.shop.svc")
            assert not world.accepts(silent, port, "silent.shop.svc")

    def test_rotation(self, world, asking):
        """A new root reaches the files of the running pod, and its programs believe it."""
        folder = world.folder(asking, STORE, "projected")
        before = bundle_of(world.published())
        world.operator.order(lambda orders: orders.rotate())
        until(lambda: world.operator.states() == ["retired", "active"], timeout=60)
        after = bundle_of(world.published())
        assert set(before.authorities) < set(after.authorities)
        until(lambda: has_everywhere(folder, after), timeout=KUBELET_SECONDS)
        late = world.make("late")
        with world.serving(late) as port:
            assert world.accepts(asking, port, "late.shop.svc")
