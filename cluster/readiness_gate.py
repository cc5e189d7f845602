# SPDX-License-Identifier: Apache-2.0
"""Lets the pods of hollow nodes be ready when their processes are: those nodes probe nothing.

A Deployment whose pods carry the gate takes no old pod away before the new one's process answers
its readiness probe, as on a node that probes.

Spec: Kubernetes, pod readiness gates; HTTPGetAction.
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.api import Api

__all__ = ("GATE", "answers_probe", "gated", "is_waiting", "open_gate")

GATE: Final = "cluster.kubetls.gauntletwizard.net/answers"
_PROBE_SECONDS = 1.0
_OK = range(200, 400)


def gated(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest, a Deployment with the gate on its pods."""
    if manifest["kind"] != "Deployment":
        return manifest
    template = manifest["spec"]["template"]
    spec = {**template["spec"], "readinessGates": [{"conditionType": GATE}]}
    return {**manifest, "spec": {**manifest["spec"], "template": {**template, "spec": spec}}}


def is_waiting(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod has the gate, and it is shut."""
    gates = pod["spec"].get("readinessGates", ())
    conditions = pod["status"].get("conditions", ())
    is_open = any(each["type"] == GATE and each["status"] == "True" for each in conditions)
    return any(each["conditionType"] == GATE for each in gates) and not is_open


def answers_probe(pod: Mapping[str, Any], ports: Mapping[str, int]) -> bool:
    """Ask the first container's readiness probe over HTTP; one without any is ready.

    Args:
        pod: The running pod.
        ports: The container's ports, and the ones of this machine that stand for them.
    """
    container = pod["spec"]["containers"][0]
    probe = container.get("readinessProbe", {}).get("httpGet")
    if probe is None:
        return True
    named = {each.get("name"): each["containerPort"] for each in container.get("ports", ())}
    number = named.get(probe["port"], probe["port"])
    connection = http.client.HTTPConnection(
        "127.0.0.1", ports.get(str(number), number), timeout=_PROBE_SECONDS
    )
    try:
        connection.request("GET", probe.get("path", "/"))
        return connection.getresponse().status in _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def open_gate(api: Api, pod: Mapping[str, Any]) -> None:
    """Say in a pod's status that its process answers.

    Raises:
        ApiStatusError: The API server refused.
    """
    metadata = pod["metadata"]
    condition = {"type": GATE, "status": "True"}
    api.patch(
        f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status",
        {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [condition]}},
    )
