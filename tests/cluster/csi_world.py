# SPDX-License-Identifier: Apache-2.0
"""A cluster whose pods get their identities from the node driver, on two hollow nodes.

Rules:
    1. The driver runs as its DaemonSet's pods say, with their account's rights; where this process
       may mount, it mounts, in the nodes' own mount namespaces.
    2. The API server writes down all that it is asked and answers, but for tokens that it issues.
"""

from __future__ import annotations

import hashlib
import json
import signal
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from cluster import ControlPlane, HollowNode, Options, kubectl, may_mount
from cluster.installation import Installation
from cluster.overlay import NAMESPACE as SYSTEM
from cluster.overlay import NodeDriver
from kubetls_sdk.volume_source import VolumeSource
from tests.cluster.pods import pod
from tests.waiting import until
from webhook.names import CSI_DRIVER
from webhook.node.protocol import csi_pb2 as csi
from webhook.node.protocol import csi_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.process import Process
    from kubetls_sdk.source import Snapshot

VOLUME, STATE_FOLDER = "kubetls", "/var/lib/kubetls"
NODES = ("node-1", "node-2")
PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org, propagation: 5s}
  - {name: other, trustDomain: other.example}
namespaces:
  - {names: ["foreign"], zones: [other], modes: [csi]}
  - {names: ["native"], zones: [default], modes: [pod-certificate]}
  - names: ["*"]
    zones: [default]
    modes: [csi]
    lifetime: {default: 24h, maximum: 24h}
