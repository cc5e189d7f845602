# SPDX-License-Identifier: Apache-2.0
"""Pods to create in tests."""

from __future__ import annotations

from typing import Any


def pod(name: str, *, volumes: list[dict[str, Any]] = (), **spec: Any) -> dict[str, Any]:
    """A pod with one container that mounts all `volumes` read-only."""
    mounts = [
        {"name": each["name"], "mountPath": f"/volumes/{each['name']}", "readOnly": True}
        for each in volumes
    ]
    container = {"name": "main", "image": "none.example/main", "volumeMounts": mounts}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "volumes": list(volumes), **spec},
    }


def certificate_volume(signer: str, *, name: str = "kubetls") -> dict[str, Any]:
    """A projected volume with a pod certificate only."""
    source = {
        "signerName": signer,
        "keyType": "ECDSAP256",
        "credentialBundlePath": "credential-bundle.pem",
    }
    return {"name": name, "projected": {"sources": [{"podCertificate": source}]}}
