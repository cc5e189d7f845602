# SPDX-License-Identifier: Apache-2.0
"""An API server in memory with pods and their requests, and signer replicas on it."""

from __future__ import annotations

import asyncio
import base64
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.waiting import eventually
from tests.webhook.api_double import ApiDouble
from webhook.api import EventRecorder, Informer, Pod, Service
from webhook.api.backoff import Backoff
from webhook.api.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    EVENTS,
    POD_CERTIFICATE_REQUESTS,
    PODS,
    SERVICES,
)
from webhook.config import PlatformConfig
from webhook.exceptions import IssuanceError
from webhook.issuance.service_names import ServiceIndex
from webhook.signing.audit import AuditLog
from webhook.signing.pod_certificates import PodCertificates
from webhook.signing.record import Record
from webhook.signing.requester import POD_NAME, POD_NAMESPACE, POD_UID
from webhook.signing.signer import Signer
from webhook.signing.signing_requests import SigningRequests
from webhook.trust.ca_pool import CaPool
from webhook.trust.pool_entry import Origin
from webhook.trust.root_certificate import new_root

SIGNER = "kubetls.gauntletwizard.net/workload"
OTHER_SIGNER = "kubetls.gauntletwizard.net/other"
EXTERNAL_SIGNER = "clusterissuers.cert-manager.io/corporate"
SECRET_ISSUER = "system:serviceaccount:kubetls-system:kubetls-secret-issuer"
SECRET = "kubetls-0123456789abcdef0123"
USAGES = ["digital signature", "server auth", "client auth"]

PLATFORM = """\
version: 1
zones:
  - {name: default, trustDomain: example.org}
  - {name: other, trustDomain: other.example}
namespaces:
  - {names: [shop], zones: [default], modes: [pod-certificate, csi, secret]}
  - {names: [plain], zones: [default]}
"""


class LiveConfig:
    """A configuration that tests change, first where it is mounted or first in the ConfigMap."""

    def __init__(self, text=PLATFORM):
        self.current = PlatformConfig.parse(text)
        self.ahead = None

    async def fresh(self):
        self.current = self.ahead or self.current
        return self.current


class Pools:
    """Pools of all zones; `None` in `pools` for one that has none yet."""

    def __init__(self, config):
        now = datetime.now(UTC) - timedelta(hours=1)
        self.pools = {
            zone.name: CaPool.create(
                zone.trust_domain,
                new_root(zone.trust_domain, "00000001", now=now),
                origin=Origin.CREATED,
                entry_id="00000001",
                now=now,
            )
            for zone in config.zones.values()
        }

    def pool(self, zone):
        found = self.pools.get(zone)
        if found is None:
            raise IssuanceError("no pool", reason="NoCaPool", is_retryable=True)
        return found


class Replicas:
    """The live replicas as one of them sees them; tests change `live`."""

    def __init__(self, identity="one", live=("one",)):
        self.identity = identity
        self._live = live
        self._subscribers = []

    @property
    def live(self):
        return self._live

    @live.setter
    def live(self, live):
        self._live = live
        for callback in self._subscribers:
            callback()

    def owns(self, key):
        return bool(self._live) and self._live[hash(key) % len(self._live)] == self.identity

    def subscribe(self, callback):
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)


