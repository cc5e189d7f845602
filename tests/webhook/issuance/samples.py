# SPDX-License-Identifier: Apache-2.0
"""Objects of a small cluster: its configuration, a pod, its Services, and requests for it."""

from __future__ import annotations

import base64
import functools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.spiffe_id import SpiffeId
from kubetls_sdk.testing import DevelopmentCA
from webhook.api.objects import Pod, Service
from webhook.config import KeyType, PlatformConfig
from webhook.issuance.authority import Authority, signature_digest
from webhook.issuance.grant import Grant
from webhook.issuance.request import from_pod_certificate_request

NOW = datetime(2026, 11, 25, 12, 30, 15, 999_999, tzinfo=UTC)
SIGNER = "kubetls.gauntletwizard.net/workload"
PREFIX = "kubetls.gauntletwizard.net"
UID = "6f2b7c1e-3a52-4a84-8d6c-0d6c8e4d1f10"

CONFIG = PlatformConfig.parse(
    """
version: 1
zones:
  - {name: default, trustDomain: example.org}
  - {name: payments, trustDomain: payments.example.org}
namespaces:
  - {names: [shop], keyTypes: [ECDSAP256, ECDSAP384], lifetime: {default: 24h, maximum: 7d}}
  - {names: [both], zones: [default, payments]}
  - {names: [pay], zones: [payments], lifetime: {default: 1h}}
  - {names: [short, com], shortNames: true}
  - {names: [all], keyTypes: [ECDSAP256, ECDSAP384, ECDSAP521, ED25519, RSA3072, RSA4096]}
"""
)


@functools.cache
def key(kind=KeyType.ECDSA_P256, number=0):
    """A private key of a type; the same for the same arguments."""
    match kind:
        case KeyType.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.ECDSA_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ECDSA_P521:
            return ec.generate_private_key(ec.SECP521R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA")))


def stub(private_key=None, *, subject=(), extensions=(), attributes=(), digest=hashes.SHA256()):  # noqa: B008
    """The DER of a PKCS#10 request; as the kubelet's with nothing but the key."""
    private_key = private_key or key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(list(subject)))
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    for oid, value in attributes:
        builder = builder.add_attribute(oid, value)
    if signature_digest(private_key) is None:
        digest = None
    return builder.sign(private_key, digest).public_bytes(Encoding.DER)


def pod_request(*, der=None, namespace="shop", **spec):
    """A PodCertificateRequest of v1."""
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": {"namespace": namespace, "name": "req-abcde"},
        "spec": {
            "signerName": SIGNER,
            "podName": "web-0",
            "podUID": UID,
            "serviceAccountName": "web",
            "serviceAccountUID": "sa-uid",
            "nodeName": "node-1",
            "nodeUID": "node-uid",
            "maxExpirationSeconds": 86400,
            "stubPKCS10Request": base64.b64encode(der or stub()).decode(),
        }
        | spec,
    }


@functools.cache
def plain_request():
    return from_pod_certificate_request(pod_request())


def request(**changes):
    """A request as it is evaluated."""
    return replace(plain_request(), **changes)


def pod(*, labels=None, annotations=None, phase="Pending", spec=None, **metadata):
    """The pod of the request."""
    mine = {f"{PREFIX}/{name}": value for name, value in (annotations or {}).items()}
    return Pod.parse(
        {
            "metadata": {
                "namespace": "shop",
                "name": "web-0",
                "uid": UID,
                "labels": {"app": "web"} if labels is None else labels,
                "annotations": mine,
            }
            | metadata,
            "spec": {"nodeName": "node-1", "serviceAccountName": "web"} | (spec or {}),
            "status": {"phase": phase},
        }
    )


def service(name="web", *, namespace="shop", **spec):
    """A Service that selects the pod."""
    return Service.parse(
        {
            "metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}"},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1"} | spec,
        }
    )


def grant(**changes):
    """What the request is granted."""
    zone = CONFIG.zones["default"]
    plain = Grant(
        zone=zone,
        spiffe_id=SpiffeId(zone.trust_domain, "/ns/shop/sa/web"),
        common_name="web-0",
        dns_names=("web.shop.svc", "web.shop.svc.cluster.local"),
        public_key=key().public_key(),
        lifetime=timedelta(hours=24),
    )
    return replace(plain, **changes)


@functools.cache
def development_ca():
    return DevelopmentCA("example.org", now=NOW)


def authority(ca=None, *, key_type=None):
    """A self-signed authority."""
    if ca is None:
        ca = DevelopmentCA("example.org", now=NOW, key_type=key_type or "p256")
    return Authority((ca.authority,), ca.root.private_key, ca.authority)


def subordinate(ca=None, *, depth=1, **options):
    """An authority `depth` intermediates below the development CA's root."""
    ca = ca or development_ca()
    found = None
    for _ in range(depth):
        found = ca.intermediate(under=found, **options)
    return Authority(found.chain, found.private_key, ca.authority)
