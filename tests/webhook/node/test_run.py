# SPDX-License-Identifier: Apache-2.0
"""The driver as it is assembled: from its sockets to a pod's files, and to its end."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from kubetls_sdk.exceptions import ConfigurationError
from tests.unprivileged import reachable_directory
from tests.waiting import eventually
from tests.webhook.node.requests import publish_request as request_of_kubelet
from tests.webhook.node.requests import tokens
from tests.webhook.node.world import PLATFORM, NodeWorld
from tests.webhook.signing.test_run import status
from webhook.api import Api
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, CONFIG_MAPS
from webhook.exceptions import WebhookError
from webhook.names import CSI_DRIVER, bundle_file
from webhook.node.protocol import (
    csi_pb2,
    csi_pb2_grpc,
    registration_pb2,
    registration_pb2_grpc,
)
from webhook.node.run import NodeDriver, NodeSettings
from webhook.trust.publication import fallback_name

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder():
    """A folder with a path that is short enough for sockets."""
    with reachable_directory() as made:
        yield made


@pytest.fixture
def world(folder, monkeypatch):
    """A world to which whoever connects is connected, and whose guests have pods' tokens."""
    made = NodeWorld(folder)

    async def connect(_cls, *_args, **_options):
        return made.api

    monkeypatch.setattr(Api, "connect", classmethod(connect))
    monkeypatch.setattr(made.api, "anonymous", lambda **_: contextlib.nullcontext(made.guests))
    return made


@pytest.fixture
def settings(world, folder):
    config = folder / "platform.yaml"
    config.write_text(PLATFORM)
    return {
        "config": config,
        "node_name": "node-1",
        "endpoint": world.kubelet / "csi.sock",
        "kubelet_folder": world.kubelet,
        "registration": world.kubelet / "plugins_registry",
        "state": world.state,
        "placement": "folders",
        "host": "127.0.0.1",
        "status_port": 0,
        "drain_seconds": 0.5,
    }


@asynccontextmanager
async def running(driver):
    """Serve in the background, and end it in order."""
    stop = asyncio.Event()
    serving = asyncio.create_task(driver.serve(stop))
    try:
        yield serving
    finally:
        stop.set()
        await serving


async def register(settings):
    """Do what the kubelet does once it sees the driver's socket; return what it is told."""
    socket = settings["registration"] / f"{CSI_DRIVER}-reg.sock"
    await eventually(socket.exists)
    async with grpc.aio.insecure_channel(f"unix://{socket}") as channel:
        stub = registration_pb2_grpc.RegistrationStub(channel)
        found = await stub.GetInfo(registration_pb2.InfoRequest())
        done = registration_pb2.RegistrationStatus(plugin_registered=True)
        await stub.NotifyRegistrationStatus(done)
    return found


@asynccontextmanager
async def node_of(settings):
    """The driver's Node service, as the kubelet calls it."""
    await eventually(settings["endpoint"].exists)
    async with grpc.aio.insecure_channel(f"unix://{settings['endpoint']}") as channel:
        yield csi_pb2_grpc.NodeStub(channel)


def publish_request(world, body, token):
    """What the kubelet sends for a pod."""
    publication = world.publication(body)
    request = request_of_kubelet(world.kubelet)
    request.volume_id, request.target_path = publication.volume_id, str(publication.target)
    prefix = "csi.storage.k8s.io/"
    for name, value in (
        ("pod.namespace", publication.pod.namespace),
        ("pod.name", publication.pod.name),
        ("pod.uid", publication.pod.uid),
        ("serviceAccount.name", publication.pod.service_account),
        ("serviceAccount.tokens", tokens(token)),
    ):
        request.volume_context[prefix + name] = value
    return request


