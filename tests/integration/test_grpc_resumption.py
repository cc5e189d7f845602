# SPDX-License-Identifier: Apache-2.0
"""gRPC's server hands out session tickets: a resumed connection is judged like any other."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import timedelta

import h2.config
import h2.connection
import h2.events
import pytest

from tests.integration.grpc_world import World, path, serve
from tests.waiting import until

OK, UNAUTHENTICATED = "0", "16"
VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
both = pytest.mark.parametrize("kind", ["threaded", "async"])


@pytest.fixture
def world():
    return World()


class Client:
    """A client that keeps its session, as those of other languages may."""

    def __init__(self, directory, svid, version):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.maximum_version = version
        self._context.set_alpn_protocols(["h2"])
        file = directory / "svid.pem"
        file.write_bytes(svid.private_key_pem() + svid.certificates_pem())
        self._context.load_cert_chain(file)
        self._session = None

    def call(self, port):
        """Make a call over a new connection; returns whether it was resumed, status, answer."""
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        with self._context.wrap_socket(raw, session=self._session) as connection:
            status, answer = _exchange(connection)
            is_resumed = connection.session_reused
            self._session = connection.session
            return is_resumed, status, answer


def _exchange(connection):
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    http2.initiate_connection()
    headers = {
        ":method": "POST", ":scheme": "https", ":path": path("unary_unary"),
        ":authority": "localhost", "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    http2.send_headers(1, list(headers.items()))
    http2.send_data(1, b"\0\0\0\0\1a", end_stream=True)
    connection.sendall(http2.data_to_send())
    status, answer = None, b""
    while status is None:
        received = connection.recv(65536)
        if not received:
            return "closed", answer
        for event in http2.receive_data(received):
            if isinstance(event, h2.events.DataReceived):
                answer += event.data[5:]
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                status = dict(event.headers).get("grpc-status", status)
        connection.sendall(http2.data_to_send())
    return status, answer


@VERSIONS
@both
class TestResumption:
    def test_identity(self, world, kind, version, tmp_path):
        """A resumed connection is known by the certificate of its first handshake."""
        client = Client(tmp_path, world.ca.issue("/ns/shop/sa/web"), version)
        with serve(world, kind, allow_tls12=True) as serving:
            answers = [client.call(serving.port) for _ in range(2)]
        assert answers[1][0] is True
        for _, status, answer in answers:
            assert (status, answer) == (OK, b"spiffe://example.org/ns/shop/sa/web a")

    def test_chain(self, world, kind, version, tmp_path):
        """Its intermediates are known as well."""
        svid = world.ca.issue("/ns/shop/sa/web", intermediates=2)
        client = Client(tmp_path, svid, version)
        with serve(world, kind, allow_tls12=True) as serving:
            assert [client.call(serving.port)[:2] for _ in range(2)] == [(False, OK), (True, OK)]

    def test_removed_root(self, world, kind, version, tmp_path):
        """Once its root is removed it gets nowhere, resumed or not."""
        client = Client(tmp_path, world.ca.issue("/ns/shop/sa/web"), version)
        with serve(world, kind, allow_tls12=True) as serving:
            assert client.call(serving.port)[1] == OK
            world.distrust()
            try:
                _, status, answer = client.call(serving.port)
            except OSError:  # the server ended the handshake
                return
            assert (status in (UNAUTHENTICATED, "closed"), answer) == (True, b"")

    def test_expired(self, world, kind, version, tmp_path):
        """Nor does one whose certificate has expired meanwhile."""
        svid = world.ca.issue("/ns/shop/sa/web", ttl=timedelta(seconds=2))
        client = Client(tmp_path, svid, version)
        with serve(world, kind, allow_tls12=True) as serving:
            assert client.call(serving.port)[1] == OK
            until(lambda: time.time() > svid.not_after.timestamp() + 0.1, timeout=5)
            try:
                _, status, answer = client.call(serving.port)
            except OSError:
                return
            assert (status in (UNAUTHENTICATED, "closed"), answer) == (True, b"")


class TestTls12:
    @both
    def test_refused(self, world, kind, tmp_path):
        """Who comes over TLS 1.2 is not served, on new connections and on resumed ones."""
        old = Client(tmp_path, world.ca.issue("/ns/shop/sa/web"), ssl.TLSVersion.TLSv1_2)
        new = Client(tmp_path, world.ca.issue("/ns/shop/sa/web"), ssl.TLSVersion.TLSv1_3)
        with serve(world, kind) as serving:
            assert [old.call(serving.port)[1] for _ in range(2)] == [UNAUTHENTICATED] * 2
            assert new.call(serving.port)[1] == OK
            assert serving.orders.seen == [b"a"]
