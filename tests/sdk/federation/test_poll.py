# SPDX-License-Identifier: Apache-2.0
"""When a bundle is fetched again: by the hint, by chance a little early, never at will."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from kubetls_sdk.federation import Endpoint, Partner, _poll
from kubetls_sdk.federation._poll import Poll
from kubetls_sdk.federation._relation import Relation
from kubetls_sdk.federation.bundle_document import BundleDocument
from kubetls_sdk.federation.fetch import FetchError
from kubetls_sdk.spiffe_id import SpiffeId
from kubetls_sdk.testing import DevelopmentCA

CA = DevelopmentCA("partner.example")
WEB = Endpoint(url="https://a.example/", profile="https_web")
THROUGH = Endpoint(
    url="https://a.example/",
    profile="https_spiffe",
    spiffe_id=SpiffeId.parse("spiffe://global.example/bundles"),
)


@pytest.fixture
def answers(monkeypatch):
    """What the next fetches bring; each is a document or an error."""
    left = []

    async def fetch(_domain, _endpoint, *, known, timeout_seconds):
        if THROUGH is _endpoint and known is None:
            raise FetchError("no trust bundle")
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(_poll, "fetch_bundle", fetch)
    return left


class Polling:
    """A poll whose pauses are recorded; it ends when they are used up."""

    def __init__(self, endpoint=WEB, **times):
        self.relation = Relation(Partner(trust_domain=CA.trust_domain, endpoint=endpoint, **times))
        self.known = None
        self.found = []
        self.poll = Poll(self.relation, endpoint, bundle_of=lambda _: self.known, put=self._put)

    def _put(self, relation, found):
        relation.take(found, now=datetime.now(UTC))
        self.found.append(found)
        self.poll.bundles_changed()

    def pauses(self, count):
        async def run():
            seen = []
            for _ in range(count):
                await self.poll._once()
                seen.append(self.poll._pause())
            return seen

        return asyncio.run(run())


def document(hint=None):
    from dataclasses import replace

    return BundleDocument(replace(CA.bundle, refresh_hint=hint), 0)


class TestPause:
    def test_hint(self, answers):
        """The next fetch comes at the hinted time or up to 15 percent earlier."""
        answers += [document(1000)] * 20
        pauses = Polling().pauses(20)
        assert all(850 <= each <= 1000 for each in pauses)
        assert len({round(each, 3) for each in pauses}) > 1

    def test_failure(self, answers):
        """A failed fetch does not hasten the next one."""
        answers += [document(1000), FetchError("x")]
        assert Polling().pauses(2)[1] >= 850

    def test_first_failure(self, answers):
        """Before the first bundle the shortest regular time counts."""
        answers += [FetchError("x")]
        assert 51 <= Polling().pauses(1)[0] <= 60

    def test_surprise(self, answers, caplog):
        """A bug of ours is a failed fetch, not the end of fetching."""
        answers += [ZeroDivisionError("secret"), document()]
        polling = Polling()
        polling.pauses(2)
        assert polling.found == ["ZeroDivisionError", CA.bundle]
        assert "fetching the bundle of partner.example failed" in caplog.text


class TestWaiting:
    def test_nothing_new(self, answers):
        """While the endpoint's server cannot be verified, only its bundle wakes the fetch."""
        polling = Polling(THROUGH)
        polling.pauses(1)
        assert not polling.poll._wake.is_set()
        polling.known = DevelopmentCA("global.example").bundle
        polling.poll.bundles_changed()
        assert polling.poll._wake.is_set()

    def test_not_waiting(self, answers):
        """A fetch that waits for nothing is not woken by other people's bundles."""
        answers += [FetchError("x")]
        polling = Polling()
        polling.pauses(1)
        polling.poll.bundles_changed()
        assert not polling.poll._wake.is_set()
