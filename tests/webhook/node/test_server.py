# SPDX-License-Identifier: Apache-2.0
"""The driver, called as the kubelet calls it: over its socket."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from tests.unprivileged import without_privileges
from tests.webhook.node.mount_namespace import in_mount_namespace
from tests.webhook.node.requests import TOKEN, TOKENS, publish_request, target, tokens
from tests.webhook.node.volumes_double import FILES, VolumesDouble
from webhook.api.errors import ForbiddenError, UnreachableError
from webhook.exceptions import IssuanceError
from webhook.node.folder_placement import FolderPlacement
from webhook.node.operations import Operations
from webhook.node.placement import TmpfsPlacement
from webhook.node.protocol import csi_pb2, csi_pb2_grpc
from webhook.node.server import DriverSettings, Server
from webhook.node.target import TargetError
from webhook.node.volume_store import VolumeStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from webhook.node.placement import Placement

DEADLINE = 20
Code = grpc.StatusCode
both = pytest.mark.parametrize("placed", [TmpfsPlacement, FolderPlacement], ids=["tmpfs", "folder"])


class Driver:
    """A driver that serves, and clients of it."""

    def __init__(self, folder: Path, placed: Callable[[Path], Placement]) -> None:
        self.kubelet = folder / "kubelet"
        self.kubelet.mkdir(exist_ok=True)
        self.socket = folder / "csi.sock"
        store = VolumeStore(folder / "state", placed(self.kubelet))
        store.open()
        self.volumes = VolumesDouble(store)
        settings = DriverSettings("csi.example.org", "1.2.3", "node-7", self.socket, self.kubelet)
        self.operations = Operations(self.volumes, publish_seconds=10)
        self.server = Server(self.volumes, settings, self.operations)
        self.channel = grpc.aio.insecure_channel(f"unix://{self.socket}")
        self.node = csi_pb2_grpc.NodeStub(self.channel)
        self.identity = csi_pb2_grpc.IdentityStub(self.channel)

    async def publish(self, request: csi_pb2.NodePublishVolumeRequest | None = None) -> None:
        asked = publish_request(self.kubelet) if request is None else request
        await self.node.NodePublishVolume(asked, timeout=10)

    async def unpublish(self, volume_id: str = "csi-1", path: str | None = None) -> None:
        place = str(target(self.kubelet, volume_id)) if path is None else path
        request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=place)
        await self.node.NodeUnpublishVolume(request, timeout=10)


@asynccontextmanager
async def driving(
    folder: Path, placed: Callable[[Path], Placement] = FolderPlacement
) -> AsyncIterator[Driver]:
    driver = Driver(folder, placed)
    await driver.server.start()
    try:
        async with asyncio.timeout(DEADLINE):
            yield driver
    finally:
        await driver.channel.close()
        await driver.server.stop()


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(scenario)


async def status(call: Coroutine[object, object, None]) -> tuple[Code, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value.code(), failed.value.details() or ""


class TestIdentity:
    def test_says_who_it_is(self, tmp_path: Path) -> None:
        """Name and version are the driver's; a driver of nodes has no other capabilities."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                plugin = await driver.identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest())
                assert (plugin.name, plugin.vendor_version) == ("csi.example.org", "1.2.3")
                asked = csi_pb2.GetPluginCapabilitiesRequest()
                assert not (await driver.identity.GetPluginCapabilities(asked)).capabilities

        run(scenario())

    @pytest.mark.parametrize("is_ready", [True, False])
    def test_is_ready_with_its_keeper(self, tmp_path: Path, is_ready: bool) -> None:
        """The driver is ready when whoever keeps the volumes is."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                driver.volumes.is_ready = is_ready
                answer = await driver.identity.Probe(csi_pb2.ProbeRequest())
                assert answer.HasField("ready")
                assert answer.ready.value == is_ready

        run(scenario())


class TestNode:
    def test_says_where_it_is(self, tmp_path: Path) -> None:
        """The node is called as the kubelet calls it; the group is applied by the driver."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                answer = await driver.node.NodeGetInfo(csi_pb2.NodeGetInfoRequest())
                assert (answer.node_id, answer.max_volumes_per_node) == ("node-7", 0)
                asked = csi_pb2.NodeGetCapabilitiesRequest()
                found = (await driver.node.NodeGetCapabilities(asked)).capabilities
                rpc = csi_pb2.NodeServiceCapability.RPC
                assert [each.rpc.type for each in found] == [rpc.VOLUME_MOUNT_GROUP]

        run(scenario())

    @pytest.mark.parametrize(
        "method",
        [
            "/csi.v1.Node/NodeStageVolume",
            "/csi.v1.Node/NodeGetVolumeStats",
            "/csi.v1.Controller/CreateVolume",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ],
    )
    def test_has_nothing_else(self, tmp_path: Path, method: str) -> None:
        """What inline volumes do not need is not there, reflection included."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                call = driver.channel.unary_unary(method)
                assert (await status(call(b"", timeout=10)))[0] == Code.UNIMPLEMENTED

        run(scenario())


class TestPublish:
    @both
    @in_mount_namespace
    def test_from_publication_to_the_end(
        self, tmp_path: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """The pod has its files; again is no error; after the end nothing is left."""

        async def scenario() -> None:
            async with driving(tmp_path, placed) as driver:
                for _ in range(3):
                    await driver.publish()
                place = target(driver.kubelet)
                assert {name: (place / name).read_bytes() for name in FILES} == FILES
                for _ in range(2):
                    await driver.unpublish()
                assert not place.exists()
                assert [*(tmp_path / "state").iterdir()] == []
                assert driver.volumes.tokens == [TOKEN] * 3

        run(scenario())

    @both
    @in_mount_namespace
    def test_volumes_outlive_the_driver(
        self, tmp_path: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """The next process takes over what this one published, by the same requests."""

        async def scenario() -> None:
            async with driving(tmp_path, placed) as driver:
                await driver.publish()
            async with driving(tmp_path, placed) as driver:
                await driver.publish()
                assert driver.volumes.store.is_exposed("csi-1")
                await driver.unpublish()
                assert not target(driver.kubelet).exists()

        run(scenario())

    @pytest.mark.parametrize(
        ("name", "value"),
        [("volume_id", ""), ("target_path", ""), ("target_path", "/etc"), ("readonly", False)],
    )
    def test_refuses_invalid_requests(self, tmp_path: Path, name: str, value: object) -> None:
        """What no retry makes right is INVALID_ARGUMENT, and named."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                request = publish_request(driver.kubelet)
                setattr(request, name, value)
                code, text = await status(driver.publish(request))
                assert code == Code.INVALID_ARGUMENT
                assert text.startswith(f"{name}: expected ")
                assert driver.volumes.calls == []

        run(scenario())

    def test_refuses_a_token_of_another_audience(self, tmp_path: Path) -> None:
        """Only the token of our audience is taken, and no other is shown."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                request = publish_request(driver.kubelet)
                request.volume_context[TOKENS] = tokens(audience="vault")
                code, text = await status(driver.publish(request))
                assert code == Code.INVALID_ARGUMENT
                assert TOKEN not in text
                assert driver.volumes.calls == []

        run(scenario())

    def test_refuses_what_conflicts(self, tmp_path: Path) -> None:
        """Other arguments are ALREADY_EXISTS, another target is FAILED_PRECONDITION."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                await driver.publish()
                other_group = publish_request(driver.kubelet, group=7)
                assert (await status(driver.publish(other_group)))[0] == Code.ALREADY_EXISTS
                elsewhere = publish_request(driver.kubelet)
                elsewhere.target_path = str(target(driver.kubelet, "other"))
                assert (await status(driver.publish(elsewhere)))[0] == Code.FAILED_PRECONDITION
                await driver.publish()

        run(scenario())

    @pytest.mark.parametrize("lost", [TOKENS, "csi.storage.k8s.io/pod.uid"])
    def test_published_stays_without_what_was_lost(
        self, tmp_path: Path, lost: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A repetition that lost its token or the pod is no error: the volume is there."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                await driver.publish()
                request = publish_request(driver.kubelet)
                del request.volume_context[lost]
                await driver.publish(request)
                assert driver.volumes.tokens == [TOKEN]
                request.target_path = str(target(driver.kubelet, "other"))
                assert (await status(driver.publish(request)))[0] == Code.INVALID_ARGUMENT

        run(scenario())
        assert "repeats wrongly" in caplog.text

    @pytest.mark.parametrize(
        ("failure", "code"),
        [
            (IssuanceError("no signer", reason="X", is_retryable=True), Code.UNAVAILABLE),
            (IssuanceError("no zone", reason="X"), Code.FAILED_PRECONDITION),
            (UnreachableError("no API server"), Code.UNAVAILABLE),
            (ForbiddenError("not allowed", status=403), Code.PERMISSION_DENIED),
            (TargetError("a symlink"), Code.FAILED_PRECONDITION),
            (OSError(errno.ENOSPC, "No space left on device"), Code.RESOURCE_EXHAUSTED),
            (OSError(errno.EIO, "Input/output error"), Code.INTERNAL),
            (TimeoutError("no answer by the signer"), Code.DEADLINE_EXCEEDED),
        ],
        ids=lambda value: getattr(value, "name", None) or type(value).__name__,
    )
    def test_failure_has_its_status(self, tmp_path: Path, failure: Exception, code: Code) -> None:
        """Each failure has the status that the kubelet acts on, names its cause, leaves nothing."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                driver.volumes.failure = failure
                assert await status(driver.publish()) == (code, str(failure))
                assert [*(tmp_path / "state").iterdir()] == []
                assert not target(driver.kubelet).exists()
                await driver.publish()

        run(scenario())

    def test_mistake_is_logged_and_not_shown(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A mistake of ours is in our log, and what it says is not in the answer."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                driver.volumes.failure = RuntimeError("an internal detail")
                code, text = await status(driver.publish())
                assert code == Code.INTERNAL
                assert "detail" not in text

        run(scenario())
        assert "an internal detail" in caplog.text

    def test_lost_caller_is_served_by_the_retry(self, tmp_path: Path) -> None:
        """A call beyond its deadline goes on, and the next one finds its work done."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                driver.volumes.gate.clear()
                request = publish_request(driver.kubelet)
                call = driver.node.NodePublishVolume(request, timeout=0.2)
                assert (await status(call))[0] == Code.DEADLINE_EXCEEDED
                driver.volumes.gate.set()
                await driver.publish()
                assert driver.volumes.calls.count("unpublish csi-1") == 0
                assert driver.volumes.store.is_exposed("csi-1")

        run(scenario())

    def test_interrupted_is_aborted(self, tmp_path: Path) -> None:
        """A publication that is unpublished meanwhile is ABORTED, and nothing of it stays."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                driver.volumes.gate.clear()
                caller = asyncio.create_task(status(driver.publish()))
                while not driver.volumes.calls:  # noqa: ASYNC110 - turns of the loop, not a time
                    await asyncio.sleep(0)
                await driver.unpublish()
                assert (await caller)[0] == Code.ABORTED
                assert [*(tmp_path / "state").iterdir()] == []

        run(scenario())

    def test_a_thousand_at_once(self, tmp_path: Path) -> None:
        """While a thousand volumes wait, a running pod keeps its own; in the end all are there."""
        names = [f"csi-{number}" for number in range(1200)]

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                await driver.publish(publish_request(driver.kubelet, "running"))
                driver.volumes.gate.clear()
                waiting = [
                    asyncio.create_task(driver.publish(publish_request(driver.kubelet, name)))
                    for name in names
                ]
                while len(driver.operations) < len(names) and not any(e.done() for e in waiting):  # noqa: ASYNC110
                    await asyncio.sleep(0)
                await driver.publish(publish_request(driver.kubelet, "running"))
                driver.volumes.gate.set()
                await asyncio.gather(*waiting)
                assert driver.volumes.most_at_once <= 64
                assert {each.volume_id for each in driver.volumes.store} == {"running", *names}

        run(scenario())

    def test_message_is_bounded(self, tmp_path: Path) -> None:
        """A request of more than a mebibyte is not read."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                request = publish_request(driver.kubelet)
                request.volume_context["attribute"] = "x" * 1024 * 1024
                assert (await status(driver.publish(request)))[0] == Code.RESOURCE_EXHAUSTED

        run(scenario())

    def test_token_is_in_no_log(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Whatever happens, the log has no token."""
        caplog.set_level(logging.DEBUG)

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                for failure in (RuntimeError("mistake"), OSError(5, "disk"), None, OSError(5, "d")):
                    driver.volumes.failure = failure
                    request = publish_request(driver.kubelet)
                    await asyncio.gather(driver.publish(request), return_exceptions=True)

        run(scenario())
        assert "mistake" in caplog.text
        assert TOKEN not in caplog.text


class TestUnpublish:
    def test_unknown_is_no_error(self, tmp_path: Path) -> None:
        """An unknown volume is unpublished; an empty folder at its target goes."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                target(driver.kubelet).mkdir()
                await driver.unpublish()
                assert not target(driver.kubelet).exists()

        run(scenario())

    @pytest.mark.parametrize(
        ("volume_id", "path"), [("", None), ("csi-1", ""), ("csi-1", "/var/lib/kubelet/../x")]
    )
    def test_refuses_invalid_requests(
        self, tmp_path: Path, volume_id: str, path: str | None
    ) -> None:
        """A volume's id and its target are needed."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                call = driver.unpublish(volume_id, path)
                assert (await status(call))[0] == Code.INVALID_ARGUMENT
                assert driver.volumes.calls == []

        run(scenario())


class TestSocket:
    def test_is_ours_alone(self, tmp_path: Path) -> None:
        """Nobody but the owner may open the socket."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                assert stat.S_IMODE(driver.socket.stat().st_mode) == 0o600

        run(scenario())

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as another user")
    def test_others_cannot_connect(self, tmp_path: Path) -> None:
        """Another user of the node is not let in."""
        tmp_path.chmod(0o755)

        async def scenario() -> None:
            async with driving(tmp_path):
                with without_privileges(), socket.socket(socket.AF_UNIX) as client:
                    client.connect("csi.sock")

        before = os.getcwd()
        os.chdir(tmp_path)
        try:
            with pytest.raises(PermissionError):
                run(scenario())
        finally:
            os.chdir(before)

    def test_replaced_socket_ends_the_process(self, tmp_path: Path) -> None:
        """A neighbour that listens in our place gets pods' tokens no longer than until we look."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                driver.socket.unlink()
                with socket.socket(socket.AF_UNIX) as other:
                    other.bind(str(driver.socket))
                    assert driver.server.has_failed

        run(scenario())

    def test_lost_socket_ends_the_process(self, tmp_path: Path) -> None:
        """A socket that somebody removed serves nobody: the process is to begin anew."""

        async def scenario() -> None:
            async with driving(tmp_path) as driver:
                assert not driver.server.has_failed
                driver.socket.unlink()
                assert driver.server.has_failed

        run(scenario())
