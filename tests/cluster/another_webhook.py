# SPDX-License-Identifier: Apache-2.0
"""Somebody else's webhook: it adds a container to each pod, as sidecar injectors do."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    container = ""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Answer a review."""
        review = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(self._answer(review["request"])).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        name = self.server.container
        response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
        if not any(each["name"] == name for each in request["object"]["spec"]["containers"]):
            value = {"name": name, "image": "none.example/other"}
            patch = [{"op": "add", "path": "/spec/containers/0", "value": value}]
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(json.dumps(patch).encode()).decode()
        return {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": response,
        }


@contextlib.contextmanager
def adding_container(name: str, certificate: trustme.LeafCert) -> Iterator[int]:
    """Run one that adds a container of a name; yields its port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.container = name
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
