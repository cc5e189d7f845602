# SPDX-License-Identifier: Apache-2.0
"""A container on this machine: an image whose web roots are ours to choose, and what is injected.

The image is this machine's file system in a mount namespace of its own, in which each store of web
roots has one authority, "the public one". The injection is what the injector really makes.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import certifi
import grpc
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pip._vendor import certifi as pip_certifi

from kubetls_sdk.testing import DevelopmentCA, KubeletVolume
from tests.integration.origin import Origin
from tests.webhook.injection.world import STORE_ENVIRONMENT, STORE_FILES, injected, pod

ROOT = Path(__file__).parents[2]
GRPC_ROOTS = Path(grpc.__file__).parent / "_cython/_credentials/roots.pem"
IMAGE_STORES = ("/etc/ssl/certs", certifi.where(), pip_certifi.where(), str(GRPC_ROOTS))
NAMESPACE = next(
    (
        command
        for command in (["unshare", "-m"], ["unshare", "-Urm"])
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0
    ),
    None,
)


class Server:
    """An HTTPS server and a gRPC server with one certificate for `localhost`."""

    def __init__(self, origin, grpc_port):
        self.ports = [origin.port, grpc_port]

    @classmethod
    @contextmanager
    def running(cls, folder, chain, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        file = folder / "server.pem"
        file.write_bytes(key + chain)
        context.load_cert_chain(file)
        file.unlink()
        server = grpc.server(ThreadPoolExecutor(1))
        credentials = grpc.ssl_server_credentials([(key, chain)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            with Origin.running(context) as origin:
                yield cls(origin, port)
        finally:
            server.stop(None).wait()


@contextmanager
def internal_server(folder, ca):
    """A service with a certificate of the zone for its DNS name."""
    svid = ca.issue(dns_names=("localhost",))
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in svid.chain)
    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with Server.running(folder, chain, key) as server:
        yield server


@contextmanager
def public_server(folder, authority):
    """A server of the web."""
    issued = authority.issue_cert("localhost")
    chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
    with Server.running(folder, chain, issued.private_key_pem.bytes()) as server:
        yield server


class Container:
    """A process of clients in a container.

    Args:
        folder: For the image's stores, and the volume.
        authority: What the image believes.
        bundle: The zone's, in PEM.
        annotations: Of its pod.
    """

    def __init__(self, folder, authority, bundle, annotations):
        self._folder = folder
        self.volume = KubeletVolume(folder / "volume")
        self.publish(bundle)
        self._image = folder / "image"
        self._image.mkdir()
        for name in ("public.pem", "ca-certificates.crt"):
            authority.cert_pem.write_to_path(str(self._image / name))
        subprocess.run(["openssl", "rehash", str(self._image)], check=True, capture_output=True)
        self._container = injected(pod(annotations=annotations))["spec"]["containers"][0]

    def publish(self, bundle):
        """Write the zone's bundle as the kubelet does; it has no folders in its files here."""
        self.volume.write({file: bundle for file in STORE_FILES if "/" not in file})

    @contextmanager
    def running(self):
        """Run the clients; yields what asks them."""
        script = " && ".join([*self._mounts(), 'exec "$0" "$@"'])
        clients = (sys.executable, "-m", "tests.integration.trust_store_clients")
        process = subprocess.Popen(
            [*NAMESPACE, "sh", "-c", script, *clients],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self._environment(),
        )
        with process:
            yield lambda **servers: _ask(process, servers)
            process.stdin.close()
            assert process.wait(20) == 0

    def _mounts(self):
        roots = self._image / "public.pem"
        for store in IMAGE_STORES:
            source = self._image if Path(store).is_dir() else roots
            yield f"mount --bind '{source}' '{store}'"
        for mount in self._container["volumeMounts"]:
            is_store = mount["name"] == "kubetls-trust-store"
            if is_store and Path(mount["mountPath"]).is_dir():  # another system's place
                yield f"mount --bind '{self.volume.directory}' '{mount['mountPath']}'"

    def _environment(self):
        ours = {each["name"] for each in STORE_ENVIRONMENT}
        machine = {key: value for key, value in os.environ.items() if key not in ours}
        return machine | {each["name"]: each["value"] for each in self._container["env"]}


def _ask(process, servers):
    question = {name: server.ports for name, server in servers.items()}
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def new_authorities():
    """The zone's authority, and the web's."""
    return DevelopmentCA("example.org"), trustme.CA()
