# SPDX-License-Identifier: Apache-2.0
"""One pod's identity never gets into another's volume, whoever mixes them up."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.waiting import eventually
from tests.webhook.node.world import NodeWorld
from tests.webhook.signing.world import csr
from webhook.api.resources import CERTIFICATE_SIGNING_REQUESTS, PODS
from webhook.exceptions import IssuanceError

pytestmark = pytest.mark.anyio

LATER = timedelta(hours=15).total_seconds()


@pytest.fixture
def world(tmp_path):
    return NodeWorld(tmp_path)


async def published(world, keeper, body):
    await keeper.publish(world.publication(body), world.token(body))
    return world.files(body)


def uri(leaf):
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)[0]


class TestToken:
    @pytest.mark.parametrize("account", ["web", "admin"])
    async def test_of_another_pod_in_a_repetition(self, world, account):
        """With another pod's token nothing is renewed; with the pod's own next one it is."""
        body, other = world.add_pod(), world.add_pod("other")
        other["spec"]["serviceAccountName"] = account
        world.api.put(PODS, other)
        async with world.signer(), world.keeper() as keeper:
            first = await published(world, keeper, body)
            world.clock.ahead = LATER
            await keeper.publish(world.publication(body), world.token(other))
            await eventually(world.events)
            assert world.files(body) == first
            await keeper.publish(world.publication(body), world.token(body))
            await eventually(lambda: world.files(body) != first)
        assert uri(world.leaf(body)) == "spiffe://example.org/ns/shop/sa/web"
        assert world.leaf(body).public_key() == world.key(body)
        assert {name for name, _ in world.events()} == {"web"}


class TestAnswer:
    """Whoever may write certificates into requests gives no pod what it did not ask for."""

    async def swap(self, world, certificate):
        """Answer the pending requests of the driver with something else, as long as it asks."""
        answered = set()
        while True:
            for request in world.requests():
                name = request["metadata"]["name"]
                if name.startswith("kubetls-") and name not in answered:
                    answered.add(name)
                    request["status"] = {"certificate": certificate}
                    world.api.put(CERTIFICATE_SIGNING_REQUESTS, request)
            await asyncio.sleep(0)

    async def refused(self, world, body, certificate):
        world.patience_seconds = 0.4
        async with world.keeper() as keeper:
            swapping = asyncio.create_task(self.swap(world, certificate))
            try:
                with pytest.raises(IssuanceError) as caught:
                    await published(world, keeper, body)
            finally:
                swapping.cancel()
            assert keeper.store.get(world.publication(body).volume_id) is None
        assert world.files(body) == {}
        return str(caught.value)

    async def test_of_another_pod(self, world):
        """The certificate of another pod, which the same authority has signed."""
        body, other = world.add_pod(), world.add_pod("other")
        async with world.signer(), world.keeper() as keeper:
            await published(world, keeper, other)
        held = world.leaf(other).public_bytes(Encoding.PEM)
        told = await self.refused(world, body, base64.b64encode(held).decode())
        assert "public key is not what was asked for" in told

    async def test_for_another_key_of_the_same_pod(self, world):
        """One that was signed for the very pod, and a key that somebody else has."""
        body = world.add_pod()
        user = "system:serviceaccount:shop:web"
        pem = csr(encoding=Encoding.PEM)
        request = world.signing_request(body, by=user, pem=pem)
        name = request["metadata"]["name"]

        def answer():
            found = world.api.find(CERTIFICATE_SIGNING_REQUESTS, name)
            return found.get("status", {}).get("certificate")

        async with world.signer():
            certificate = await eventually(answer)
        assert "public key is not what was asked for" in await self.refused(
            world, body, certificate
        )

    @pytest.mark.parametrize(
        "answer", [b"", b"none", b"\0" * 200_000, b"-----BEGIN PRIVATE KEY-----\n"]
    )
    async def test_no_certificate(self, world, answer):
        """What is none, or too large for one."""
        text = base64.b64encode(answer).decode() or "="
        assert await self.refused(world, world.add_pod(), text)
