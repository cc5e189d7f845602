# SPDX-License-Identifier: Apache-2.0
"""uvicorn over mutual TLS: every HTTP and WebSocket implementation on both event loops."""

from __future__ import annotations

import importlib
import ssl
import warnings

import httpx
import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from kubetls_sdk import TrustBundleSet
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.mutual_tls import MutualTls
from tests.integration.serving import (
    GET,
    World,
    exchange,
    read_to_end,
    run_in_thread,
    serve,
    stock_context,
)
from tests.waiting import until

LOOPS = ["asyncio", "uvloop"]
HTTP = [
    pytest.param({"http": "h11"}, id="h11"),
    pytest.param({"http": "httptools"}, id="httptools"),
    pytest.param({"http": "zttp"}, id="zttp"),
]
with warnings.catch_warnings():
    # One of uvicorn's implementations is deprecated; it is imported here so that the rest of the
    # tests keep warnings as errors.
    warnings.simplefilter("ignore")
    importlib.import_module("uvicorn.protocols.websockets.websockets_impl")


@pytest.fixture
def world():
    return World()


class TestHttp:
    @pytest.mark.parametrize("loop", LOOPS)
    @pytest.mark.parametrize("settings", HTTP)
    def test_http11(self, world, settings, loop):
        """The application knows the caller, on each implementation and loop, kept alive or not."""
        with serve(world, options={"loop": loop}, **settings) as serving:
            for _ in range(10):
                connection = serving.connect(world.client())
                for _ in range(3):
                    status, _, body = exchange(connection)
                    assert (status, body) == (200, b"spiffe://example.org/ns/shop/sa/web")
                connection.close()
        assert len(world.application.scopes) == 30

    @pytest.mark.parametrize("loop", LOOPS)
    def test_http2(self, world, loop):
        """HTTP/2 is chosen by ALPN, and many streams of a connection know its caller."""
        with (
            serve(world, http="zttp", http2=True, options={"loop": loop}) as serving,
            httpx.Client(http1=False, http2=True, verify=world.client()) as client,
        ):
            for _ in range(5):
                response = client.get(f"https://localhost:{serving.port}/")
                assert response.http_version == "HTTP/2"
                assert response.text == "spiffe://example.org/ns/shop/sa/web"

    @pytest.mark.parametrize("loop", LOOPS)
    def test_request_in_the_handshake_flight(self, world, loop):
        """What a client sends together with its last handshake message is not lost."""
        with serve(world, options={"loop": loop}) as serving:
            for _ in range(20):
                connection = serving.connect(world.client())
                connection.sendall(GET + GET + GET)
                received = b""
                while received.count(b"HTTP/1.1 200") < 3:
                    received += connection.recv(65536)
                connection.close()
        assert len(world.application.scopes) == 60

    def test_large_body(self, world):
        """A body of many TLS records arrives whole."""
        received = []

        async def app(scope, receive, send):
            body = b""
            while (message := await receive()).get("more_body") or message.get("body"):
                body += message["body"]
                if not message.get("more_body"):
                    break
            received.append(body)
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        body = bytes(range(256)) * 8192
        with serve(world, app=app, options={"lifespan": "off"}) as serving:
            connection = serving.connect(world.client())
            head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
            assert exchange(connection, head + body)[0] == 204
        assert received == [body]

    def test_tls_extension(self, world):
        """The scope has all fields of the ASGI TLS extension that can be known."""
        web = world.ca.issue("/ns/shop/sa/web", common_name="web-1", intermediates=1)
        with serve(world) as serving:
            exchange(serving.connect(world.client(web)))
        tls = world.application.scopes[0]["extensions"]["tls"]
        chain = tls.pop("client_cert_chain")
        pems = [pem.strip() for pem in web.certificates_pem().decode().split("\n\n")]
        assert "".join(chain[:2]).replace("\n", "") == "".join(pems).replace("\n", "")
        assert tls == {
            "server_cert": ssl.DER_cert_to_PEM_cert(
                ssl.PEM_cert_to_DER_cert(world.source.snapshot.svid.certificates_pem().decode())
            ),
            "client_cert_name": "CN=web-1",
            "client_cert_error": None,
            "tls_version": 0x0304,
            "cipher_suite": 0x1302,
        }

    def test_new_generation_for_new_connections(self, world):
        """A new SVID is presented to the next connection; a living one goes on."""
        with serve(world) as serving:
            old = serving.connect(world.client())
            before = old.getpeercert(binary_form=True)
            world.source.replace(svid=world.ca.issue("/ns/shop/sa/orders"))
            new = serving.connect(world.client())
            assert new.getpeercert(binary_form=True) != before
            assert exchange(old)[0] == exchange(new)[0] == 200

    def test_optional_certificates(self, world):
        """In optional mode a client without certificate is an anonymous caller."""
        middleware = {"optional": True, "anonymous_paths": ["/"]}
        with serve(world, client_cert="optional", middleware=middleware) as serving:
            anonymous = serving.connect(stock_context(None, world.ca.bundle))
            assert exchange(anonymous)[2] == b"anonymous"
            denied = exchange(anonymous, GET.replace(b" / ", b" /private "))
            assert denied[0] == 403
            assert exchange(serving.connect(world.client()))[2].endswith(b"/sa/web")

    def test_optional_does_not_mean_unverified(self, world):
        """In optional mode a certificate that is presented has to be right all the same."""
        forged = world.partner.issue_for("example.org", "/ns/shop/sa/web")
        with serve(world, client_cert="optional", middleware={"optional": True}) as serving:
            connection = serving.connect(stock_context(forged, world.ca.bundle))
            with pytest.raises((ConnectionError, ssl.SSLError)):
                exchange(connection)
        assert world.application.scopes == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of one of the implementations