"""
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "resources": [{"group": "", "resources": ["serviceaccounts/token"]}]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}]},
        {"level": "RequestResponse"},
    ],
}


class CsiWorld:
    """The cluster with everything installed.

    Args:
        control_plane: The cluster.
        nodes: By name.
        installation: Of our control plane and the drivers.
        audit: The API server's log.

    Attributes:
        audience: Of the pods' tokens.
        mounts: Whether the drivers mount.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        nodes: dict[str, HollowNode],
        installation: Installation,
        audit: Path,
        *,
        audience: str,
        mounts: bool,
    ) -> None:
        self.audience = audience
        self.mounts = mounts
        self.control_plane = control_plane
        self.api = control_plane.api
        self.nodes = nodes
        self.installation = installation
        self.audit = audit
        self._channels: dict[str, grpc.Channel] = {}

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl as the administrator."""
        return kubectl.run(self.control_plane.kubeconfig, *arguments)

    def name_of_part(self, part: str, node: str | None = None) -> str:
        """The name of a part's only pod, or of the one on a node."""
        pods = self.installation.runner.pods
        [found] = [
            name
            for name in self.installation.names(part)
            if node in (None, pods[name].pod["spec"]["nodeName"])
        ]
        return found

    def process(self, part: str, node: str | None = None) -> Process:
        """The process of that pod."""
        running = self.installation.runner.pods[self.name_of_part(part, node)]
        return running.process.process

    def kill_driver(self, node: str) -> None:
        """End a node's driver in the middle of whatever it does, and start it again."""
        self.process("node", node).send(signal.SIGKILL)
        self.installation.runner.restart(self.name_of_part("node", node))
        self.wait_for("node", node)

    @contextmanager
    def without_signer(self) -> Iterator[None]:
        """While nobody signs."""
        signer = self.process("signer")
        signer.end()
        try:
            yield
        finally:
            signer.start()

    def get(self, part: str, path: str, node: str | None = None) -> str:
        """Ask a part's pod for a path of its status port."""
        port = self.installation.status_port(self.name_of_part(part, node))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def wait_for(self, part: str, node: str | None = None) -> None:
        """Wait until a part's only pod, or the one on a node, says that it is ready."""
        until(lambda: _is_answered(lambda: self.get(part, "/readyz", node)), timeout=60)

    def driver(self, node: str) -> csi_pb2_grpc.NodeStub:
        """The driver of a node, as the kubelet calls it."""
        if node not in self._channels:
            socket = self.nodes[node].root / "plugins" / CSI_DRIVER / "csi.sock"
            self._channels[node] = grpc.insecure_channel(f"unix://{socket}")
        return csi_pb2_grpc.NodeStub(self._channels[node])

    def namespace(self, name: str, **labels: str) -> str:
        """Make a namespace, ready for pods."""
        body = {"metadata": {"name": name, "labels": labels}}
        self.api.post("/api/v1/namespaces", body)
        path = f"/api/v1/namespaces/{name}"
        until(lambda: self.api.exists(f"{path}/serviceaccounts/default"), timeout=30)
        until(lambda: self.api.exists(f"{path}/configmaps/kube-root-ca.crt"), timeout=30)
        return name

    def create(self, namespace: str, name: str = "web", **spec: Any) -> dict[str, Any]:
        """Create a pod of whoever knows nothing of certificates; what it has is injected."""
        annotations = spec.pop("annotations", {})
        body = pod(name, **{"nodeName": NODES[0], **spec})
        body["metadata"]["annotations"] = annotations
        return self.api.post(f"/api/v1/namespaces/{namespace}/pods", body)

    def delete(self, created: dict[str, Any]) -> None:
        """Delete a pod at once."""
        metadata = created["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self.api.request("DELETE", path, {"gracePeriodSeconds": 1})

    def target(self, created: dict[str, Any]) -> Path:
        """Where a pod's volume is, or will be."""
        node = self.nodes[created["spec"]["nodeName"]]
        return node.volume_of(created["metadata"]["uid"], VOLUME, kind="csi")

    def files(self, created: dict[str, Any], *, timeout: float = 60) -> Path:
        """The folder of a pod's volume, once its files are there."""
        folder = self.target(created)
        until((folder / "..data").exists, timeout=timeout)
        return folder

    def snapshot(self, created: dict[str, Any]) -> Snapshot:
        """What the SDK reads in a pod's volume."""
        with VolumeSource(self.files(created)) as source:
            return source.snapshot

    def service(self, namespace: str, name: str, app: str) -> None:
        """Create a Service that selects an app."""
        spec = {"selector": {"app": app}, "ports": [{"port": 443}]}
        path = f"/api/v1/namespaces/{namespace}/services"
        self.api.post(path, {"metadata": {"name": name}, "spec": spec})

    def events(self, namespace: str, reason: str) -> list[dict[str, Any]]:
        """The Events of a namespace with a reason."""
        found = self.api.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
        return [each for each in found if each["reason"] == reason]

    def requests(self) -> list[dict[str, Any]]:
        """All certificate signing requests that name a node of ours."""
        return self.api.get("/apis/certificates.k8s.io/v1/certificatesigningrequests")["items"]

    def token_of(self, created: dict[str, Any], *, audience: str | None = None) -> str:
        """A token that is bound to a pod, as the kubelet has it made, or for another audience."""
        audience = self.audience if audience is None else audience
        metadata, spec = created["metadata"], created["spec"]
        account = spec["serviceAccountName"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        bound = {"apiVersion": "v1", "kind": "Pod"}
        bound |= {key: metadata[key] for key in ("name", "uid")}
        wanted = {"expirationSeconds": 600, "boundObjectRef": bound}
        wanted |= {"audiences": [audience]} if audience else {}
        return self.api.post(path, {"spec": wanted})["status"]["token"]

    def attributes(
        self, created: dict[str, Any], token: str, audience: str | None = None
    ) -> dict[str, str]:
        """What the kubelet says of a pod when it asks for its volume."""
        metadata = created["metadata"]
        audience = self.audience if audience is None else audience
        tokens = {audience: {"token": token, "expirationTimestamp": "2100-01-01T00:00:00Z"}}
        found = {
            "ephemeral": "true",
            "pod.name": metadata["name"],
            "pod.namespace": metadata["namespace"],
            "pod.uid": metadata["uid"],
            "serviceAccount.name": created["spec"]["serviceAccountName"],
            "serviceAccount.tokens": json.dumps(tokens),
        }
        return {f"csi.storage.k8s.io/{key}": text for key, text in found.items()}

    def hurry(self) -> None:
        """Touch the parts' pods, so that their kubelets look at the ConfigMap at once."""
        touched = f"example.org/touched={len(self.requests())}"
        place = ("pods", "--all", "--overwrite", f"--namespace={SYSTEM}")
        self.kubectl("annotate", *place, touched)

    def request(self, created: dict[str, Any], **changes: Any) -> csi.NodePublishVolumeRequest:
        """What the kubelet sends for a pod's volume, changed.

        Args:
            created: The pod.
            changes: Of the request's fields; `token` and `audience` of the pod's token.
        """
        audience = changes.pop("audience", self.audience)
        token = changes.pop("token", None) or self.token_of(created, audience=audience)
        uid, node = created["metadata"]["uid"], self.nodes[created["spec"]["nodeName"]]
        name = f"{uid}{VOLUME}".encode()
        mount = csi.VolumeCapability.MountVolume()
        fields: dict[str, Any] = {
            "volume_id": f"csi-{hashlib.sha256(name).hexdigest()}",
            "target_path": str(node.target_of(uid, VOLUME)),
            "volume_capability": csi.VolumeCapability(mount=mount),
            "readonly": True,
            "volume_context": self.attributes(created, token, audience),
        }
        return csi.NodePublishVolumeRequest(**{**fields, **changes})

    def publish(self, created: dict[str, Any], **changes: Any) -> None:
        """Ask the driver of a pod's node for its volume, as the kubelet does; see `request`.

        Raises:
            grpc.RpcError: It refuses.
        """
        driver = self.driver(created["spec"]["nodeName"])
        driver.NodePublishVolume(self.request(created, **changes), timeout=120)

    def homes(self, node: str) -> list[Path]:
        """The folders of the volumes that a driver keeps."""
        state = self.nodes[node].host_path(STATE_FOLDER)
        return sorted(self.nodes[node].as_seen(state).iterdir())

    def mounts_of(self, created: dict[str, Any]) -> list[str]:
        """The lines of the node's table of mounts that have a pod's volume."""
        node = self.nodes[created["spec"]["nodeName"]]
        target = str(node.target_of(created["metadata"]["uid"], VOLUME))
        table = Path(f"/proc/{node.process.pid}/mountinfo").read_text()
        return [line for line in table.splitlines() if line.split()[4] == target]

    def logs(self) -> list[str]:
        """What everybody has written so far: our parts, the kubelets, the API server."""
        return [
            each.read_text(errors="replace") for each in self.control_plane.folder.rglob("*.log")
        ]

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            channel.close()


@contextmanager
def csi_world(
    folder: Path,
    *,
    audience: str = "",
    platform: str = PLATFORM,
    nodes: tuple[str, ...] = NODES,
    is_audited: bool = True,
) -> Iterator[CsiWorld]:
    """Install everything, and remove it at the end.

    Args:
        folder: New, for everything that is written.
        audience: Of the pods' tokens; the API server takes it beside its own.
        platform: The platform's configuration.
        nodes: Names of the nodes.
        is_audited: Whether the API server writes down everything; it is slower then.
    """
    folder.mkdir(exist_ok=True)
    audit, mounts = folder / "audit.log", may_mount()
    driver = NodeDriver.where(may_mount=mounts, audience=audience)
    with ExitStack() as stack:
        enter = stack.enter_context
        flags = [*(_auditing(folder, audit) if is_audited else ()), *_accepting(audience)]
        options = Options(more={"kube-apiserver": flags})
        control_plane = enter(ControlPlane(folder / "c", options=options))
        running = [enter(HollowNode(control_plane, name, mounts=mounts)) for name in nodes]
        named = {node.name: node for node in running}
        installation = enter(
            Installation(control_plane, named, platform=platform, replicas=1, driver=driver)
        )
        world = CsiWorld(
            control_plane, named, installation, audit, audience=audience, mounts=mounts
        )
        stack.callback(world.close)
        world.wait_for("injector")
        world.wait_for("signer")
        for name in nodes:
            world.wait_for("node", name)
        yield world


def _auditing(folder: Path, audit: Path) -> list[str]:
    policy = folder / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT))
    return [f"--audit-policy-file={policy}", f"--audit-log-path={audit}"]


def _accepting(audience: str) -> list[str]:
    own = "https://kubernetes.default.svc"
    return [f"--api-audiences={own},{audience}"] if audience else []


def _is_answered(ask: Any) -> bool:
    try:
        ask()
    except (OSError, ValueError, KeyError):
        return False
    return True
