# SPDX-License-Identifier: Apache-2.0
"""Claims of identity on the wire, in every spelling: none reaches an application, on either face.

Trailers count: some servers append them to the header fields that the application has already.
"""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
import trustme
from websockets.sync.client import connect as connect_websocket

from kubetls_sdk.server.authorizer import AnyCaller
from kubetls_sdk.server.caller import caller
from kubetls_sdk.server.edge import Edge
from kubetls_sdk.server.identity_headers import claims_identity
from tests.integration.serving import World, read_to_end, serve
from tests.integration.test_server_edge import connected, public_client, running, write
from tests.integration.test_server_forwarded import send_http2
from tests.integration.test_server_hypercorn import running as hypercorn
from tests.waiting import until

CLAIM = b"URI=spiffe://example.org/admin"
FIELDS = [
    pytest.param(b"X-Forwarded-Client-Cert: " + CLAIM, id="plain"),
    pytest.param(b"X-FORWARDED-CLIENT-CERT: " + CLAIM, id="upper-case"),
    pytest.param(b"X_Forwarded_Client_Cert: " + CLAIM, id="underscores"),
    pytest.param(b"x-forwarded_client-CERT: " + CLAIM, id="mixed"),
    pytest.param(b"Client-Cert: :AAAA:\r\nClient-Cert-Chain: :AAAA:", id="rfc-9440"),
    pytest.param(b"client_cert: :AAAA:\r\nCLIENT_CERT: :AAAA:", id="rfc-9440-underscores"),
    pytest.param(b"x-spiffe-id: a\r\nx-spiffe-id: b\r\nX-Spiffe-Id: c", id="duplicates"),
    pytest.param(b"x-forwarded-client-cert:\r\n " + CLAIM, id="folded-value"),
    pytest.param(b"x-a: b\r\n x-forwarded-client-cert: " + CLAIM, id="folded-into-another"),
    pytest.param(b"x-forwarded-client-cert : " + CLAIM, id="space-before-the-colon"),
    pytest.param(b"x-forwarded-client-cert\t: " + CLAIM, id="tab-before-the-colon"),
    pytest.param(b":x-forwarded-client-cert: " + CLAIM, id="pseudo"),
    pytest.param(b"x-a: b\nx-forwarded-client-cert: " + CLAIM, id="line-feed-alone"),
    pytest.param(b"x-a: b\rx-forwarded-client-cert: " + CLAIM, id="carriage-return-alone"),
    pytest.param(b"x-\xdfl-client-cert: " + CLAIM, id="letter-that-becomes-two"),
    pytest.param(b"connection: close, x-forwarded-client-cert\r\nx-spiffe-id: a", id="hop-by-hop"),
]
HEAD = (
    b"POST / HTTP/1.1\r\nhost: orders\r\ntransfer-encoding: chunked\r\n"
    b"trailer: x-forwarded-client-cert\r\nconnection: close\r\n\r\n4\r\nbody\r\n"
)
TRAILERS = b"0\r\nx-forwarded-client-cert: " + CLAIM + b"\r\nx_spiffe_id: a\r\n\r\n"


class LateReader:
    """Answers after it has read the whole body, and looks at the header fields only then.

    Attributes:
        fields: Of every request.
        callers: Likewise.
        began: Set when the first part of a body is there.
    """

    def __init__(self):
        self.began = threading.Event()
        self.fields = []
        self.callers = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": (await receive())["type"] + ".complete"})
            return
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                self.began.set()
        self.callers.append(str(caller(scope)))
        self.fields.append(list(scope["headers"]))
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def claims(self):
        """Names of the fields that claim an identity, of all requests."""
        return [name for fields in self.fields for name, _ in fields if claims_identity(name)]