class TestWebSocket:
    @pytest.mark.parametrize("loop", LOOPS)
    @pytest.mark.parametrize("ws", ["websockets", "websockets-sansio", "wsproto"])
    @pytest.mark.parametrize("http", ["h11", "httptools"])
    def test_echo(self, world, http, ws, loop):
        """WebSockets know their caller, on each implementation and loop."""
        with (
            serve(world, http=http, options={"ws": ws, "loop": loop}) as serving,
            connect_websocket(f"wss://localhost:{serving.port}/", ssl=world.client()) as socket,
        ):
            socket.send("hello")
            assert socket.recv(10) == "spiffe://example.org/ns/shop/sa/web hello"

    @pytest.mark.parametrize("ws", ["websockets", "websockets-sansio", "wsproto"])
    def test_removed_root(self, world, ws):
        """A WebSocket whose peer's root was removed is closed with code 1008."""
        with (
            serve(world, stream_recheck=1.0, options={"ws": ws}) as serving,
            connect_websocket(f"wss://localhost:{serving.port}/", ssl=world.client()) as socket,
        ):
            socket.send("hello")
            socket.recv(10)
            world.distrust()
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
            assert world.application.ended.wait(10)


REFUSED = [
    pytest.param(
        lambda world: None, "presented no certificate", None, id="no-certificate"
    ),
    pytest.param(
        lambda world: world.ca.issue_faulty("expired", "/ns/shop/sa/web"),
        "certificate has expired", "spiffe://example.org/ns/shop/sa/web", id="expired",
    ),
    pytest.param(
        lambda world: World().ca.issue("/ns/shop/sa/web"),
        "its issuer is unknown", "spiffe://example.org/ns/shop/sa/web", id="untrusted-root",
    ),
    pytest.param(
        lambda world: world.partner.issue_for("example.org", "/ns/shop/sa/web"),
        "another trust domain", "spiffe://example.org/ns/shop/sa/web", id="forged",
    ),
    pytest.param(
        lambda world: world.ca.issue_faulty("two_uris"), "one URI SAN", None, id="two-uris"
    ),
    pytest.param(
        lambda world: world.ca.issue_faulty("ca_leaf", "/ns/shop/sa/web"),
        "", "spiffe://example.org/ns/shop/sa/web", id="ca-leaf",
    ),
]  # fmt: skip


class TestRefusedHandshake:
    @pytest.mark.parametrize("loop", LOOPS)
    @pytest.mark.parametrize(("attacker", "reason", "claim"), REFUSED)
    def test_nothing_arrives_and_a_line_is_logged(
        self, world, caplog, attacker, reason, claim, loop
    ):
        """A refused peer reaches nothing; the log has its address, its claim and the reason."""
        with serve(world, options={"loop": loop}) as serving:
            # What a peer presents is recorded from the first refusal on.
            for _ in range(2):
                caplog.clear()
                connection = serving.connect(stock_context(attacker(world), world.ca.bundle))
                address = "{}:{}".format(*connection.getsockname())
                with pytest.raises((ConnectionError, ssl.SSLError)):
                    exchange(connection)
                until(lambda: caplog.records)
        assert world.application.scopes == []
        (record,) = (r for r in caplog.records if r.name == "kubetls_sdk.server")
        assert (record.event, record.address) == ("handshake", address)
        assert reason in record.reason
        assert record.spiffe_id == claim

    def test_plain_http(self, world, caplog):
        """Plain HTTP on the TLS port is refused with a line in the log."""
        with serve(world) as serving:
            plain = serving.connect_plain()
            plain.sendall(GET)
            assert b"HTTP" not in read_to_end(plain)
            until(lambda: caplog.records)
        assert "TLS failed" in caplog.text
        assert world.application.scopes == []

    def test_chain_of_a_hundred(self, world):
        """A path of a hundred certificates is refused, and the server serves on."""
        long = world.ca.issue_faulty("client_only_eku", intermediates=98)
        with serve(world) as serving:
            with pytest.raises((ConnectionError, ssl.SSLError)):
                exchange(serving.connect(stock_context(long, world.ca.bundle)))
            assert exchange(serving.connect(world.client()))[0] == 200

    def test_tls12(self, world):
        """TLS 1.2 is refused unless it was asked for."""
        old = stock_context(world.ca.issue("/ns/shop/sa/web"), world.ca.bundle)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with serve(world) as serving, pytest.raises((ConnectionError, ssl.SSLError)):
            serving.connect(old)
        with serve(world, allow_tls12=True) as serving:
            assert exchange(serving.connect(old))[0] == 200


