# SPDX-License-Identifier: Apache-2.0
"""Keys over real https: from issuers that are slow, huge, elsewhere, failing or rotating."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import logging
import ssl
import threading
import time

import pytest

from kubetls_sdk.users import Issuer, KeyUrl, TokenRefused, User, Users, UserSettings
from kubetls_sdk.users.jwks_request import FetchError, JwksRequest
from kubetls_sdk.users.key_set import MAX_TEXT_BYTES
from tests.integration.bundle_server import drip_head, hold, web_context
from tests.tokens import AUDIENCE, ISSUER, Signer, bearer

ONE, TWO = Signer("ES256"), Signer("ES256", kid="k2", number=1)


class Issuing(http.server.ThreadingHTTPServer):
    """An issuer that answers as a test wants."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.body = ONE.jwks().encode()
        self.headers = {}
        self.status = 200
        self.paths = []
        self.client_certificates = []
        self.authorizations = []
        self.act = None
        self.released = threading.Event()

    def handle_error(self, request, client_address):
        """Clients that hang up are expected."""


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        issuing = self.server
        issuing.paths.append(self.path)
        issuing.client_certificates.append(self.connection.getpeercert())
        issuing.authorizations.append(self.headers.get("authorization"))
        if issuing.act is not None and not issuing.act(self):
            return
        self.send_response(issuing.status)
        for name, value in {"content-length": len(issuing.body), **issuing.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(issuing.body)

    def log_message(self, *_):
        """Quiet."""


@contextlib.contextmanager
def serving(ca, *names):
    context = web_context(ca, *names)
    context.verify_mode = ssl.CERT_OPTIONAL  # It asks; nobody has to answer.
    with Issuing() as issuing:
        issuing.socket = context.wrap_socket(issuing.socket, server_side=True)
        thread = threading.Thread(target=issuing.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield issuing
        finally:
            issuing.released.set()
            issuing.shutdown()
            thread.join(5)


@pytest.fixture
def issuing(web_ca):
    with serving(web_ca, "localhost", "127.0.0.1") as server:
        yield server


@pytest.fixture
def fetch(issuing, roots):
    def fetch(*, url=None, ca_bundle=roots, timeout=5.0):
        place = url or f"https://localhost:{issuing.server_port}/jwks.json?v=1"
        return asyncio.run(JwksRequest(place, ca_bundle, timeout).send())

    return fetch


@pytest.fixture
def make_users(issuing, roots):
    opened = []

    def make(**settings):
        url = f"https://localhost:{issuing.server_port}/jwks.json"
        keys = KeyUrl(**{"url": url, "ca_bundle": roots, "cooldown_seconds": 0, **settings})
        config = UserSettings(issuers=(Issuer(name=ISSUER, audiences=AUDIENCE, keys=keys),))
        opened.append(Users(config).start())
        return opened[-1]

    yield make
    issuing.released.set()
    for users in opened:
        users.close()


def resolve(users, token):
    return asyncio.run(users.resolve(bearer(token), None))


def wait_first(answer):
    """Answer once released."""
    return answer.server.released.wait(20)


def pour(answer):
    """Answer without end, without saying how long it is."""
    answer.wfile.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
    with contextlib.suppress(OSError):
        while not answer.server.released.is_set():
            answer.wfile.write(b" " * 65536)


class TestRequest:
    def test_document(self, issuing, fetch):
        """The document comes from exactly the URL, with how long it lives."""
        issuing.headers = {"cache-control": "public, max-age=120, must-revalidate"}
        assert fetch() == (ONE.jwks().encode(), 120.0)
        assert issuing.paths == ["/jwks.json?v=1"]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("", None), ("max-age=0", 0.0), ("no-store, max-age=9", 0.0), ("s-maxage=9", None)],
    )
    def test_cache_control(self, issuing, fetch, value, expected):
        """What is not to be stored lives for no time; what is for others is not for us."""
        issuing.headers = {"cache-control": value} if value else {}
        assert fetch().max_age == expected

    def test_presents_nothing(self, issuing, fetch, monkeypatch, tmp_path):
        """No certificate, no credential of the environment and no proxy is used."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine localhost login a password b\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        fetch()
        assert issuing.client_certificates == [None]
        assert issuing.authorizations == [None]

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirect(self, issuing, fetch, status):
        """A redirect is refused, to the same place too."""
        issuing.status, issuing.headers = status, {"location": "/other.json"}
        with pytest.raises(FetchError, match=str(status)):
            fetch()
        assert len(issuing.paths) == 1

    @pytest.mark.parametrize("status", [204, 206, 404, 500])
    def test_status(self, issuing, fetch, status):
        """Only 200 is an answer."""
        issuing.status, issuing.body = status, b""
        with pytest.raises(FetchError, match=str(status)):
            fetch()

    def test_huge(self, issuing, fetch):
        """A document that is too long is refused once that much has come."""
        issuing.act = pour
        with pytest.raises(FetchError, match="at most"):
            fetch()
        issuing.act, issuing.body = None, b" " * (MAX_TEXT_BYTES + 1)
        with pytest.raises(FetchError, match="at most"):
            fetch()

    def test_compressed(self, issuing, fetch):
        """Nothing is decompressed."""
        issuing.headers = {"content-encoding": "gzip"}
        with pytest.raises(FetchError, match="coding"):
            fetch()

    @pytest.mark.parametrize("act", [hold, drip_head], ids=["no answer", "a byte now and then"])
    def test_slow(self, issuing, fetch, act):
        """All of it ends at the deadline, however the server wastes time."""
        issuing.act = act
        began = time.monotonic()
        with pytest.raises(FetchError, match="within"):
            fetch(timeout=0.4)
        assert time.monotonic() - began < 5

    def test_web_roots(self, fetch):
        """Without a bundle of the user's the web's roots decide, not what we trust otherwise."""
        with pytest.raises(FetchError, match=r"(?i)certificate"):
            fetch(ca_bundle=None)

    def test_other_host(self, web_ca, fetch):
        """The certificate has to be of the host."""
        with serving(web_ca, "other.test") as other:
            with pytest.raises(FetchError, match=r"(?i)certificate"):
                fetch(url=f"https://localhost:{other.server_port}/")
            assert other.paths == []

    def test_missing_bundle(self, fetch, tmp_path):
        """A bundle that is not there is a failed fetch, not a crash."""
        with pytest.raises(FetchError):
            fetch(ca_bundle=tmp_path / "none.pem")

    def test_nobody_there(self, fetch):
        """A port that nobody listens on is a failed fetch."""
        with pytest.raises(FetchError):
            fetch(url="https://localhost:9/")


class TestUsers:
    def test_user(self, make_users, issuing):
        """The keys are fetched, and a user is authenticated by them."""
        users = make_users()
        assert isinstance(resolve(users, ONE.token()), User)
        assert isinstance(users.authenticate(bearer(ONE.token()), None), User)
        assert len(issuing.paths) == 1

    def test_blocking(self, make_users):
        """A thread may wait as well."""
        assert isinstance(make_users().resolve_blocking(bearer(ONE.token()), None), User)

    def test_many_at_once(self, make_users, issuing):
        """Requests that come together wait for one fetch, and the event loop runs meanwhile."""
        issuing.act = wait_first
        users = make_users()

        async def run():
            waiting = [
                asyncio.ensure_future(users.resolve(bearer(ONE.token(jti=str(n))), None))
                for n in range(20)
            ]
            while not issuing.paths:  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.01)
            assert not any(each.done() for each in waiting)
            issuing.released.set()
            return await asyncio.gather(*waiting)

        assert {type(each) for each in asyncio.run(run())} == {User}
        assert len(issuing.paths) == 1

    def test_rotation(self, make_users, issuing):
        """The first token of a new key makes us look; the old key ends with its document."""
        users = make_users()
        token = ONE.token()
        assert isinstance(resolve(users, token), User)
        issuing.body = TWO.jwks().encode()
        assert isinstance(resolve(users, TWO.token()), User)
        assert isinstance(resolve(users, token), TokenRefused)

    def test_failing(self, make_users, issuing, caplog):
        """An issuer that fails from the start authenticates nobody, and the log says why."""
        issuing.status = 503
        users = make_users(cooldown_seconds=30)
        assert isinstance(resolve(users, ONE.token()), TokenRefused)
        assert "503" in caplog.text
        assert len(issuing.paths) == 1

    def test_no_fallback(self, make_users, issuing):
        """While keys cannot be fetched, a token of a key that nobody published is refused."""
        users = make_users()
        resolve(users, ONE.token())
        issuing.status = 500
        assert isinstance(resolve(users, TWO.token()), TokenRefused)
        assert isinstance(resolve(users, ONE.token()), User)

    def test_place_in_the_token(self, make_users, issuing):
        """A place of keys that the token names is never asked."""
        users = make_users(cooldown_seconds=30)
        evil = f"https://localhost:{issuing.server_port}/evil.json"
        token = TWO.token({"jku": evil, "x5u": evil, "kid": "k1"})
        assert isinstance(resolve(users, token), TokenRefused)
        assert "/evil.json" not in issuing.paths

    def test_no_token_in_the_log(self, make_users, caplog):
        """Not with every logger at DEBUG, the HTTP library's included."""
        caplog.set_level(logging.DEBUG)
        tokens = [ONE.token(), TWO.token(), ONE.token(aud="x"), ONE.token(exp=1)]
        users = make_users()
        told = "".join(repr(resolve(users, each)) for each in tokens) + caplog.text
        segments = [s for each in tokens for s in each.decode().split(".")]
        assert [s for s in segments if s in told] == []

    def test_end_does_not_wait(self, make_users, issuing):
        """Closing ends a fetch that is under way."""
        issuing.act = hold
        users = make_users(timeout_seconds=30)
        began = time.monotonic()
        users.close()
        assert time.monotonic() - began < 5
        assert not [each for each in threading.enumerate() if each.name == "kubetls-jwks"]