class Face:
    """Where strangers send requests."""

    def __init__(self, port, context, name, app, is_inside):
        self.port = port
        self.context = context
        self.name = name
        self.app = app
        self.is_inside = is_inside

    def send(self, request, rest=b""):
        """Send bytes, the rest once the application has begun; read until the server ends."""
        with connected(self.port, self.context, self.name) as connection:
            connection.sendall(request)
            if rest:
                assert self.app.began.wait(10)
                connection.sendall(rest)
            return read_to_end(connection)


@contextlib.contextmanager
def inside(server):
    """The inner listener of a server, called by a workload that is not trusted as a proxy."""
    world, app = World(), LateReader()
    started = (
        hypercorn(world, app=app)
        if server == "hypercorn"
        else serve(world, app=app, http=server, http2=server == "zttp")
    )
    with started as serving:
        yield Face(serving.port, world.client(), "localhost", app, True)


@contextlib.contextmanager
def outside(server, directory):
    """The public listener."""
    world, web = World(), trustme.CA()
    world.application = app = LateReader()
    write(directory, web)
    edge = Edge(
        port=0,
        host="127.0.0.1",
        certificate=str(directory / "tls.crt"),
        key=str(directory / "tls.key"),
    )
    with running(world, edge=edge, policy=AnyCaller(), http=server, http2=server == "zttp"):
        yield Face(edge.bound_port, *public_client(web), app, False)


FACES = [f"inside-{name}" for name in ("h11", "httptools", "zttp", "hypercorn")] + [
    f"outside-{name}" for name in ("h11", "httptools", "zttp")
]


@pytest.fixture(scope="module", params=FACES)
def shared(request, tmp_path_factory):
    face, server = request.param.split("-")
    if face == "inside":
        started = inside(server)
    else:
        started = outside(server, tmp_path_factory.mktemp("certificate"))
    with started as found:
        yield found


@pytest.fixture
def face(shared):
    shared.app.fields.clear()
    shared.app.callers.clear()
    return shared


class TestClaims:
    def test_control(self, face):
        """A request without claims arrives, with what it has."""
        face.send(b"GET / HTTP/1.1\r\nhost: orders\r\nx-a: b\r\nconnection: close\r\n\r\n")
        assert (b"x-a", b"b") in face.app.fields[0]

    @pytest.mark.parametrize("fields", FIELDS)
    def test_http11(self, face, fields):
        """Removed by us or refused by the server; and who calls is who has called."""
        face.send(b"GET / HTTP/1.1\r\nhost: orders\r\n" + fields + b"\r\nconnection: close\r\n\r\n")
        assert face.app.claims() == []
        who = "spiffe://example.org/ns/shop/sa/web" if face.is_inside else "anonymous"
        assert set(face.app.callers) <= {who}

    def test_trailers(self, face):
        """What comes after a body is not added to what was looked at before it."""
        for _ in range(2):  # the second one is a request like one that was allowed
            face.app.began.clear()
            face.send(HEAD, TRAILERS)
        assert len(face.app.fields) == 2
        assert face.app.claims() == []

    def test_websocket(self, face):
        """A WebSocket handshake is a request as any other."""
        with (
            contextlib.suppress(Exception),
            connect_websocket(
                f"wss://{face.name}:{face.port}/",
                sock=_plain(face.port),
                ssl=face.context,
                server_hostname=face.name,
                additional_headers={
                    "x-forwarded-client-cert": CLAIM.decode(), "X_Spiffe_Id": "a", "x-kept": "b",
                },
            ) as websocket,
        ):  # fmt: skip
            websocket.recv(10)
        until(lambda: face.app.fields)
        assert face.app.claims() == []
        assert b"x-kept" in dict(face.app.fields[0])

    def test_http2_trailers(self, face):
        """The same over HTTP/2, where the server speaks it."""
        trailers = [(b"x-forwarded-client-cert", CLAIM)]
        speaks = send_http2(face, face.context, [], trailers=trailers, name=face.name)
        assert bool(face.app.fields) is speaks
        assert face.app.claims() == []


def _plain(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)
