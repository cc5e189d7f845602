# SPDX-License-Identifier: Apache-2.0
"""End users on real servers: tokens on the wire, streams that end with them, `kubetls serve`."""

from __future__ import annotations

import json
import time

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_websocket

from kubetls_sdk import TrustDomain
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.server.edge import Edge
from kubetls_sdk.testing import KubeletVolume
from kubetls_sdk.users import InlineKeys, Issuer, Users, UserSettings
from tests.integration.serving import World, exchange, read_to_end, serve
from tests.integration.test_server_command import APPLICATION, connected, serving
from tests.integration.test_server_edge import certificate, public_client, running, web_pki
from tests.integration.test_server_edge import connected as at_edge
from tests.tokens import AUDIENCE, ISSUER, Signer, base64url
from tests.waiting import until

__all__ = ("certificate", "web_pki")  # fixtures

SIGNER = Signer("ES256")
RULES = """
version: 1
policies:
  - name: orders
    allow:
      - name: web-calls
        from: {namespace: shop, serviceAccount: web}
        to: [{methods: GET, paths: ["/", /stream]}, {websocket: true, paths: /}]
      - name: public
        from: {namespace: shop, serviceAccount: web}
        to: {methods: GET, paths: /public}
        user: optional
"""
POLICY = PolicySet.parse({"p.yaml": RULES}, trust_domain=TrustDomain("example.org"))


def get(path="/", *tokens):
    lines = [f"GET {path} HTTP/1.1".encode(), b"host: orders"]
    lines += [b"authorization: Bearer " + token for token in tokens]
    return b"\r\n".join([*lines, b"", b""])


@pytest.fixture
def world():
    return World()


@pytest.fixture
def users():
    keys = InlineKeys.parse(SIGNER.jwks())
    issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=keys, leeway_seconds=0)
    with Users(UserSettings(issuers=(issuer,))) as opened:
        yield opened


@pytest.fixture
def server(world, users):
    options = {"middleware": {"users": users, "user_grace": 0.2}}
    with serve(world, policy=POLICY, **options) as running:
        yield running


class TestWire:
    def test_one_connection(self, world, server):
        """A refused token is no end of the connection: the next request may have a better one."""
        connection = server.connect(world.client())
        status, headers, body = exchange(connection, get("/", SIGNER.token(exp=1)))
        assert (status, headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
        assert json.loads(body)["title"] == "Unauthorized"
        assert exchange(connection, get("/"))[1]["www-authenticate"] == "Bearer"
        assert exchange(connection, get("/public"))[0] == 200
        assert exchange(connection, get("/", SIGNER.token()))[0] == 200
        assert exchange(connection, get("/", SIGNER.token(), SIGNER.token()))[0] == 401

    def test_bound(self, world, server):
        """A token that is bound to a certificate is worth nothing to who stole it."""
        mine = world.ca.issue("/ns/shop/sa/web")
        digest = base64url(mine.chain[0].fingerprint(SHA256())).decode()
        request = get("/", SIGNER.token(cnf={"x5t#S256": digest}))
        assert exchange(server.connect(world.client(mine)), request)[0] == 200
        assert exchange(server.connect(world.client()), request)[0] == 401

    def test_stream(self, world, server):
        """A stream ends with the token of its user, for the client and for the application."""
        connection = server.connect(world.client())
        began = time.monotonic()
        connection.sendall(get("/stream", SIGNER.token(exp=int(time.time()) + 2)))
        assert b"tick" in read_to_end(connection)
        assert time.monotonic() - began < 8
        assert world.application.ended.wait(5)

    def test_websocket(self, world, server):
        """A WebSocket needs a user at its start, and ends with the token."""
        url = f"wss://localhost:{server.port}/"
        with pytest.raises(InvalidStatus), connect_websocket(url, ssl=world.client()):
            pass
        token = SIGNER.token(exp=int(time.time()) + 2).decode()
        headers = {"authorization": f"Bearer {token}"}
        with connect_websocket(url, ssl=world.client(), additional_headers=headers) as socket:
            socket.send("hello")
            assert "hello" in socket.recv(5)
            with pytest.raises(ConnectionClosed) as caught:
                socket.recv(8)
        assert caught.value.rcvd.code == 1008
        assert world.application.ended.wait(5)


class TestEdge:
    def test_people_at_the_edge(self, world, web_pki, certificate):
        """At the edge the caller is anonymous and the user is not: a token is all that counts."""
        text = RULES.replace("{namespace: shop, serviceAccount: web}", "{anonymous: true}")
        policy = PolicySet.parse({"p.yaml": text}, trust_domain=TrustDomain("example.org"))
        keys = InlineKeys.parse(SIGNER.jwks())
        settings = UserSettings(issuers=(Issuer(name=ISSUER, audiences=AUDIENCE, keys=keys),))
        edge = Edge(port=0, host="127.0.0.1", **certificate)
        with (
            running(world, policy=policy, edge=edge, users=settings),
            at_edge(edge.bound_port, *public_client(web_pki)) as connection,
        ):
            assert exchange(connection, get("/", SIGNER.token()))[0] == 200
            assert exchange(connection, get("/"))[0] == 401
            bound = SIGNER.token(cnf={"x5t#S256": "A" * 43})
            assert exchange(connection, get("/", bound))[0] == 401


class TestServeCommand:
    @pytest.fixture
    def directory(self, tmp_path, world):
        volume = KubeletVolume(tmp_path / "volume")
        volume.write_svid(world.source.snapshot.svid, [world.ca.bundle])
        (tmp_path / "orders.py").write_text(APPLICATION)
        (tmp_path / "policy.yaml").write_text(RULES)
        (tmp_path / "jwks.json").write_text(SIGNER.jwks())
        (tmp_path / "users.yaml").write_text(
            f"version: 1\nissuers:\n  - issuer: {ISSUER}\n    audiences: {AUDIENCE}\n"
            "    keys: {file: jwks.json}\n"
        )
        return tmp_path

    def test_users_file(self, world, directory):
        """`--users` authenticates, and a key that is taken out of its file is refused soon."""
        with serving(directory, "--users", "users.yaml") as command:
            port = command.port()
            with connected(world, port) as connection:
                request = get("/", SIGNER.token())
                assert exchange(connection, request)[0] == 200
                assert exchange(connection, get("/"))[0] == 401
                (directory / "jwks.json").write_text(Signer("ES256", number=1).jwks())
                until(lambda: exchange(connection, request)[0] == 401)
        assert "Traceback" not in command.text

    @pytest.mark.parametrize(
        ("file", "change", "message"),
        [
            pytest.param("users.yaml", ("audiences", "audience"), "audience", id="users file"),
            pytest.param("jwks.json", ('"keys"', '"kees"'), "jwks.json", id="key file"),
            pytest.param(
                "policy.yaml",
                ("user: optional", "when: user.iss == 'https://other.test/'"),
                "user.iss",
                id="policy of other users",
            ),
        ],
    )
    def test_mistakes(self, directory, file, change, message):
        """What cannot be used ends the start with one line that says what."""
        path = directory / file
        path.write_text(path.read_text().replace(*change))
        with serving(directory, "--users", "users.yaml") as command:
            assert command.wait() != 0
        assert message in command.text
        assert "Traceback" not in command.text
