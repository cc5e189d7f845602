# SPDX-License-Identifier: Apache-2.0
"""A bundle endpoint that has turned hostile: a clear error, the last good bundle, nobody else hurt.

Slow, failing and plainly wrong endpoints are in `test_federation_source.py`, single fetches in
`test_federation_fetch.py`. Here one of two partners floods us while the other replaces its root.
"""

from __future__ import annotations

import contextlib
import random
import tracemalloc

import pytest

from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.federation import Endpoint, FederatedSource, Partner
from kubetls_sdk.federation.bundle_document import MAX_DOCUMENT_BYTES
from kubetls_sdk.source import StaticSource
from kubetls_sdk.testing import DevelopmentCA
from tests.integration import hostile_answers
from tests.integration.bundle_server import BundleServer, web_context
from tests.waiting import until

SECONDS = {"hostile.example": 2, "honest.example": 20}
MEMORY = 24 * MAX_DOCUMENT_BYTES


@pytest.fixture(scope="module")
def inner():
    ours = DevelopmentCA("example.org")
    return StaticSource(ours.issue(), TrustBundleSet([ours.bundle]))


class Side:
    """A partner with its CA and its endpoint."""

    def __init__(self, name, server, roots):
        self.ca = DevelopmentCA(name)
        self.server = server
        endpoint = Endpoint(url=server.url, profile="https_web", ca_file=roots)
        self.partner = Partner(
            trust_domain=self.ca.trust_domain, endpoint=endpoint, timeout_seconds=SECONDS[name]
        )
        server.publish(self.ca.bundle, sequence=1)

    def rotate(self):
        self.ca.add_root()
        self.server.publish(self.ca.bundle, sequence=2)

    def status(self, source):
        return next(
            each for each in source.status.partners if each.trust_domain == self.ca.trust_domain
        )


@pytest.fixture
def sides(web_ca, roots):
    """A partner that turns hostile, and one that does not."""
    context = web_context(web_ca, "localhost")
    with contextlib.ExitStack() as stack:
        yield [
            Side(name, stack.enter_context(BundleServer.running(context)), roots)
            for name in ("hostile.example", "honest.example")
        ]


@pytest.fixture
def source(inner, sides):
    """A source that has fetched both bundles once."""
    with FederatedSource(
        inner, partners=[side.partner for side in sides], wait_seconds=5
    ) as source:

        def is_complete():
            source.refresh()
            return len(source.snapshot.bundles) == 3

        until(is_complete, timeout=30, interval=0.3)
        yield source
        for side in sides:
            side.server.released.set()


def see_it_contained(source, sides):
    """The hostile one has an error and its last good bundle, the honest one its new root."""
    hostile, honest = sides
    before = source.snapshot.bundles[hostile.ca.trust_domain]
    honest.rotate()
    source.refresh()
    until(lambda: len(source.snapshot.bundles[honest.ca.trust_domain]) == 2, timeout=30)
    until(lambda: hostile.status(source).error, timeout=20)
    error = hostile.status(source).error
    assert error.isprintable()
    assert 8 < len(error) < 400
    assert source.snapshot.bundles[hostile.ca.trust_domain] is before
    assert honest.status(source).error is None
    return error


def see_it_recover(source, hostile):
    """Once it is honest again, so are we."""
    hostile.server.act = None
    hostile.server.released.set()
    hostile.rotate()

    def is_well():
        source.refresh()
        found = source.snapshot.bundles[hostile.ca.trust_domain]
        return len(found) == 2 and source.status.problems == ()

    until(is_well, timeout=20, interval=0.3)


class TestFloods:
    @pytest.mark.parametrize("act", hostile_answers.ACTS, ids=lambda act: act.__name__)
    def test_contained(self, source, sides, act):
        """Whatever is sent, memory stays bounded, and only the one who sends it is concerned."""
        tracemalloc.start()
        try:
            sides[0].server.act = act
            see_it_contained(source, sides)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MEMORY
        see_it_recover(source, sides[0])

    def test_sequence_goes_back(self, source, sides):
        """An old document, however well signed its transport, brings no old root back."""
        hostile, _ = sides
        other = DevelopmentCA("hostile.example")
        hostile.server.publish(other.bundle, sequence=0)
        assert "sequence" in see_it_contained(source, sides)

    def test_random_answers(self, source, sides):
        """Noise in place of an answer is an error each time, and the bundle stays."""
        chance = random.Random(11)  # noqa: S311 - the same noise at each run
        hostile, _ = sides
        before = source.snapshot
        for _ in range(25):
            noise = chance.randbytes(chance.randrange(400))
            head = chance.choice([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
            hostile.server.act = lambda answer, raw=head + noise: hostile_answers.send(answer, raw)
            asked = len(hostile.server.paths)
            source.refresh()
            until(lambda asked=asked: len(hostile.server.paths) > asked)
        until(lambda: hostile.status(source).error)
        assert source.snapshot is before


class TestConnections:
    def test_no_handshake(self, source, sides):
        """A server that takes the connection and says nothing costs one deadline."""
        hostile, _ = sides
        released = hostile.server.released
        hostile.server.finish_request = lambda request, _: released.wait(20)
        assert "within" in see_it_contained(source, sides)

    def test_half_a_handshake(self, source, sides):
        """So does one that drips its handshake."""
        hostile, _ = sides

        def drip(request, _):
            request.sendall(b"\x16\x03\x03\x40\x00")
            with contextlib.suppress(OSError):
                while not hostile.server.released.wait(0.05):
                    request.sendall(b"\0")

        hostile.server.finish_request = drip
        see_it_contained(source, sides)

    def test_gone(self, source, sides):
        """A server that is gone is an error, and the bundle stays."""
        hostile, _ = sides
        hostile.server.shutdown()
        hostile.server.socket.close()
        see_it_contained(source, sides)
