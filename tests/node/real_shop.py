# SPDX-License-Identifier: Apache-2.0
"""A cluster with one real node, our control plane in its pods, and the shop beside it."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from cluster import ControlPlane, binaries, kubectl
from cluster.exceptions import ClusterError
from cluster.node import RealNode, python_tree, write_image
from cluster.node.compiled import compiled
from cluster.node.installation import NodeInstallation
from cluster.node.services import Services, options
from cluster.node.tree import PYTHON_ENVIRONMENT
from cluster.overlay import NodeDriver, Overlay
from examples.demo_cluster.manifests import LEGACY, PLATFORM
from tests.node import manifests
from tests.node.manifests import NAMESPACE
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VOLUME = "kubetls"
IDENTITIES = "spiffe://example.org/ns/shop/sa"
# Longer than this kubelet needs for a new root, as the documentation asks for.
_PLATFORM = PLATFORM.replace("propagation: 60s", "propagation: 150s")
_SECONDS = 120.0
# Prints a status, or what refused; the credentials are found as in every pod.
_CALL = """
import sys, httpx
from kubetls_sdk.client.httpx import Client
try:
    with Client(server=sys.argv[2], timeout=10) as client:
        print(client.get(sys.argv[1]).status_code)
except httpx.HTTPError as err:
    print(type(err).__name__)
"""


class RealShop:
    """All of it, as a context manager.

    Args:
        folder: For everything that is written.
        platform: The platform's configuration.
        driver: The node driver; None: it is not installed.

    Attributes:
        control_plane: The cluster.
        node: Its node.
        services: Its Services.
        installation: Our control plane in it.
    """

    def __init__(
        self, folder: Path, *, platform: str = _PLATFORM, driver: NodeDriver | None = None
    ) -> None:
        self._folder = folder
        self._platform, self._driver = platform, driver
        self._stack = ExitStack()

    def __enter__(self) -> RealShop:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        folder, enter = self._folder, self._stack.enter_context
        self.control_plane = enter(ControlPlane(folder / "c", options=options(folder)))
        self.api = self.control_plane.api
        self.node = enter(RealNode(self.control_plane, "real-1"))
        self.services = enter(Services(self.control_plane, self.node.network, folder))
        overlay = Overlay(
            self._platform,
            secret_namespaces=() if self._driver else (LEGACY,),
            pull_policy="Never",
            driver=self._driver,
        )
        self.installation = NodeInstallation(self.control_plane, self.node, self.services, overlay)
        self.installation.install()
        self.node.import_image(_write_shop_image(folder / "shop.tar"))
        self.apply(*manifests.foundation())
        address = self.services.serve(NAMESPACE, "orders")
        self.orders_address = address
        for manifest in (manifests.orders(), manifests.web(address), manifests.guest(address)):
            self.apply(manifest)
            self.wait(manifest["metadata"]["name"])

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator."""
        config = self.control_plane.kubeconfig
        return kubectl.run(config, *arguments, stdin=stdin, seconds=_SECONDS + 10)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--filename=-", stdin=document)

    def wait(self, app: str) -> None:
        """Wait until a Deployment of the shop is as it should be."""
        self.kubectl(
            "rollout", "status", f"--namespace={NAMESPACE}", f"deployment/{app}",
            f"--timeout={_SECONDS:.0f}s",
        )  # fmt: skip

    def roll(self, app: str) -> None:
        """Replace all pods of a Deployment of the shop."""
        self.kubectl("rollout", "restart", f"--namespace={NAMESPACE}", f"deployment/{app}")
        self.wait(app)

    def pods(self, app: str, *, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
        """The pods with a label `app` that are not about to end."""
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}"
        found = self.api.get(path)["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def all_names(self, app: str) -> set[str]:
        """The names of the pods with a label `app`, also of those that are about to end."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{app}"
        return {each["metadata"]["name"] for each in self.api.get(path)["items"]}

    def running(self, app: str, *, namespace: str = NAMESPACE) -> dict[str, Any]:
        """A pod with a label `app`, once it runs."""

        def find() -> list[dict[str, Any]]:
            pods = self.pods(app, namespace=namespace)
            return [each for each in pods if each["status"]["phase"] == "Running"]

        return until(find, timeout=_SECONDS)[0]

    def execute(self, pod: dict[str, Any], *command: str) -> str:
        """Run a command in a pod's first container, and return what it printed."""
        metadata = pod["metadata"]
        place = (f"--namespace={metadata['namespace']}", metadata["name"])
        return self.kubectl("exec", *place, "--", *command).strip()

    def python(self, pod: dict[str, Any], code: str, *arguments: str) -> str:
        """Run Python code in a pod."""
        return self.execute(pod, "python3", "-c", code, *arguments)

    def call(self, pod: dict[str, Any], *, server: str = "orders") -> str:
        """Read an order from within a pod: the status, or what refused it."""
        url, expected = "https://orders.shop.svc:8443/orders/1", f"{IDENTITIES}/{server}"
        return self.python(pod, _CALL, url, expected)

    def files(self, pod: dict[str, Any], *, kind: str = "projected") -> Path:
        """The folder of a pod's credentials, as seen from within the node."""
        return self.node.volume_of(pod["metadata"]["uid"], VOLUME, kind=kind)

    def load(self) -> dict[str, Any]:
        """What web says that it has seen."""
        log = self.node.log_of(NAMESPACE, "web-*", "main")
        found = [line for line in log.splitlines() if line.startswith("{") and line.endswith("}")]
        return json.loads(found[-1]) if found else {"requests": 0, "failed": 0, "failures": {}}

    def check_load(self) -> None:
        """See that web goes on to send requests, and that none has failed, ever."""
        before = self.load()["requests"]
        until(lambda: self.load()["requests"] > before + 50, timeout=60)
        assert (self.load()["failed"], self.load()["failures"]) == (0, {})

    @contextmanager
    def admissions(self) -> Iterator[list[str]]:
        """Create pods without a pause (dry run); what was refused is in the list at the end."""
        ended, refused, numbers = threading.Event(), [], iter(range(10**6))

        def create() -> None:
            while not ended.is_set():
                body = manifests.idle(f"dry-{next(numbers)}")
                try:
                    made = self.api.post(f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", body)
                except ClusterError as err:
                    refused.append(str(err))
                else:
                    volumes = {each["name"] for each in made["spec"]["volumes"]}
                    refused.extend(() if VOLUME in volumes else ("a pod without the volume",))
                ended.wait(0.1)

        thread = threading.Thread(target=create)
        thread.start()
        try:
            yield refused
        finally:
            ended.set()
            thread.join()
            assert next(numbers) > 10


def _write_shop_image(path: Path) -> Path:
    packages = [binaries.ROOT / "kubetls_sdk", binaries.ROOT / "examples"]
    requirements = ["kubetls-sdk[asgi,fast,httpx,cli,metrics]", "starlette"]
    return write_image(
        path,
        manifests.IMAGE,
        compiled(python_tree(requirements, packages)),
        environment=PYTHON_ENVIRONMENT,
        user=manifests.IMAGE_USER,
    )
