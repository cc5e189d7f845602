# SPDX-License-Identifier: Apache-2.0
"""A cluster in memory with a signer, and the keeper of one node's volumes on a real folder."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.webhook.signing.world import World
from webhook.api import ApiError, EventRecorder, ForbiddenError, Informer, Pod, Service
from webhook.api.backoff import Backoff
from webhook.api.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    CLUSTER_TRUST_BUNDLES,
    PODS,
    SERVICES,
)
from webhook.delivery.zone_bundles import ZoneBundles
from webhook.issuance.service_names import ServiceIndex
from webhook.names import bundle_name
from webhook.node.certifier import PodCertifier
from webhook.node.folder_placement import FolderPlacement
from webhook.node.identity import IdentityIssuer
from webhook.node.keeper import Keeper
from webhook.node.publication import PodReference, Publication
from webhook.node.volume_store import VolumeStore

if TYPE_CHECKING:
    from pathlib import Path

NODE = "node-1"
PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org}
  - {name: other, trustDomain: other.example}
namespaces:
  - {names: [shop], zones: [default], modes: [csi, pod-certificate]}
  - {names: [plain], zones: [default]}
"""


class Clock:
    """Unix time that tests move."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return datetime.now(UTC).timestamp() + self.ahead


class Guests:
    """The API server as nobody; knows the tokens of pods, and writes who asked."""

    def __init__(self, api):
        self._api = api
        self.holders = {}
        self.is_forbidden = False
        self.used = []

    def __getattr__(self, name):
        raise AssertionError(f"nobody may call {name}")

    def with_token(self, token):
        """The API server as whoever this token is of."""
        return _Guest(self, self._api, token)

    async def create(self, api, token, body):
        """Create a request as the holder of a token."""
        self.used.append(token)
        if token not in self.holders:
            raise ApiError("create: 401 Unauthorized", status=401, reason="Unauthorized")
        if self.is_forbidden:
            raise ForbiddenError("create: 403 Forbidden")
        return await api.create(
            CERTIFICATE_SIGNING_REQUESTS,
            {**body, "spec": {**body["spec"], **self.holders[token]}},
        )


class _Guest:
    def __init__(self, guests, api, token):
        self._guests, self._api, self._token = guests, api, token

    async def create(self, resource, body):
        assert resource is CERTIFICATE_SIGNING_REQUESTS
        return await self._guests.create(self._api, self._token, body)


class NodeWorld(World):
    """The signer's world, and a node."""

    def __init__(self, folder: Path, platform=PLATFORM):
        super().__init__(platform)
        self.kubelet = folder / "kubelet"
        self.state = folder / "state"
        self.kubelet.mkdir()
        self.guests = Guests(self.api)
        self.clock = Clock()
        self.patience_seconds = 5.0
        self.publish_bundle()

    def publish_bundle(self, zone="default", text=None):
        """Publish the bundle of our zone as it is in the pool, or another one."""
        found = self.config.current.zones[zone]
        text = (text or self.pools.pool(zone).bundle.to_pem()).decode()
        name = bundle_name(found.signer_name, found.trust_domain)
        body = {"metadata": {"name": name}, "spec": {"trustBundle": text}}
        self.api.put(CLUSTER_TRUST_BUNDLES, body)

    def publication(self, body, **changes):
        """What the kubelet asks for, for a pod."""
        pod = PodReference(
            **{
                "namespace": body["metadata"]["namespace"],
                "name": body["metadata"]["name"],
                "uid": body["metadata"]["uid"],
                "service_account": body["spec"]["serviceAccountName"],
            }
            | changes
        )
        volume_id = f"csi-{pod.uid}"
        parent = self.kubelet / "pods" / pod.uid / "volumes" / "kubernetes.io~csi" / "kubetls"
        parent.mkdir(parents=True, exist_ok=True)
        return Publication(volume_id, parent / "mount", pod)

    def token(self, body, *, seconds=600.0, node=NODE, number=0):
        """A token that is bound to a pod."""
        metadata = body["metadata"]
        claims = {"exp": self.clock() + seconds, "sub": metadata["uid"], "jti": number}
        middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        prefix = "authentication.kubernetes.io"
        account = f"{metadata['namespace']}:{body['spec']['serviceAccountName']}"
        token = f"e30.{middle}.c2lnbmF0dXJl"
        self.guests.holders[token] = {
            "username": f"system:serviceaccount:{account}",
            "extra": {
                f"{prefix}/pod-name": [metadata["name"]],
                f"{prefix}/pod-uid": [metadata["uid"]],
                f"{prefix}/node-name": [node],
            },
        }
        return token

    @asynccontextmanager
    async def keeper(self, *, sees=True, answers_within=2.0):
        """The driver's keeper of this node, from its store to its watches; yields it."""
        store = VolumeStore(self.state, FolderPlacement(self.kubelet))
        store.open()
        api = self.api
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            events = await enter(EventRecorder(api, "kubetls-node"))
            pods = await enter(
                Informer(api, PODS, Pod.parse, field_selector="spec.nodeName=" + NODE)
            )
            services = await enter(Informer(api, SERVICES, Service.parse))
            index = ServiceIndex()
            services.subscribe(index.apply)
            certifier = PodCertifier(api, self.guests, NODE, patience_seconds=answers_within)
            await enter(certifier.requests)
            keeper = Keeper(
                store, events=events, patience_seconds=self.patience_seconds, now=self.clock
            )
            keeper.worklist._backoff = lambda: Backoff(initial=0.01, maximum=0.05)
            await keeper.take_over()
            bundles = await enter(
                ZoneBundles(
                    api,
                    CLUSTER_TRUST_BUNDLES,
                    namespace="kubetls-system",
                    changed=keeper.look_at_everything,
                )
            )
            config = self.config.current
            await bundles.follow((*config.zones.values(), *config.outside.values()))
            await asyncio.gather(
                *(each.synced() for each in (pods, services, bundles, certifier.requests))
            )
            keeper.store, keeper.pods, keeper.certifier = store, pods, certifier
            keeper.begin = lambda: keeper.start(
                IdentityIssuer(
                    api,
                    NODE,
                    pods=pods,
                    services=index,
                    configuration=lambda: self.config.current,
                    bundles=bundles,
                    certifier=certifier,
                )
            )
            if sees:
                keeper.begin()
            pods.subscribe(keeper.pod_changed)
            services.subscribe(keeper.service_changed)
            stack.push_async_callback(keeper.worklist.close, within=0.5)
            looking = asyncio.create_task(_look(keeper))
            stack.callback(looking.cancel)
            yield keeper

    def files(self, body):
        """The files of a pod's volume, as the pod sees them; none without one."""
        target = self.publication(body).target
        if not target.is_dir():
            return {}
        return {
            each.name: each.read_bytes()
            for each in target.iterdir()
            if not each.name.startswith("..")
        }

    def leaf(self, body):
        """The leaf in a pod's volume."""
        return x509.load_pem_x509_certificate(self.files(body)["credential-bundle.pem"])

    def key(self, body):
        """The public half of the key in a pod's volume."""
        return load_pem_private_key(self.files(body)["credential-bundle.pem"], None).public_key()

    def dns_names(self, body):
        """The DNS names of the leaf in a pod's volume."""
        names = self.leaf(body).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return names.value.get_values_for_type(x509.DNSName)

    def requests(self):
        """All certificate signing requests there are."""
        return self.api.all(CERTIFICATE_SIGNING_REQUESTS)


async def _look(keeper):
    while True:
        await keeper.has_news.wait()
        keeper.has_news.clear()
        keeper.look()
