# SPDX-License-Identifier: Apache-2.0
"""The little world in which the code of the documentation runs.

There is a mounted volume for `web` (in `KUBETLS_DIR` and as `web` in the current directory), and a
service `orders` behind the name `orders.shop.svc`, port 8443, which answers every GET with 200.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.context import server_context
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pytest

    from tests.markdown import Block


class Orders(http.server.BaseHTTPRequestHandler):
    """Answers like the application of the quickstart."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.request.do_handshake()  # here, in the thread of this connection
        super().setup()

    def do_GET(self) -> None:
        body = json.dumps({"id": "42"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Ends quietly what a client cut off."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: refused clients are part of the documentation."""


@contextlib.contextmanager
def stage(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the world in a directory, and make it the current one."""
    ca = DevelopmentCA("example.org")
    web = KubeletVolume(directory / "web")
    web.write_svid(ca.issue("/ns/shop/sa/web", dns_names=["web.shop.svc"]), [ca.bundle])
    monkeypatch.chdir(directory)
    monkeypatch.setenv("KUBETLS_DIR", str(web.directory))
    svid = ca.issue("/ns/shop/sa/orders", dns_names=["orders.shop.svc"])
    with _served(StaticSource(svid, TrustBundleSet([ca.bundle]))) as port:
        _redirect_names(monkeypatch, port)
        yield


_APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""
_POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - {name: web, from: {namespace: shop, serviceAccount: web}, to: {paths: "/**"}}
"""


def application(directory: Path, shown: Sequence[Block]) -> None:
    """Write the files that the servers of a page take: those that it shows, and usual ones."""
    (directory / "orders").mkdir()
    (directory / "orders/app.py").write_text(_APPLICATION, encoding="utf-8")
    (directory / "policy.yaml").write_text(_POLICY, encoding="utf-8")
    for block in shown:
        if block.title:
            (directory / block.title).write_text(block.code, encoding="utf-8")


def partners_files(directory: Path) -> None:
    """Write what signing for a partner needs: our CA with its key, the partner's CA, a CSR."""
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    ours = DevelopmentCA("example.org").root
    key = ours.private_key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    partner = DevelopmentCA("partner.example").root
    (directory / "ca.pem").write_bytes(ours.certificate.public_bytes(pem))
    (directory / "ca.key").write_bytes(key)
    (directory / "partner-ca.pem").write_bytes(partner.certificate.public_bytes(pem))
    (directory / "orders.csr").write_bytes(signed.public_bytes(pem))


@contextlib.contextmanager
def _served(source: StaticSource) -> Iterator[int]:
    server = Server(("127.0.0.1", 0), Orders)
    server.socket = server_context(source).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _redirect_names(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    resolve = socket.getaddrinfo

    def getaddrinfo(host: object, service: object, *args: object, **kwargs: object) -> object:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.rstrip(".").endswith(".svc"):
            return resolve("127.0.0.1", port, *args, **kwargs)
        return resolve(host, service, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
