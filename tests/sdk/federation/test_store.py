# SPDX-License-Identifier: Apache-2.0
"""Last good bundles on disk: what comes back after a restart, and what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation import Endpoint, Partner
from kubetls_sdk.federation._relation import Relation
from kubetls_sdk.federation._store import BundleStore
from kubetls_sdk.spiffe_id import SpiffeId
from kubetls_sdk.testing import DevelopmentCA

CA = DevelopmentCA("partner.example")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WEB = Endpoint(url="https://a.example/", profile="https_web")
PARTNER = Partner(trust_domain=CA.trust_domain, endpoint=WEB)


@pytest.fixture
def store(tmp_path):
    return BundleStore(tmp_path / "store")


@pytest.fixture
def file(store):
    return store._directory / "partner.example.stored.json"


def saved(store, partner=PARTNER, **options):
    relation = Relation(partner)
    bundle = replace(CA.bundle, sequence=5, refresh_hint=120)
    relation.take(bundle, now=NOW - timedelta(hours=1))
    relation.take(bundle, now=NOW)
    for name, value in options.items():
        setattr(relation, name, value)
    store.save(relation)
    return relation.kept


class TestStore:
    def test_comes_back(self, store, file):
        """The bundle with its sequence, its hint and its age; for its owner's eyes."""
        kept = saved(store, bootstrap_tag="x")
        assert store.load(PARTNER) == (kept, "x")
        assert kept.good_at == NOW
        assert file.stat().st_mode & 0o077 == 0

    def test_nothing(self, store):
        """Before the first there is nothing."""
        assert store.load(PARTNER) is None

    @pytest.mark.parametrize(
        "endpoint",
        [
            Endpoint(url="https://b.example/", profile="https_web"),
            Endpoint(
                url="https://a.example/",
                profile="https_spiffe",
                spiffe_id=SpiffeId.parse("spiffe://b.example/x"),
            ),
        ],
        ids=["url", "profile"],
    )
    def test_other_endpoint(self, store, endpoint):
        """What came from another endpoint counts for none."""
        saved(store)
        assert store.load(replace(PARTNER, endpoint=endpoint)) is None

    def test_removed(self, store, file):
        """A partner that is no more leaves nothing behind."""
        saved(store)
        store.remove(CA.trust_domain)
        store.remove(CA.trust_domain)
        assert not file.exists()

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda found: found.update(format=2), id="format"),
            pytest.param(lambda found: found.update(trust_domain="a.example"), id="domain"),
            pytest.param(lambda found: found.pop("good_at"), id="no time"),
            pytest.param(lambda found: found.update(good_at="2026-01-01T00:00:00"), id="no zone"),
            pytest.param(lambda found: found.update(good_at=1), id="a number"),
            pytest.param(lambda found: found.update(bundle=None), id="no bundle"),
            pytest.param(
                lambda found: found["bundle"].update(keys=[{"x": 1}] * 2 + [1]), id="keys"
            ),
            pytest.param(lambda found: found["bundle"].pop("keys"), id="no keys"),
            pytest.param(lambda found: found.update(bootstrap=1), id="tag"),
        ],
    )
    def test_unusable(self, store, file, change, caplog):
        """A file that cannot be used is as good as none, or trusts nobody."""
        saved(store)
        found = json.loads(file.read_text())
        change(found)
        file.write_text(json.dumps(found))
        stored = store.load(PARTNER)
        assert stored is None or len(stored.kept.bundle) == 0
        assert stored is not None or "is not used" in caplog.text

    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"null"])
    def test_noise(self, store, file, text):
        """So is noise."""
        file.write_bytes(text)
        assert store.load(PARTNER) is None

    def test_full_disk(self, store, file, monkeypatch, caplog):
        """A disk that is full is said, and harms nothing else."""

        def fail(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("kubetls_sdk.federation._store.write_file", fail)
        saved(store)
        assert "was not stored" in caplog.text

    @pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
    def test_shared_directory(self, tmp_path, mode):
        """Whoever can write there decides whom we trust: it has to be ours alone."""
        (tmp_path / "s").mkdir()
        (tmp_path / "s").chmod(mode)
        with pytest.raises(ConfigurationError, match="nobody else"):
            BundleStore(tmp_path / "s")

    def test_no_directory(self, tmp_path):
        """A place that cannot be one is an error at construction."""
        (tmp_path / "f").write_text("x")
        with pytest.raises(ConfigurationError):
            BundleStore(tmp_path / "f")
