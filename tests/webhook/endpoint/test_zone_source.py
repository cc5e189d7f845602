# SPDX-License-Identifier: Apache-2.0
"""One zone's bundle with its number: what is published, and what is not."""

from __future__ import annotations

import pytest

from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.endpoint.world import ZONE
from webhook.endpoint.zone_source import PublishedBundle, ZoneSource


@pytest.fixture
def ca():
    return DevelopmentCA("example.org")


def body(version="7", text="PEM"):
    return {"metadata": {"resourceVersion": version}, "spec": {"trustBundle": text}}


def pem(ca):
    return ca.bundle.to_pem().decode()


class Following:
    """A source whose object is set by the test."""

    def __init__(self, **options):
        self.found = None
        self.source = ZoneSource(ZONE, lambda: self.found, **options)

    def see(self, version, text):
        """The bundle to publish, once this version of the object was seen."""
        self.found = PublishedBundle(version, text)
        return self.source.snapshot.own_bundle


class TestParse:
    def test_object(self):
        """Version and text are taken."""
        assert PublishedBundle.parse(body("71")) == PublishedBundle(71, "PEM")

    @pytest.mark.parametrize("version", ["", "7a", "-7", "7.5", "\u0667"])
    def test_version_that_is_none(self, version):
        """A version that cannot be compared is none, and the object is not used."""
        with pytest.raises(ValueError, match="a number as resourceVersion"):
            PublishedBundle.parse(body(version))

    def test_text_is_not_shown(self):
        """A bundle in a log is its version, not pages of PEM."""
        assert "PEM" not in repr(PublishedBundle.parse(body()))


class TestSequence:
    def test_is_the_version(self, ca):
        """The number of a document is the version of its object."""
        assert Following().see(7, pem(ca)).sequence == 7

    def test_base(self, ca):
        """The operator's base is added."""
        assert Following(sequence_base=1000).see(7, pem(ca)).sequence == 1007

    def test_same_for_all(self, ca):
        """A replica that started later has the same number as one that saw all changes."""
        early = Following()
        early.see(7, pem(ca))
        ca.add_root()
        late = Following()
        assert early.see(9, pem(ca)) == late.see(9, pem(ca))

    def test_restored_api_server_with_the_same_authorities(self, ca):
        """When the version goes back and the authorities are the same, nothing changes."""
        following = Following()
        before = following.see(90, pem(ca))
        assert following.see(50, pem(ca)) == before

    def test_restored_api_server_with_others(self, ca, caplog):
        """When the version goes back with other authorities, nothing is published, and why."""
        following = Following()
        old = pem(ca)
        ca.add_root()
        following.see(90, pem(ca))
        assert following.see(50, old) is None
        assert "raise the sequence base" in caplog.text

    def test_until_it_is_ahead_again(self, ca):
        """What is newer than everything before is published again."""
        following = Following()
        old = pem(ca)
        ca.add_root()
        following.see(90, pem(ca))
        following.see(50, old)
        assert following.see(91, pem(ca)).sequence == 91


class TestNothing:
    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="empty"),
            pytest.param("no PEM", id="no PEM"),
            pytest.param('{"keys": []}', id="an empty document"),
            pytest.param(
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", id="bad"
            ),
        ],
    )
    def test_unusable(self, text, caplog):
        """What is empty or cannot be read is not published, and the log names the zone."""
        assert Following().see(7, text) is None
        assert "zone default: its published bundle" in caplog.text

    def test_other_trust_domain(self, caplog):
        """Authorities that say they are of another trust domain are not published as this one's."""
        assert Following().see(7, pem(DevelopmentCA("evil.example"))) is None
        assert "evil.example" in caplog.text

    def test_gone(self, ca):
        """An object that is gone publishes nothing, and its successor goes on."""
        following = Following()
        following.see(7, pem(ca))
        following.found = None
        assert following.source.snapshot.own_bundle is None
        assert following.see(12, pem(ca)).sequence == 12

    def test_read_once(self, ca, caplog):
        """What cannot be used is complained of once for each version, not at each request."""
        following = Following()
        for _ in range(3):
            following.see(7, "no PEM")
        assert caplog.text.count("cannot be used") == 1
