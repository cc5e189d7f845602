# SPDX-License-Identifier: Apache-2.0
"""The trust store in real containers: images lay out their web roots in many ways, with links."""

from __future__ import annotations

import uuid

import pytest

from cluster.node import busybox_tree, write_image
from cluster.node.image import Link
from kubetls_sdk.testing import DevelopmentCA
from tests.waiting import until
from tests.webhook.injection.world import STORE_ENVIRONMENT, STORE_MOUNTS, store_volume

BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
LABEL = "kubetls.gauntletwizard.net/trust-domain"
WEB = b"the roots of the web\n"
PEM = "etc/pki/ca-trust/extracted/pem"
FEDORA = {f"{PEM}/tls-ca-bundle.pem": WEB, f"{PEM}/directory-hash/ca-certificates.crt": WEB}
IMAGES = {
    "nothing": {},
    "debian": {
        "etc/ssl/certs/ca-certificates.crt": WEB,
        "usr/lib/ssl/cert.pem": Link("/etc/ssl/certs/ca-certificates.crt"),
    },
    "alpine": {
        "etc/ssl/certs/ca-certificates.crt": WEB,
        "etc/ssl/cert.pem": Link("certs/ca-certificates.crt"),
    },
    "red hat": {
        f"{PEM}/tls-ca-bundle.pem": WEB,
        "etc/pki/tls/certs/ca-bundle.crt": Link(f"/{PEM}/tls-ca-bundle.pem"),
        "etc/pki/tls/cert.pem": Link(f"/{PEM}/tls-ca-bundle.pem"),
        "etc/ssl/certs": Link("../pki/tls/certs"),
    },
    "fedora": {**FEDORA, "etc/ssl/certs": Link(f"/{PEM}/directory-hash")},
    "fedora by two links": {
        **FEDORA,
        "etc/pki/tls/certs": Link("../ca-trust/extracted/pem/directory-hash"),
        "etc/ssl/certs": Link("../pki/tls/certs"),
    },
}
"""The paths of an image's web roots, and what is there."""


@pytest.fixture(scope="module")
def bundle(control_plane):
    """A zone's bundle, published."""
    ca = DevelopmentCA("example.org")
    name = f"kubetls.gauntletwizard.net:workload:{uuid.uuid4().hex[:8]}"
    signer = "kubetls.gauntletwizard.net/workload"
    body = {
        "metadata": {"name": name, "labels": {LABEL: "example.org"}},
        "spec": {"signerName": signer, "trustBundle": ca.bundle.to_pem().decode()},
    }
    control_plane.api.post(BUNDLES, body)
    yield ca.bundle.to_pem().decode()
    control_plane.api.delete(f"{BUNDLES}/{name}")


@pytest.fixture(scope="module")
def images(node, tmp_path_factory):
    """An image of each layout, by its name here."""
    folder = tmp_path_factory.mktemp("images")
    names = {}
    for number, (name, tree) in enumerate(IMAGES.items()):
        names[name] = f"kubetls.example/roots-{number}:1"
        path = folder / f"{number}.tar"
        write_image(path, names[name], {**busybox_tree(), **tree}, command=["/bin/sh", "-c"])
        node.import_image(path)
    return names


def pod(image, *paths):
    """A pod that shows files, on a root file system that cannot be written."""
    main = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "args": [" && ".join(f"cat {path}" for path in paths)],
        "env": STORE_ENVIRONMENT,
        "volumeMounts": STORE_MOUNTS,
        "securityContext": {"readOnlyRootFilesystem": True},
    }
    spec = {"containers": [main], "volumes": [store_volume()], "nodeName": "real-1"}
    spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": "reader"}, "spec": spec}


class TestPlaces:
    @pytest.mark.parametrize("layout", IMAGES)
    def test_zone_instead_of_web(self, control_plane, node, namespace, images, bundle, layout):
        """The container starts, and each path of the image's roots leads to the zone's bundle."""
        paths = ["$SSL_CERT_FILE", "/etc/ssl/certs/ca-bundle.crt", f"/{PEM}/tls-ca-bundle.pem"]
        paths += [f"/{path}" for path in IMAGES[layout] if path != "etc/ssl/certs"]
        paths = [path for path in paths if path != "/etc/pki/tls/certs"]
        api, base = control_plane.api, f"/api/v1/namespaces/{namespace}/pods"
        api.post(base, pod(images[layout], *paths))

        def phase():
            return {api.get(f"{base}/reader")["status"]["phase"]} & {"Succeeded", "Failed"}

        ended = until(phase, timeout=40)
        log = node.log_of(namespace, "reader", "main")
        assert ended == {"Succeeded"}, log
        assert log.split() == (bundle * len(paths)).split()
