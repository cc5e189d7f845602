# SPDX-License-Identifier: Apache-2.0
"""Which pool a request may use, and when a pool ends."""

from __future__ import annotations

import gc
import time
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import SourceClosedError
from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.client import _pools
from kubetls_sdk.client._pools import Pools
from kubetls_sdk.expectation import ServiceName
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.verification import VerifiedPeer

CA = DevelopmentCA("example.org")
A, B = ServiceName("a"), ServiceName("b")
ANCHOR = CA.authority.public_bytes(Encoding.DER)


class Transport:
    """Remembers what it is told."""

    def __init__(self, context):
        self.context = context
        self.keeps = True

    def keep_none(self):
        self.keeps = False


@pytest.fixture
def source(kubetls_source):
    return kubetls_source(ca=CA)


@pytest.fixture
def pools(source):
    return Pools(source, Transport)


def rotate(source):
    source.replace(svid=CA.issue())


def peer(**ttl):
    svid = CA.issue(ttl=timedelta(**ttl))
    return VerifiedPeer(svid.spiffe_id, svid.leaf, ANCHOR, svid.not_after)


class TestStart:
    def test_same_pool_again(self, pools):
        """One expected identity and one generation share a pool."""
        assert pools.start(A) is pools.start(A)

    def test_expected_identity_is_the_key(self, pools):
        """Another expected identity has another pool, with a context that expects it."""
        first, second = pools.start(A), pools.start(B)
        assert first is not second
        assert [pool.transport.context.expect for pool in (first, second)] == [A, B]

    def test_new_generation(self, pools, source):
        """The first request after a rotation gets a new pool with the same context."""
        old = pools.start(A)
        rotate(source)
        new = pools.start(A)
        assert new is not old
        assert new.transport.context is old.transport.context
        assert new.snapshot is source.snapshot

    def test_another_event_loop(self, pools):
        """Connections of one event loop are not used in another."""
        assert pools.start(A, loop="one") is not pools.start(A, loop="two")

    def test_server_certificate_expired(self, pools, monkeypatch):
        """A pool ends with the first certificate that expires in it."""
        pool = pools.start(A)
        pools.answer(pool, peer(hours=2))
        pools.start(A)
        pools.answer(pool, peer(hours=1))
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3500)
        assert pools.start(A) is pool
        monkeypatch.setattr(time, "time", lambda: now + 3700)
        assert pools.start(A) is not pool

    def test_source_without_credentials(self, pools, source, monkeypatch):
        """The source's own error comes through, and nothing counts as started."""

        def closed(_):
            raise SourceClosedError("closed")

        monkeypatch.setattr(type(source), "snapshot", property(closed))
        with pytest.raises(SourceClosedError):
            pools.start(A)


class TestRemovedRoot:
    """What a request may get that still waits for a connection in a retired pool."""

    @pytest.fixture
    def pool(self, pools):
        pool = pools.start(A)
        pools.start(A)
        return pool

    def test_rotation_alone(self, pools, pool, source):
        """Connections are kept for it while the server's root is trusted."""
        pools.answer(pool, peer(hours=1))
        rotate(source)
        pools.retire_older()
        assert pool.transport.keeps

    def test_answered_before(self, pools, pool, source):
        """Once the root of a server that has answered is gone, none is kept."""
        pools.answer(pool, peer(hours=1))
        source.replace(bundles=TrustBundleSet([]))
        pools.retire_older()
        assert not pool.transport.keeps

    def test_answered_after(self, pools, pool, source):
        """Likewise when the server answers only after that."""
        source.replace(bundles=TrustBundleSet([]))
        pools.retire_older()
        pools.answer(pool, peer(hours=1))
        assert not pool.transport.keeps

    def test_in_a_later_generation(self, pools, pool, source):
        """A pool that was retired before is judged again."""
        pools.answer(pool, peer(hours=1))
        rotate(source)
        pools.retire_older()
        source.replace(bundles=TrustBundleSet([]))
        pools.retire_older()
        assert not pool.transport.keeps

    def test_closed_source(self, pools, pool, source, monkeypatch):
        """A source that is closed trusts nobody."""

        def closed(_):
            raise SourceClosedError("closed")

        rotate(source)
        pools.retire_older()
        monkeypatch.setattr(type(source), "snapshot", property(closed))
        pools.answer(pool, peer(hours=1))
        assert not pool.transport.keeps