class TestDriver:
    async def test_publishes(self, world, settings):
        """Registered with the kubelet and in sight of the cluster, it gives pods their files."""
        body = world.add_pod()
        driver = NodeDriver(NodeSettings(**settings))
        async with world.signer(), running(driver), node_of(settings) as node:
            found = await register(settings)
            await eventually(lambda: driver.is_ready)
            await node.NodePublishVolume(publish_request(world, body, world.token(body)))
            for path in ("/healthz", "/readyz", "/metrics"):
                assert await status(driver.status_port, path) == 200
            assert world.leaf(body).public_key() == world.key(body)
            target = str(world.publication(body).target)
            volume_id = world.publication(body).volume_id
            await node.NodeUnpublishVolume(
                csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=target)
            )
            assert world.files(body) == {}
        assert (found.name, found.endpoint) == (CSI_DRIVER, str(settings["endpoint"]))

    async def test_ready(self, world, settings):
        """Ready is what the kubelet has taken, or leaves to a registrar beside it."""
        driver = NodeDriver(NodeSettings(**settings))
        async with running(driver), node_of(settings):
            await eventually(lambda: driver._seen)
            assert not driver.is_ready
            assert await status(driver.status_port, "/readyz") == 503
            await register(settings)
            assert driver.is_ready
        assert not driver.is_ready
        driver = NodeDriver(NodeSettings(**settings | {"registration": None}))
        async with running(driver):
            await eventually(lambda: driver.is_ready)

    async def test_restart_without_the_cluster(self, world, settings):
        """The kubelet's repetitions are answered while no API server is; new pods wait."""
        body = world.add_pod()
        settings["registration"] = None
        request = publish_request(world, body, world.token(body))
        driver = NodeDriver(NodeSettings(**settings))
        async with world.signer(), running(driver), node_of(settings) as node:
            await node.NodePublishVolume(request)
        files = world.files(body)
        world.api.delay = asyncio.Event().wait
        driver = NodeDriver(NodeSettings(**settings))
        async with running(driver), node_of(settings) as node:
            await node.NodePublishVolume(request)
            assert not driver.is_ready
        assert world.files(body) == files

    async def test_without_cluster_trust_bundles(self, world, settings):
        """On clusters without these, the bundles come from the leader's ConfigMaps."""
        world.api.served = frozenset()
        zone = world.config.current.zones["default"]
        pem = world.pools.pool("default").bundle.to_pem().decode()
        metadata = {"name": fallback_name(zone), "namespace": "kubetls-system"}
        world.api.put(
            CONFIG_MAPS, {"metadata": metadata, "data": {bundle_file(zone.trust_domain): pem}}
        )
        for each in world.api.all(CLUSTER_TRUST_BUNDLES):
            world.api.remove(CLUSTER_TRUST_BUNDLES, each["metadata"]["name"])
        settings["registration"] = None
        body = world.add_pod()
        driver = NodeDriver(NodeSettings(**settings))
        async with world.signer(), running(driver), node_of(settings) as node:
            await node.NodePublishVolume(publish_request(world, body, world.token(body)))
        assert world.files(body)["example.org.trust-bundle.pem"].decode() == pem

    async def test_configuration_that_changes(self, world, settings):
        """A namespace that may have the mode from now on has it without a restart."""
        settings["registration"] = None
        settings["config"].write_text(PLATFORM.replace("[csi, ", "["))
        body = world.add_pod()
        request = publish_request(world, body, world.token(body))
        driver = NodeDriver(NodeSettings(**settings))
        async with world.signer(), running(driver), node_of(settings) as node:
            await eventually(lambda: driver.is_ready)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await node.NodePublishVolume(request)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "may not have mode 'csi'" in caught.value.details()
            settings["config"].write_text(PLATFORM)

            async def is_published():
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await node.NodePublishVolume(request)
                return world.files(body)

            async with asyncio.timeout(5):
                while not await is_published():
                    pass

    async def test_lost_socket(self, world, settings, monkeypatch):
        """A driver whose socket somebody removed is found by nobody: it ends, to begin anew."""
        monkeypatch.setattr("webhook.replica._LOOK_SECONDS", 0.01)
        driver = NodeDriver(NodeSettings(**settings | {"registration": None}))
        serving = asyncio.create_task(driver.serve(asyncio.Event()))
        await eventually(lambda: driver.is_ready)
        settings["endpoint"].unlink()
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(serving, 5)
        assert caught.group_contains(WebhookError)


class TestSettings:
    @pytest.mark.parametrize("name", ["", "n" * 64], ids=["none", "too long for a label"])
    def test_node_name(self, settings, name):
        """A name that cannot be the label of requests is refused at the start."""
        with pytest.raises(ConfigurationError, match="1 to 63"):
            NodeSettings(**settings | {"node_name": name})
