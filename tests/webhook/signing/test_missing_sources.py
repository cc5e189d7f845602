# SPDX-License-Identifier: Apache-2.0
"""Pods that were injected and will not get their certificate."""

from __future__ import annotations

import pytest

from tests.waiting import eventually
from tests.webhook.api_double import ApiDouble
from tests.webhook.signing.world import SIGNER, Replicas
from webhook import metrics
from webhook.api import EventRecorder, Informer, Pod
from webhook.api.resources import EVENTS, NODES, PODS
from webhook.signing.missing_sources import MissingSources, old_node

pytestmark = pytest.mark.anyio

INJECTED = {"kubetls.gauntletwizard.net/injected": "pod-certificate"}
SOURCE = {"podCertificate": {"signerName": SIGNER}}


def pod(name, *, sources=(), annotations=INJECTED, node="node-1", phase="Running"):
    return {
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "spec": {
            "nodeName": node,
            "volumes": [{"name": "kubetls", "projected": {"sources": list(sources)}}],
        },
        "status": {"phase": phase},
    }


def node(name, version):
    return {"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": version}}}


@pytest.fixture
async def world(anyio_backend):
    """Two nodes, one of them too old; yields (api, told(*pods))."""
    api = ApiDouble()
    api.put(NODES, node("node-1", "v1.37.2"))
    api.put(NODES, node("node-old", "v1.33.0"))
    async with (
        EventRecorder(api, "kubetls-signer") as events,
        Informer(api, PODS, Pod.parse) as pods,
        Informer(api, NODES, old_node) as nodes,
    ):
        await nodes.synced()
        replicas = Replicas()
        missing = MissingSources(pods, nodes, events=events, replicas=replicas)

        async def told(*bodies):
            for body in bodies:
                api.put(PODS, body)
            await eventually(lambda: len(pods) == len(api.all(PODS)))
            await missing.tell()
            await eventually(events._queue.empty)
            await eventually(lambda: not events._queue._unfinished_tasks)
            return [each["regarding"]["name"] for each in api.all(EVENTS)]

        yield replicas, told


class TestTell:
    async def test_source_that_was_dropped(self, world):
        """A pod that was admitted without its source gets an Event, and is counted."""
        before = metrics.UNINJECTED._value.get()
        assert await world[1](pod("web")) == ["web"]
        assert metrics.UNINJECTED._value.get() == before + 1

    async def test_node_that_is_too_old(self, world):
        """A pod on a node that knows no pod certificates gets an Event."""
        assert await world[1](pod("web", sources=[SOURCE], node="node-old")) == ["web"]

    @pytest.mark.parametrize(
        "body",
        [
            pod("web", sources=[SOURCE]),
            pod("web", annotations={}),
            pod("web", annotations={"kubetls.gauntletwizard.net/injected": "secret"}),
            pod("web", phase="Succeeded"),
        ],
        ids=["has its source", "was not injected", "has a Secret", "has ended"],
    )
    async def test_nothing_to_tell(self, world, body):
        """Other pods are left alone."""
        assert await world[1](body) == []

    async def test_told_once(self, world):
        """The same is not told again at each look."""
        assert await world[1](pod("web")) == ["web"]
        assert await world[1]() == ["web"]

    async def test_told_by_its_owner(self, world):
        """A pod of another replica's share is told of there."""
        world[0].live = ("another",)
        assert await world[1](pod("web")) == []