class TestTakeIdle:
    def test_nothing_retired(self, pools):
        """A current pool is left alone, busy or not."""
        pool = pools.start(A)
        pools.fail(pool)
        pools.retire_older()
        assert not pools.has_retired
        assert pools.take_idle() == ([], [])

    def test_retired_and_quiet(self, pools, source):
        """A retired pool without requests is closed as a whole, once."""
        pool = pools.start(A)
        pools.fail(pool)
        rotate(source)
        pools.retire_older()
        assert pools.has_retired
        assert pools.take_idle() == ([], [pool])
        assert pools.take_idle() == ([], [])
        assert not pools.has_retired

    def test_request_that_is_starting(self, pools, source):
        """While a request looks for its connection, idle ones stay: one may be promised to it."""
        pool = pools.start(A)
        rotate(source)
        pools.retire_older()
        assert pools.take_idle() == ([], [])
        pools.fail(pool)
        assert pools.take_idle() == ([], [pool])

    def test_response_that_is_being_read(self, pools, source):
        """While a response is read, the idle connections close and its own stays."""
        pool = pools.start(A)
        pools.answer(pool, None)
        rotate(source)
        pools.retire_older()
        assert pools.take_idle() == ([pool], [])
        pools.finish(pool)
        assert pools.take_idle() == ([], [pool])

    def test_both(self, pools, source):
        """One of each: nothing closes until the starting one has its connection."""
        pool = pools.start(A)
        pools.start(A)
        pools.answer(pool, None)
        rotate(source)
        pools.retire_older()
        assert pools.take_idle() == ([], [])
        pools.answer(pool, None)
        assert pools.take_idle() == ([pool], [])

    def test_end_of_the_client(self, pools):
        """At the end everything closes, whatever is in flight."""
        pool = pools.start(A)
        pools.retire_all()
        assert pools.take_idle() == ([], [pool])


class TestBound:
    """A client that calls ever new hosts in one generation."""

    @pytest.fixture(autouse=True)
    def _bound(self, monkeypatch):
        monkeypatch.setattr(_pools, "MAX_POOLS", 3)

    def test_longest_unused(self, pools):
        """For a new host the pool retires that was not used for the longest time."""
        kept = pools.start(A)
        pools.fail(kept)
        for number in range(20):
            pools.fail(pools.start(ServiceName(f"host-{number}")))
            assert pools.start(A) is kept
            pools.fail(kept)
            _, ended = pools.take_idle()
            expected = [f"host-{number - 2}"] if number >= 2 else []
            assert [pool.transport.context.expect.dns_name for pool in ended] == expected

    def test_contexts(self, pools, source):
        """Neither pools nor contexts nor subscriptions pile up."""
        for number in range(20):
            pools.fail(pools.start(ServiceName(f"host-{number}")))
            pools.take_idle()
        assert _subscriptions(source) <= 4

    def test_requests_under_way(self, pools, source):
        """They finish where they started; only idle connections close before."""
        starting, streaming = pools.start(A), pools.start(B)
        pools.answer(streaming, peer(hours=1))
        for number in range(5):
            pools.fail(pools.start(ServiceName(f"host-{number}")))
        idle, ended = pools.take_idle()
        assert idle == [streaming]
        assert len(ended) == 2
        assert starting not in ended
        assert starting.transport.keeps
        assert streaming.transport.keeps
        pools.fail(starting)
        pools.finish(streaming)
        assert set(pools.take_idle()[1]) == {starting, streaming}

    def test_rotation(self, pools, source):
        """A known host's new generation takes no pool from others."""
        first = [pools.start(expected) for expected in (A, B, ServiceName("c"))]
        rotate(source)
        pools.start(A)
        assert pools.start(B) is not first[1]
        assert len(pools._pools) == 3


class TestContexts:
    def test_unused_ones_end(self, pools, source):
        """A context that no request used for a generation is dropped, with its subscription."""
        pools.fail(pools.start(A))
        pools.fail(pools.start(B))
        assert _subscriptions(source) == 2
        rotate(source)
        pools.retire_older()
        pools.take_idle()
        pools.start(A)
        rotate(source)
        pools.retire_older()
        assert _subscriptions(source) == 1

    def test_many_hosts(self, pools, source):
        """A client that calls ever new hosts does not collect contexts over generations."""
        for number in range(10):
            pools.fail(pools.start(ServiceName(f"host-{number}")))
            rotate(source)
            pools.retire_older()
            pools.take_idle()
        assert _subscriptions(source) <= 2


def _subscriptions(source):
    gc.collect()
    return len(source._subscribers._callbacks)