class World:
    """Namespaces `shop` and `plain`, zones `default` and `other`."""

    def __init__(self, platform=PLATFORM):
        self.api = ApiDouble()
        self.config = LiveConfig(platform)
        self.pools = Pools(self.config.current)

    def add_pod(self, name="web", namespace="shop", *, phase="Pending", **metadata):
        """Store a pod that runs on node-1."""
        return self.api.put(
            PODS,
            {
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}}
                | metadata,
                "spec": {"nodeName": "node-1", "serviceAccountName": "web"},
                "status": {"phase": phase},
            },
        )

    def add_secret_pod(self, name="web", namespace="shop", *, secret=SECRET, mounted=None):
        """Store a pod with our injection in Secret mode."""
        body = self.add_pod(
            name,
            namespace,
            annotations={
                "kubetls.gauntletwizard.net/injected": "secret",
                "kubetls.gauntletwizard.net/secret": secret,
            },
        )
        volume = {"name": "kubetls", "secret": {"secretName": mounted or secret}}
        body["spec"]["volumes"] = [volume]
        return self.api.put(PODS, body)

    def add_service(self, name="web", namespace="shop", app="web"):
        """Store a Service that selects the pods of an app."""
        metadata = {"name": name, "namespace": namespace}
        return self.api.put(SERVICES, {"metadata": metadata, "spec": {"selector": {"app": app}}})

    def request(self, pod, *, name=None, signer=SIGNER, key=None, subject=(), **spec):
        """Store the request that the kubelet makes for a pod."""
        metadata = pod["metadata"]
        return self.api.put(
            POD_CERTIFICATE_REQUESTS,
            {
                "metadata": {
                    "name": name or f"req-{uuid.uuid4().hex[:5]}",
                    "namespace": metadata["namespace"],
                },
                "spec": {
                    "signerName": signer,
                    "podName": metadata["name"],
                    "podUID": metadata["uid"],
                    "serviceAccountName": pod["spec"]["serviceAccountName"],
                    "nodeName": pod["spec"]["nodeName"],
                    "maxExpirationSeconds": 86400,
                    "stubPKCS10Request": base64.b64encode(csr(key, subject)).decode(),
                }
                | spec,
            },
        )

    def signing_request(self, pod, *, by=SECRET_ISSUER, pem=None, status=None, labels=None, **spec):
        """Store a CertificateSigningRequest of the secret issuer for a pod, or of the pod."""
        metadata = pod["metadata"]
        extra = {}
        annotations = {}
        if by == SECRET_ISSUER:
            annotations = {
                POD_NAMESPACE: metadata["namespace"],
                POD_NAME: metadata["name"],
                POD_UID: metadata["uid"],
            }
        else:
            prefix = "authentication.kubernetes.io"
            extra = {
                f"{prefix}/pod-name": [metadata["name"]],
                f"{prefix}/pod-uid": [metadata["uid"]],
                f"{prefix}/node-name": [pod["spec"]["nodeName"]],
            }
        return self.api.put(
            CERTIFICATE_SIGNING_REQUESTS,
            {
                "metadata": {
                    "name": f"csr-{uuid.uuid4().hex[:5]}",
                    "annotations": annotations,
                    "labels": labels or {},
                },
                "spec": {
                    "signerName": SIGNER,
                    "username": by,
                    "extra": extra,
                    "usages": USAGES,
                    "request": base64.b64encode(pem or csr(encoding=Encoding.PEM)).decode(),
                }
                | spec,
            }
            | ({"status": status} if status else {}),
        )

    @asynccontextmanager
    async def signer(
        self, *, replicas=None, api=None, limit=32, follow=None, is_blind=lambda: False
    ):
        """A running replica; yields (PodCertificates, SigningRequests)."""
        api = api or self.api
        replicas = replicas or Replicas()
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            events = await enter(EventRecorder(api, "kubetls-signer"))
            pods = await enter(Informer(api, PODS, Pod.parse))
            services = await enter(Informer(api, SERVICES, Service.parse))
            index = ServiceIndex()
            services.subscribe(index.apply)
            await asyncio.gather(pods.synced(), services.synced())
            signer = Signer(
                api,
                pods=pods,
                services=index,
                configuration=self.config,
                pools=self.pools,
                is_blind=is_blind,
            )
            parts = {"signer": signer, "replicas": replicas, "limit": limit}
            controllers = (
                PodCertificates(
                    api,
                    POD_CERTIFICATE_REQUESTS,
                    record=Record(events, AuditLog(), kind="pod"),
                    **parts,
                ),
                SigningRequests(
                    api,
                    record=Record(events, AuditLog(), kind="csr"),
                    secret_issuer=SECRET_ISSUER,
                    **parts,
                ),
            )
            for controller in controllers:
                inbox = await self._started(controller.inbox, enter, follow)
                stack.push_async_callback(_ended, asyncio.create_task(inbox.shares.run()))
                stack.push_async_callback(inbox.worklist.close, within=0.1)
            yield controllers

    async def _started(self, inbox, enter, follow):
        inbox.worklist._backoff = lambda: Backoff(initial=0.01, maximum=0.05)
        await enter(inbox.requests)
        zones = self.config.current.zones.values()
        names = [zone.signer_name for zone in zones]
        names += [zone.external_signer for zone in zones if zone.external_signer]
        await inbox.requests.follow(follow or names)
        return inbox

    def verdict(self, request):
        """The conditions of a request now, by type: their reasons."""
        resource = (
            POD_CERTIFICATE_REQUESTS
            if request["kind"] == "PodCertificateRequest"
            else CERTIFICATE_SIGNING_REQUESTS
        )
        metadata = request["metadata"]
        found = self.api.find(resource, metadata["name"], metadata.get("namespace"))
        conditions = ((found or {}).get("status") or {}).get("conditions") or ()
        return {each["type"]: each["reason"] for each in conditions}

    async def answered(self, request):
        """Wait for the answer to a request; return it with its status."""
        await eventually(lambda: self.verdict(request).keys() & {"Issued", "Denied", "Failed"})
        metadata = request["metadata"]
        return self.api.find(POD_CERTIFICATE_REQUESTS, metadata["name"], metadata["namespace"])

    def certificate(self, request):
        """The leaf of an answered request."""
        status = request["status"]
        chain = status.get("certificateChain") or base64.b64decode(status["certificate"]).decode()
        return x509.load_pem_x509_certificates(chain.encode())[0]

    def events(self):
        """Reasons of the Events that were written, by name of the pod."""
        return [(each["regarding"]["name"], each["reason"]) for each in self.api.all(EVENTS)]


def csr(key=None, subject=(), *, encoding=Encoding.DER):
    """A PKCS#10 request with nothing but a key, unless a subject is given."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text) for text in subject])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)


async def _ended(task):
    task.cancel()
    await asyncio.wait([task])
