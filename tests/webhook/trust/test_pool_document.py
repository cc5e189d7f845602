# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.webhook.trust.pools import rotated, with_next
from tests.webhook.trust.world import START
from webhook.trust.ca_pool import Rotation
from webhook.trust.pool_document import parse_pool, pool_text
from webhook.trust.pool_entry import PoolError

ROTATION = Rotation(START, "age", "00000002", True, "p384", timedelta(days=730))


def _swap_keys(document):
    one, other = document["entries"]
    one["privateKey"], other["privateKey"] = other["privateKey"], one["privateKey"]


def changed(change):
    document = json.loads(pool_text(replace(rotated(), rotation=ROTATION)))
    change(document)
    return json.dumps(document).encode()


class TestRoundTrip:
    @pytest.mark.parametrize("rotation", [None, ROTATION], ids=["settled", "rotating"])
    def test_nothing_is_lost(self, rotation):
        """States, times, intent and keys come back."""
        pool = replace(rotated(), rotation=rotation)
        again = parse_pool(pool_text(pool))
        assert again == pool
        assert again.bundle == pool.bundle
        keys = [entry.authority.private_key_pem() for entry in pool.entries]
        assert [entry.authority.private_key_pem() for entry in again.entries] == keys

    def test_an_entry_without_a_key_comes_back_without_one(self):
        """Adopted anchors have none."""
        old, new = rotated().entries
        pool = rotated().with_entries((replace(old, authority=None), new))
        assert parse_pool(pool_text(pool)).entries[0].authority is None


class TestRefusals:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda d: d.update(version=2), id="newer version"),
            pytest.param(lambda d: d.pop("version"), id="no version"),
            pytest.param(lambda d: d.update(more=1), id="unknown field"),
            pytest.param(lambda d: d["entries"][0].update(more=1), id="unknown field of an entry"),
            pytest.param(lambda d: d["rotation"].update(more=1), id="unknown field of the intent"),
            pytest.param(lambda d: d["rotation"].update(cause="whim"), id="unknown cause"),
            pytest.param(lambda d: d["rotation"].update(keyType="rsa"), id="unknown key type"),
            pytest.param(lambda d: d["entries"][0].update(state="asleep"), id="unknown state"),
            pytest.param(lambda d: d["entries"][0].update(createdAt=None), id="no time"),
            pytest.param(lambda d: d["entries"][0].update(createdAt="today"), id="no such time"),
            pytest.param(lambda d: d["entries"][0].update(anchor="none"), id="no certificate"),
            pytest.param(lambda d: d["entries"][0].update(id=7), id="an id that is no text"),
            pytest.param(lambda d: d["entries"][1].pop("privateKey"), id="active without a key"),
            pytest.param(lambda d: d.update(entries=[]), id="no entries"),
            pytest.param(lambda d: d.update(entries=7), id="entries that are none"),
            pytest.param(lambda d: d.update(trustDomain="No Domain"), id="no trust domain"),
            pytest.param(_swap_keys, id="keys of others"),
        ],
    )
    def test_what_is_not_a_pool_is_an_error(self, change):
        """Each is told as a `PoolError`, and never with a key in it."""
        text = changed(change)
        key = json.loads(pool_text(with_next()))["entries"][0]["privateKey"]
        with pytest.raises(PoolError) as caught:
            parse_pool(text)
        assert "PRIVATE" not in str(caught.value)
        assert key.splitlines()[1] not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("text", [b"", b"[]", b"7", b"\xff", b"[" * 100_000])
    def test_other_texts_are_errors(self, text):
        """Whatever somebody put into the Secret."""
        with pytest.raises(PoolError):
            parse_pool(text)

    def test_every_cut_of_the_text_is_refused(self):
        """Half a document is none."""
        text = pool_text(rotated())
        for end in range(0, len(text) - 1, 97):
            with pytest.raises(PoolError):
                parse_pool(text[:end])
