# SPDX-License-Identifier: Apache-2.0
"""Sources: immutable snapshots, growing generations, subscribers that cannot harm one another."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from kubetls_sdk import Snapshot, Source, StaticSource, TrustBundle, TrustBundleSet
from kubetls_sdk.testing import DevelopmentCA


@pytest.fixture
def ca() -> DevelopmentCA:
    return DevelopmentCA()


@pytest.fixture
def source(ca) -> StaticSource:
    return StaticSource(ca.issue(), TrustBundleSet([ca.bundle]))


class TestSnapshot:
    """One consistent state."""

    def test_knows_its_own_domain_and_bundle(self, ca, source) -> None:
        """The bundle of our own domain, or None."""
        assert source.snapshot.trust_domain == ca.trust_domain
        assert source.snapshot.own_bundle == ca.bundle
        assert Snapshot(source.snapshot.svid, TrustBundleSet(), 1).own_bundle is None

    def test_is_frozen(self, source) -> None:
        """Nobody mixes two generations."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            source.snapshot.generation = 7


class TestStaticSource:
    """Changes only when it is told to."""

    def test_is_a_source(self, source) -> None:
        """It implements the protocol."""
        assert isinstance(source, Source)

    def test_counts_generations_from_one(self, ca, source) -> None:
        """A new SVID, new bundles or both are one generation each."""
        assert source.snapshot.generation == 1
        svid = ca.issue()
        assert source.replace(svid=svid).generation == 2
        empty = TrustBundleSet([TrustBundle(ca.trust_domain, ())])
        assert source.replace(bundles=empty).generation == 3
        assert source.snapshot.svid == svid
        both = source.replace(svid=ca.issue(), bundles=TrustBundleSet([ca.bundle]))
        assert both.generation == 4
        assert source.snapshot is both

    def test_unchanged_content_is_no_new_generation(self, ca, source) -> None:
        """Neither a new object of the same content nor nothing at all."""
        heard = []
        source.subscribe(heard.append)
        before = source.snapshot
        assert source.replace() is before
        same = TrustBundleSet([TrustBundle(ca.trust_domain, ca.bundle.authorities)])
        assert source.replace(svid=before.svid, bundles=same) is before
        assert heard == []

    def test_generations_are_distinct_under_threads(self, ca, source) -> None:
        """Many writers: no generation is given twice, none is lost."""
        svids = [ca.issue() for _ in range(20)]
        heard: list[int] = []
        source.subscribe(lambda snapshot: heard.append(snapshot.generation))
        threads = [threading.Thread(target=source.replace, kwargs={"svid": s}) for s in svids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert source.snapshot.generation == 21
        assert sorted(heard) == list(range(2, 22))


class TestSubscribers:
    """Told of each later snapshot, after it is visible."""

    def test_hear_each_snapshot_once_it_is_visible(self, ca, source) -> None:
        """What a subscriber is told is what it reads."""
        seen = []
        source.subscribe(lambda snapshot: seen.append(snapshot is source.snapshot))
        source.replace(svid=ca.issue())
        source.replace(svid=ca.issue())
        assert seen == [True, True]

    def test_hear_nothing_after_they_left(self, ca, source) -> None:
        """Leaving twice is harmless, and ends only that subscription."""
        heard = []
        leave = source.subscribe(heard.append)
        source.subscribe(heard.append)
        leave()
        leave()
        source.replace(svid=ca.issue())
        assert len(heard) == 1

    def test_may_leave_while_they_are_told(self, ca, source) -> None:
        """A callback that ends its own subscription does not block the source."""
        heard = []

        def once(snapshot: Snapshot) -> None:
            heard.append(snapshot)
            leave()

        leave = source.subscribe(once)
        source.replace(svid=ca.issue())
        source.replace(svid=ca.issue())
        assert len(heard) == 1

    def test_do_not_suffer_from_one_another(self, ca, source, caplog) -> None:
        """One that raises is logged; the next one hears."""
        heard = []

        def broken(_snapshot: Snapshot) -> None:
            raise RuntimeError("foreign")

        source.subscribe(broken)
        source.subscribe(heard.append)
        source.replace(svid=ca.issue())
        assert len(heard) == 1
        assert "a subscriber failed on generation 2" in caplog.text
        assert "PRIVATE KEY" not in caplog.text
