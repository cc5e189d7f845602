# SPDX-License-Identifier: Apache-2.0
"""A platform, pods and reviews to decide about."""

from __future__ import annotations

import base64
import copy
import json
from functools import cache

from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.injection import json_patch
from webhook.capabilities import Capabilities
from webhook.config import PlatformConfig
from webhook.injection.admission import Platform, decide
from webhook.injection.review import Review

PREFIX = "kubetls.gauntletwizard.net"
MOUNT_PATH = "/run/secrets/workload-spiffe-credentials"
MOUNT = {"name": "kubetls", "mountPath": MOUNT_PATH, "readOnly": True}
ENVIRONMENT = [
    {"name": "SPIFFE_CREDENTIAL_FOLDER", "value": MOUNT_PATH},
    {"name": "KUBETLS_TRUST_DOMAIN", "value": "example.org"},
]
STORE_MOUNTS = [
    {"name": "kubetls-trust-store", "mountPath": "/etc/ssl/certs", "readOnly": True},
    {
        "name": "kubetls-trust-store",
        "mountPath": "/etc/pki/ca-trust/extracted/pem",
        "readOnly": True,
    },
]
STORE = "/etc/ssl/certs/ca-certificates.crt"
STORE_ENVIRONMENT = [
    {"name": "KUBETLS_TRUST_STORE", "value": STORE},
    {"name": "SSL_CERT_FILE", "value": STORE},
    {"name": "SSL_CERT_DIR", "value": "/etc/ssl/certs"},
    {"name": "REQUESTS_CA_BUNDLE", "value": STORE},
    {"name": "CURL_CA_BUNDLE", "value": STORE},
    {"name": "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "value": STORE},
    {"name": "AWS_CA_BUNDLE", "value": STORE},
    {"name": "HTTPLIB2_CA_CERTS", "value": STORE},
    {"name": "PIP_CERT", "value": STORE},
    {"name": "GIT_SSL_CAINFO", "value": STORE},
    {"name": "NODE_EXTRA_CA_CERTS", "value": STORE},
    {"name": "NODE_OPTIONS", "value": "--use-openssl-ca"},
    {"name": "DENO_TLS_CA_STORE", "value": "system"},
]
STORE_FILES = (
    "ca-certificates.crt",
    "ca-bundle.crt",
    "tls-ca-bundle.pem",
    "directory-hash/ca-certificates.crt",
    "directory-hash/ca-bundle.crt",
)
CONFIG = """\
version: 1
zones:
  - {name: default, trustDomain: example.org}
  - {name: pci, trustDomain: pci.example}
partners:
  - {name: acme, trustDomain: partner.example, namespaces: [shop], bundle: PEM}
  - {name: card, zone: pci, namespaces: [shop]}
namespaces:
  - names: [shop]
    zones: [default, pci]
    modes: [pod-certificate, secret]
    keyTypes: [ECDSAP256, ECDSAP384]
    lifetime: {default: 24h, maximum: 7d}
    mountPaths: [/run/secrets/workload-spiffe-credentials, /etc/identity]
  - {names: [lab], inject: labelled}
  - {names: [open], trustStores: [image]}
  - {names: [closed], trustStores: [internal]}
  - {names: [kubetls-system, vault], modes: [secret]}
  - {names: [edge], modes: [csi, pod-certificate, secret]}
"""
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


@cache
def config():
    """The platform's configuration."""
    pem = json.dumps(DevelopmentCA("partner.example").bundle.to_pem().decode())
    return PlatformConfig.parse(CONFIG.replace("PEM", pem))


def platform(capabilities=None):
    """A platform that leaves its own namespace alone."""
    return Platform(config(), capabilities or Capabilities(), frozenset({"kubetls-system"}))


def volume(*partners, **podcertificate):
    """The volume of a pod certificate."""
    certificate = {
        "signerName": f"{PREFIX}/workload",
        "keyType": "ECDSAP256",
        "maxExpirationSeconds": 86400,
        "credentialBundlePath": "credential-bundle.pem",
    }
    bundle = {
        "signerName": f"{PREFIX}/workload",
        "labelSelector": {"matchLabels": {f"{PREFIX}/trust-domain": "example.org"}},
        "path": "example.org.trust-bundle.pem",
    }
    sources = [
        {"podCertificate": {**certificate, **podcertificate}},
        {"clusterTrustBundle": bundle},
        *({"clusterTrustBundle": each} for each in partners),
    ]
    return {"name": "kubetls", "projected": {"sources": sources, "defaultMode": 0o644}}


def store_volume(**bundle):
    """The trust store's volume of a pod with a pod certificate."""
    label = {"matchLabels": {f"{PREFIX}/trust-domain": "example.org"}}
    bundle = {"signerName": f"{PREFIX}/workload", "labelSelector": label, **bundle}
    sources = [{"clusterTrustBundle": {**bundle, "path": file}} for file in STORE_FILES]
    return {
        "name": "kubetls-trust-store",
        "projected": {"sources": sources, "defaultMode": 0o644},
    }


def csi_volume(**fields):
    """The volume of the CSI driver."""
    driver = {"driver": "csi.kubetls.gauntletwizard.net", "readOnly": True}
    return {"name": "kubetls", "csi": {**driver, **fields}}


def secret_volume(name):
    """The volume of the Secret mode."""
    return {"name": "kubetls", "secret": {"secretName": name, "defaultMode": 0o644}}


def pod(*containers, annotations=None, labels=None, **spec):
    """A pod as it comes from the API server."""
    metadata = {"generateName": "web-7d9-", "creationTimestamp": None}
    metadata |= {"annotations": annotations} if annotations is not None else {}
    metadata |= {"labels": labels} if labels is not None else {}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": {"containers": list(containers) or [{"name": "main"}], **spec},
    }


def annotated(**values):
    """Annotations of our prefix."""
    return {f"{PREFIX}/{name.replace('_', '-')}": value for name, value in values.items()}


def review(pod, *, namespace="shop", operation="CREATE", subresource="", old=None, uid=UID):
    """A question about a pod."""
    return Review(uid, namespace, operation, subresource, pod, old or {})


def outcome(pod, *, capabilities=None, **about):
    """What is decided: the outcome and the answer; the pod stays as it is."""
    before = copy.deepcopy(pod)
    decided = decide(review(pod, **about), platform(capabilities))
    assert before == pod, "a decision changed its argument"
    return decided


def injected(pod, **about):
    """The pod after admission."""
    decided, answer = outcome(pod, **about)
    assert answer.message is None, answer.message
    assert decided.value == "injected"
    return json_patch.apply(pod, answer.patch)


def refusal(pod, **about):
    """Why the pod is refused."""
    decided, answer = outcome(pod, **about)
    assert decided.value == "denied"
    assert not answer.patch
    return answer.message


def review_body(pod, *, namespace="shop", **request):
    """The bytes of an AdmissionReview."""
    kind = {"group": "", "version": "v1"}
    asked = {
        "uid": UID,
        "kind": {**kind, "kind": "Pod"},
        "resource": {**kind, "resource": "pods"},
        "requestKind": {**kind, "kind": "Pod"},
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        **request,
    }
    document = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
    return json.dumps(document).encode()


def patch_of(response):
    """The operations in the response of an AdmissionReview."""
    return json.loads(base64.b64decode(response["patch"])) if "patch" in response else []
