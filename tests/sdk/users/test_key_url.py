# SPDX-License-Identifier: Apache-2.0
"""Keys behind a URL: when they are fetched, how often, and how long they live without it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry

from kubetls_sdk import metrics
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.users import KeyUrl
from kubetls_sdk.users.jwks_request import FetchError, JwksResponse
from kubetls_sdk.users.key_url import FetchedKeys
from tests.tokens import Signer

ONE, TWO = Signer("ES256"), Signer("ES256", kid="k2", number=1)
URL = "https://login.example.com/jwks.json"


class Server:
    """Answers instead of the network; with `hold` it answers when it is released."""

    def __init__(self):
        self.answer = JwksResponse(ONE.jwks().encode(), None)
        self.requests = 0
        self.released = threading.Event()
        self.released.set()

    async def send(self):
        self.requests += 1
        while not self.released.is_set():  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.005)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(server, clock):
    made = []

    def make(**settings):
        keys = FetchedKeys(KeyUrl(url=URL, **settings), clock=clock)
        keys._request = server
        made.append(keys)
        return keys

    yield make
    server.released.set()
    for keys in made:
        keys.close()


def fetched(keys, kid=None):
    """Wait for what there is to wait for, and give the keys then."""
    flight = keys.flight(kid)
    if flight is not None:
        flight.result(5)
    return keys.last()


class TestFreshness:
    def test_first(self, make, server):
        """Before the first fetch there is nothing to verify with, and something to wait for."""
        keys = make()
        assert keys.usable() is None
        assert keys.last().keys == ()
        assert fetched(keys).has("k1")
        assert keys.usable().has("k1")
        assert server.requests == 1

    def test_single_flight(self, make, server):
        """However many wait, there is one request."""
        keys = make()
        server.released.clear()
        flights = {id(keys.flight(kid)) for kid in ("k1", "k2", None, "k1")}
        server.released.set()
        keys.flight("k1").result(5) if keys.flight("k1") else None
        assert len(flights) == 1
        assert server.requests == 1

    def test_refreshed_before_expiry(self, make, server, clock):
        """Near the end of their life keys are fetched again, and nobody waits for it."""
        keys = make(ttl_seconds=100, min_ttl_seconds=10)
        fetched(keys)
        server.answer = JwksResponse(TWO.jwks().encode(), None)
        server.released.clear()
        clock.now += 90
        assert keys.flight("k1") is None
        assert keys.last().has("k1")
        flying = keys.flight("k2")
        server.released.set()
        flying.result(5)
        assert keys.usable().has("k2")
        assert server.requests == 2

    def test_expired(self, make, server, clock):
        """After their life keys are fetched before anything is verified with them."""
        keys = make(ttl_seconds=100, min_ttl_seconds=10)
        fetched(keys)
        clock.now += 101
        server.answer = JwksResponse(TWO.jwks().encode(), None)
        assert keys.flight("k1") is not None
        assert not fetched(keys, "k1").has("k1")

    @pytest.mark.parametrize(
        ("max_age", "fresh_for"),
        [
            pytest.param(None, 600, id="not said"),
            pytest.param(300, 300, id="said"),
            pytest.param(0, 60, id="not at all: the minimum"),
            pytest.param(10**9, 600, id="for ever: the maximum"),
        ],
    )
    def test_max_age(self, make, server, clock, max_age, fresh_for):
        """The server says how long keys live, within bounds."""
        server.answer = JwksResponse(ONE.jwks().encode(), max_age)
        keys = make()
        fetched(keys)
        clock.now += fresh_for - 1
        assert keys.flight("k1") is None
        clock.now += 2
        assert fetched(keys, "k1").has("k1")
        assert server.requests >= 2

    def test_same_document(self, make, clock):
        """The same document again is the same set."""
        keys = make(ttl_seconds=100, min_ttl_seconds=10)
        before = fetched(keys)
        clock.now += 101
        assert fetched(keys) is before

    def test_emptied(self, make, server, clock):
        """A document without keys removes them: that is an answer, not a failure."""
        keys = make(ttl_seconds=100, min_ttl_seconds=10)
        fetched(keys)
        clock.now += 101
        server.answer = JwksResponse(b'{"keys": []}', None)
        assert fetched(keys).keys == ()


class TestFailure:
    @pytest.mark.parametrize(
        "answer",
        [FetchError("refused"), JwksResponse(b"<html>", None), RuntimeError("bug")],
        ids=["no answer", "no JWK Set", "our bug"],
    )
    def test_stale(self, make, server, clock, answer, caplog):
        """While fetching fails expired keys serve, but not for ever; the log says it once."""
        keys = make(ttl_seconds=100, min_ttl_seconds=10, max_stale_seconds=500, cooldown_seconds=5)
        fetched(keys)
        server.answer = answer
        clock.now += 101
        assert fetched(keys, "k1").has("k1")
        clock.now += 498
        assert fetched(keys, "k1").has("k1")
        clock.now += 2
        assert fetched(keys, "k1").keys == ()
        assert caplog.text.count("were not fetched") == 1

    def test_metric(self, make, server, clock):
        """Fetches are counted by the URL that was configured, and by their result."""
        registry = CollectorRegistry()
        metrics.enable(registry)
        try:
            keys = make(ttl_seconds=100, min_ttl_seconds=10)
            fetched(keys)
            server.answer = FetchError("refused")
            clock.now += 101
            fetched(keys)
            counts = [
                registry.get_sample_value(metrics.USER_KEY_FETCHES, {"url": URL, "result": result})
                for result in ("ok", "failed")
            ]
        finally:
            metrics.disable()
        assert counts == [1, 1]

    def test_never_there(self, make, server):
        """Without any fetch that worked nobody is verified."""
        server.answer = FetchError("refused")
        keys = make()
        assert fetched(keys, "k1").keys == ()
        assert keys.error == "refused"

    def test_rest_after_failure(self, make, server, clock):
        """A server that fails is left alone for a while, whatever is asked."""
        server.answer = FetchError("refused")
        keys = make(cooldown_seconds=30)
        fetched(keys)
        assert [keys.flight(kid) for kid in ("k1", "k2", None)] == [None, None, None]
        clock.now += 31
        server.answer = JwksResponse(ONE.jwks().encode(), None)
        assert fetched(keys, "k1").has("k1")
        assert keys.error is None
        assert server.requests == 2


class TestUnknownKey:
    def test_rotation(self, make, server, clock):
        """A new key is found by its first token."""
        keys = make()
        fetched(keys)
        server.answer = JwksResponse(ONE.jwks(TWO).encode(), None)
        clock.now += 31
        assert fetched(keys, "k2").has("k2")

    def test_cooldown(self, make, server, clock):
        """Made-up keys cause one request in a while, not one for each token."""
        keys = make()
        fetched(keys)
        assert [keys.flight(f"x{number}") for number in range(50)] == [None] * 50
        clock.now += 31
        assert fetched(keys, "x1").has("k1")
        assert [keys.flight(f"x{number}") for number in range(50)] == [None] * 50
        assert server.requests == 2

    def test_same_again(self, make, server, clock):
        """A key that was not found is not looked for again for longer."""
        keys = make()
        fetched(keys)
        clock.now += 31
        fetched(keys, "x1")
        clock.now += 31
        assert keys.flight("x1") is None
        assert keys.flight("x2") is not None
        assert server.requests >= 2
        clock.now += 121
        fetched(keys, "x2")

    def test_memory(self, make, clock):
        """What was not found is remembered within bounds."""
        keys = make(cooldown_seconds=0, ttl_seconds=10**6)
        fetched(keys)
        for number in range(300):
            clock.now += 1
            fetched(keys, f"x{number}")
        assert len(keys._unknown) == 256

    def test_nothing_without_kid(self, make, server):
        """A token without kid asks for nothing when there are no keys: it would not help."""
        server.answer = JwksResponse(b'{"keys": []}', None)
        keys = make()
        fetched(keys)
        assert keys.flight(None) is None


class TestClose:
    def test_during_a_fetch(self, make, server):
        """The end does not wait for a server that does not answer, and who waits is released."""
        keys = make(timeout_seconds=60)
        server.released.clear()
        flying = keys.flight(None)
        keys.close()
        flying.result(5)
        assert not keys._thread.is_alive()

    def test_afterwards(self, make, server):
        """Nothing is fetched any more."""
        keys = make()
        keys.close()
        assert keys.flight("k1") is None
        assert server.requests == 0

    def test_fork(self, make, server):
        """A forked child does not wait for a fetch that only its parent makes."""
        keys = make()
        server.released.clear()
        first = keys.flight(None)
        thread = keys._thread
        keys._disown()
        assert keys.flight(None) is not first
        server.released.set()
        thread.join(5)


class TestSettings:
    @pytest.mark.parametrize(
        "url",
        [
            "http://login.example.com/",
            "HTTP://login.example.com/",
            "file:///etc/keys",
            "ftp://login.example.com/",
            "login.example.com/jwks",
            "//login.example.com/jwks",
            "https://",
            "https:///jwks",
            "https://user:secret@login.example.com/",
            "https://@login.example.com/",
            "https://login.example.com/#keys",
            "https://login.example.com\\@evil.test/",
            "https://login.example.com/a b",
            "https://login.example.com/\n",
            "https://login.exämple.com/",
            "https://login.example.com:port/",
            "https://[::1/",
        ],
    )
    def test_url(self, url):
        """Only a plain https URL can be configured."""
        with pytest.raises(ConfigurationError):
            KeyUrl(url=url)

    def test_credentials_are_not_told(self):
        """A password in a URL is refused without being repeated."""
        with pytest.raises(ConfigurationError) as caught:
            KeyUrl(url="https://user:secret@login.example.com/")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"timeout_seconds": 0},
            {"timeout_seconds": 61},
            {"ttl_seconds": 1},
            {"min_ttl_seconds": 0},
            {"max_stale_seconds": -1},
            {"cooldown_seconds": -1},
            {"unknown_seconds": -1},
        ],
        ids=str,
    )
    def test_times(self, wrong):
        """Times out of range cannot be set."""
        with pytest.raises(ConfigurationError):
            KeyUrl(url=URL, **wrong)
