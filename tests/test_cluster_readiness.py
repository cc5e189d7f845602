# SPDX-License-Identifier: Apache-2.0
"""Pods of hollow nodes are ready when their processes answer, not before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from cluster.readiness_gate import GATE, answers_probe, gated, is_waiting

DEPLOYMENT = {"kind": "Deployment", "spec": {"template": {"spec": {"containers": []}}}}


class _Probed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """A process that answers at /readyz."""
    server = HTTPServer(("127.0.0.1", 0), _Probed)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def pod(**probe: Any) -> dict[str, Any]:
    """A pod with the gate, whose container has a probe."""
    container = {"ports": [{"name": "health", "containerPort": 8080}]}
    if probe:
        container["readinessProbe"] = {"httpGet": probe}  # type: ignore[assignment]
    spec = {"containers": [container], "readinessGates": [{"conditionType": GATE}]}
    return {"spec": spec, "status": {}}


class TestGated:
    def test_deployment(self) -> None:
        """The pods of a Deployment get the gate, and it stays as it was."""
        spec = gated(DEPLOYMENT)["spec"]["template"]["spec"]
        assert spec == {"containers": [], "readinessGates": [{"conditionType": GATE}]}
        assert DEPLOYMENT["spec"] == {"template": {"spec": {"containers": []}}}

    def test_others(self) -> None:
        """Nothing else is changed."""
        assert gated({"kind": "Service"}) == {"kind": "Service"}


class TestIsWaiting:
    @pytest.mark.parametrize(
        ("status", "waits"),
        [
            pytest.param({}, True, id="nothing-said"),
            pytest.param({"conditions": [{"type": GATE, "status": "False"}]}, True, id="shut"),
            pytest.param({"conditions": [{"type": "Ready", "status": "True"}]}, True, id="other"),
            pytest.param({"conditions": [{"type": GATE, "status": "True"}]}, False, id="open"),
        ],
    )
    def test_with_gate(self, status: dict[str, Any], waits: bool) -> None:
        """A gate is shut until its condition is true."""
        assert is_waiting({**pod(), "status": status}) is waits

    def test_without_gate(self) -> None:
        """A pod without the gate waits for nothing."""
        assert not is_waiting({"spec": {}, "status": {}})


class TestAnswersProbe:
    @pytest.mark.parametrize("name", ["health", 8080])
    def test_yes(self, port: int, name: str | int) -> None:
        """The port of the probe, by name or number, is the one that stands for it here."""
        assert answers_probe(pod(path="/readyz", port=name), {"8080": port})

    def test_not_ready(self, port: int) -> None:
        """An answer that says no is no."""
        assert not answers_probe(pod(path="/other", port="health"), {"8080": port})

    def test_nobody_listens(self, port: int) -> None:
        """A process that does not listen yet is not ready."""
        assert not answers_probe(pod(path="/readyz", port="health"), {"8080": 1})

    def test_no_probe(self) -> None:
        """A container without a probe is ready when it runs, as Kubernetes has it."""
        assert answers_probe(pod(), {})
