# SPDX-License-Identifier: Apache-2.0
"""The federation file: what it may say, and where an error is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk.exceptions import PolicyError
from kubetls_sdk.federation import Profile, document
from kubetls_sdk.federation.document import parse_federation

GOOD = """\
version: 1
partners:
  - trustDomain: partner.example
    endpoint:
      profile: https_web
      url: https://bundles.partner.example/
      caFile: roots.pem
    minRefreshSeconds: 30
    maxRefreshSeconds: 600
    maxStaleSeconds: 7200
    timeoutSeconds: 2.5
  - trustDomain: bank.example
    bundle: bank.example.json
    endpoint:
      profile: https_spiffe
      url: https://10.0.0.7:8443/bundle
      spiffeId: spiffe://bank.example/ns/spire/sa/bundles
  - trustDomain: old.example
    bundle: /etc/old.example.pem
"""


def parse(text):
    return parse_federation(text, file="/etc/kubetls/federation.yaml")


class TestParse:
    def test_everything(self):
        """Each field arrives; paths are relative to the file."""
        web, spiffe, static = parse(GOOD)
        assert str(web.trust_domain) == "partner.example"
        assert web.endpoint.profile is Profile.WEB
        assert web.endpoint.ca_file == "/etc/kubetls/roots.pem"
        assert (web.min_refresh_seconds, web.max_refresh_seconds) == (30, 600)
        assert (web.max_stale_seconds, web.timeout_seconds) == (7200, 2.5)
        assert str(spiffe.endpoint.spiffe_id) == "spiffe://bank.example/ns/spire/sa/bundles"
        assert spiffe.bundle == "/etc/kubetls/bank.example.json"
        assert static.endpoint is None
        assert static.bundle == "/etc/old.example.pem"

    def test_nobody(self):
        """An empty list is a federation with nobody."""
        assert parse("version: 1\npartners: []\n") == ()

    @pytest.mark.parametrize(
        ("old", "new", "line"),
        [
            pytest.param("version: 1", "version: 2", 1, id="version"),
            pytest.param("version: 1\n", "", 1, id="no version"),
            pytest.param("trustDomain: partner.example", "name: x", 3, id="unknown field"),
            pytest.param("  - trustDomain: partner.example\n    e", "  - e", 3, id="no domain"),
            pytest.param("https_web", "https", 5, id="profile"),
            pytest.param("      profile: https_web\n", "", 5, id="no profile"),
            pytest.param("url: https:", "url: http:", 5, id="not https"),
            pytest.param("partner.example\n", "Partner.example\n", 3, id="upper case"),
            pytest.param("bank.example\n    b", "partner.example\n    b", 12, id="mismatch"),
            pytest.param("old.example\n", "partner.example\n", 1, id="a domain twice"),
            pytest.param("maxStaleSeconds: 7200", "maxStaleSeconds: 2h", 10, id="not a number"),
            pytest.param("maxStaleSeconds: 7200", "maxStaleSeconds: 1", 3, id="out of range"),
            pytest.param("timeoutSeconds: 2.5", "timeoutSeconds: -1", 11, id="negative"),
            pytest.param("spiffeId: spiffe://", "spiffeId: https://", 17, id="no SPIFFE ID"),
            pytest.param("trustDomain: old", "trustDomain: [a.b, c.d]\n    x: old", 18, id="list"),
            pytest.param("partners:", "partners: !x", 2, id="tag"),
            pytest.param("partners:\n", "partners: {}\nx:\n", 2, id="a mapping"),
        ],
    )
    def test_errors(self, old, new, line):
        """What is wrong is an error with its place."""
        assert old in GOOD
        with pytest.raises(PolicyError) as caught:
            parse(GOOD.replace(old, new, 1))
        assert caught.value.file == "/etc/kubetls/federation.yaml"
        assert caught.value.line is not None
        assert abs(caught.value.line - line) <= 1

    def test_no_partners(self):
        """A file without the list is half a file, not a federation with nobody."""
        with pytest.raises(PolicyError, match="list"):
            parse("version: 1\n")

    def test_many(self):
        """There is a bound."""
        entries = "".join(
            f"  - {{trustDomain: p{n}.example, bundle: x}}\n"
            for n in range(document.MAX_PARTNERS + 1)
        )
        with pytest.raises(PolicyError, match="at most"):
            parse(f"version: 1\npartners:\n{entries}")

    @given(st.integers(0, len(GOOD)), st.text(max_size=3))
    def test_mutations(self, at, text):
        """Any change of the text is partners or an error of ours, never a crash."""
        with contextlib.suppress(PolicyError):
            parse(GOOD[:at] + text + GOOD[at + len(text) :])