class TestResumption:
    @pytest.mark.parametrize("allow_tls12", [False, True], ids=["tls13", "tls12"])
    def test_nothing_is_resumed(self, world, allow_tls12):
        """A client that keeps a session cannot use it for another connection."""
        context = stock_context(world.ca.issue("/ns/shop/sa/web"), world.ca.bundle)
        if allow_tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        with serve(world, allow_tls12=allow_tls12) as serving:
            first = serving.connect(context)
            exchange(first)
            second = serving.connect(context, session=first.session)
            assert not second.session_reused
            world.distrust()
            with pytest.raises((ConnectionError, ssl.SSLError)):
                exchange(serving.connect(context, session=first.session))

    def test_control_stock_uvicorn_resumes(self, world, tmp_path):
        """The attack is real: stock uvicorn resumes the session of a client."""
        svid = world.source.snapshot.svid
        (tmp_path / "server.pem").write_bytes(svid.certificates_pem() + svid.private_key_pem())
        (tmp_path / "ca.pem").write_bytes(world.ca.bundle.to_pem())
        config = uvicorn.Config(
            world.application,
            ssl_certfile=tmp_path / "server.pem",
            ssl_ca_certs=tmp_path / "ca.pem",
            ssl_cert_reqs=ssl.CERT_REQUIRED,
            log_config=None,
        )
        context = stock_context(world.ca.issue("/ns/shop/sa/web"), world.ca.bundle)
        with run_in_thread(config) as serving:
            first = serving.connect(context)
            first.sendall(GET)
            first.recv(65536)
            assert serving.connect(context, session=first.session).session_reused


class TestOwnListener:
    """`ssl_context_factory`, for those who want TLS from uvicorn's own listener."""

    @pytest.mark.parametrize("loop", LOOPS)
    @pytest.mark.parametrize(
        ("http", "http2"), [("h11", False), ("httptools", False), ("zttp", True)]
    )
    def test_identity_and_refusal(self, world, caplog, loop, http, http2):
        """Identities arrive and refusals are logged, without more than the one hook."""
        tls = MutualTls(source=world.source)
        config = uvicorn.Config(
            KubeTLSMiddleware(world.application, policy=AnyVerified()),
            ssl_context_factory=tls.ssl_context,
            http=http,
            http2=http2,
            loop=loop,
            log_config=None,
        )
        with run_in_thread(config) as serving:
            with httpx.Client(http2=http2, verify=world.client()) as client:
                response = client.get(f"https://localhost:{serving.port}/")
                assert response.text == "spiffe://example.org/ns/shop/sa/web"
                assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            anonymous = serving.connect(stock_context(None, world.ca.bundle))
            with pytest.raises((ConnectionError, ssl.SSLError)):
                exchange(anonymous)
        tls.close()
        assert "refused handshake of a peer: it presented no certificate" in caplog.text

    def test_without_any_hook(self, world, caplog, tmp_path):
        """The middleware alone refuses everything, and says what is missing."""
        config = uvicorn.Config(
            KubeTLSMiddleware(world.application, policy=AnyVerified()), log_config=None
        )
        with run_in_thread(config) as serving:
            plain = serving.connect_plain()
            plain.sendall(GET)
            assert plain.recv(65536).startswith(b"HTTP/1.1 500 ")
        assert world.application.scopes == []
        assert "MutualTls()" in caplog.text


class TestEmptyTrust:
    def test_an_empty_bundle_trusts_nobody(self, world):
        """Without any root nobody gets in, and the server goes on for when there is one again."""
        with serve(world) as serving:
            world.source.replace(bundles=TrustBundleSet())
            with pytest.raises((ConnectionError, ssl.SSLError)):
                exchange(serving.connect(world.client()))
            world.source.replace(bundles=TrustBundleSet([world.ca.bundle]))
            assert exchange(serving.connect(world.client()))[0] == 200
