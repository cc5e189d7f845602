# SPDX-License-Identifier: Apache-2.0
"""The Secret of a pod: the files of its volume, owned by the pod and by nothing else.

tls.key                          private key, PKCS#8
tls.crt                          leaf, then intermediates
ca.crt                           the zone's trust bundle
<partner>.trust-bundle.pem       one for each partner of the pod
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from webhook.names import WORKLOAD_SECRET_TYPE, bundle_file

if TYPE_CHECKING:
    from kubetls_sdk.svid import PrivateKey
    from webhook.api import Pod
    from webhook.delivery.plan import Plan

__all__ = ("files", "secret")


def secret(pod: Pod, name: str, data: dict[str, bytes]) -> dict[str, Any]:
    """The Secret that a pod's volume mounts.

    Args:
        pod: Its owner: the garbage collector deletes it with the pod.
        name: That the pod's volume names.
        data: Its files.
    """
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
    return {
        "metadata": {"name": name, "namespace": pod.namespace, "ownerReferences": [owner]},
        "type": WORKLOAD_SECRET_TYPE,
        "data": {file: base64.b64encode(content).decode() for file, content in data.items()},
    }


def files(plan: Plan, private_key: PrivateKey, chain_pem: bytes) -> dict[str, bytes]:
    """The files of a pod's volume, by name.

    Args:
        plan: What the pod gets.
        private_key: Of the leaf.
        chain_pem: Leaf first.
    """
    key = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    found = {"tls.key": key, "tls.crt": chain_pem, "ca.crt": plan.bundle.to_pem()}
    for bundle in plan.partners:
        found[bundle_file(bundle.trust_domain)] = bundle.to_pem()
    return found
