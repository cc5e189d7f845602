# SPDX-License-Identifier: Apache-2.0
"""What go-spiffe, java-spiffe and rust-spiffe do with partners' bundles, and what we do.

The tables are in `libraries/*.yaml`. What needs an endpoint is in
`tests/integration/test_federation_libraries.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.exceptions import (
    BundleError,
    ConfigurationError,
    PeerVerificationError,
    SpiffeIdError,
)
from kubetls_sdk.federation import Endpoint, Partner
from kubetls_sdk.federation._kept import Kept
from kubetls_sdk.federation.bundle_document import parse_bundle, parse_document
from kubetls_sdk.federation.publication import Publication
from kubetls_sdk.source import StaticSource
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.verification import verify_svid
from tests.sdk.federation.libraries.documents import CA, DOCUMENTS, HUGE, OTHER
from tests.sdk.federation.libraries.table import KINDS, of, rows

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WEB = Endpoint(url="https://a.example/", profile="https_web")
AUTHORITIES = CA.bundle.authorities
OTHERS = (*AUTHORITIES, OTHER.authority)
FILES = {
    "PEM": CA.bundle.to_pem,
    "the same certificate twice": lambda: CA.bundle.to_pem() * 2,
    "an empty file": lambda: b"",
    "a leaf": lambda: CA.issue().certificates_pem(),
}
SECOND = {
    "the same bundle again": lambda make: make(5),
    "another bundle": lambda make: make(6, OTHERS),
    "the same keys with a greater sequence": lambda make: make(6),
    "other keys with a smaller sequence": lambda make: make(4, OTHERS),
    "a failed fetch": lambda _: "no answer",
    "an empty bundle": lambda make: make(6, ()),
}
HINTS = {"no hint": None, "hint 120": 120, "hint 0": 0, "a huge hint": HUGE}
SETTINGS = {
    "SPIFFE and web authentication at once": {
        "profile": "https_spiffe",
        "spiffe_id": CA.spiffe_id("/bundles"),
        "ca_file": "roots.pem",
    },
    "SPIFFE authentication without an ID": {"profile": "https_spiffe"},
}
CHAINS = {
    "an SVID of the bundle's own domain": lambda: CA.issue().chain,
    "an SVID of another domain under the same root": lambda: (
        CA.issue_for("other.example", "/ns/shop/sa/web").chain
    ),
    "an SVID of a domain without a bundle": lambda: OTHER.issue().chain,
}

BUNDLES = {
    "": [CA.bundle],
    "without a bundle": [OTHER.bundle],
    "with an empty bundle": [TrustBundle(CA.trust_domain, ())],
}


class TestTables:
    def test_every_kind_is_executed(self):
        """No row is only a claim."""
        assert {row.kind for row in rows()} == KINDS

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_reasons(self, kind):
        """Where we differ the table says why, in a sentence; where we do not, nothing."""
        for row in (each for each in rows() if each.kind == kind):
            assert (row.why is None) is row.is_same, row
            assert row.why is None or row.why.endswith("."), row

    def test_documents_are_used(self):
        """Each document that is written down is in a table."""
        assert {row.given for row in rows() if row.kind == "documents"} == DOCUMENTS.keys()

    def test_no_row_twice(self):
        """A library has one row for each thing."""
        keys = [(row.library, row.kind, row.given) for row in rows()]
        assert len(set(keys)) == len(keys)


def outcome(text):
    try:
        found = parse_document(CA.trust_domain, text)
    except BundleError:
        return "refused"
    bundle = found.bundle
    return {
        "x509": len(bundle),
        "jwt": len(bundle.jwt_authorities),
        "ignored": found.ignored,
        "sequence": bundle.sequence,
        "hint": bundle.refresh_hint,
    }


class TestDocuments:
    @pytest.mark.parametrize("row", of("documents"))
    def test_row(self, row):
        """A document is taken, or refused, as the table says."""
        found = outcome(DOCUMENTS[row.given]())
        if isinstance(row.ours, dict) and found != "refused":
            found = {name: found[name] for name in row.ours}
        assert found == row.ours


class TestFiles:
    @pytest.mark.parametrize("row", of("files"))
    def test_row(self, row):
        """A bundle file is taken, or refused, as the table says."""
        try:
            found = {"x509": len(parse_bundle(CA.trust_domain, FILES[row.given]()))}
        except BundleError:
            found = "refused"
        assert found == row.ours


class TestFollowing:
    @pytest.mark.parametrize("row", of("following"))
    def test_row(self, row):
        """What is fetched second is an update, none, or an error, as the table says."""

        def make(sequence, authorities=AUTHORITIES):
            return TrustBundle(CA.trust_domain, authorities, sequence=sequence)

        first = Kept(CA.trust_domain).after(make(5), now=NOW)
        then = first.after(SECOND[row.given](make), now=NOW + timedelta(minutes=5))
        is_kept = then.bundle is first.bundle
        if then.error is not None:
            assert is_kept
        changed = "no update" if is_kept else "update"
        assert ("error" if then.error else changed) == row.ours


class TestPauses:
    @pytest.mark.parametrize("row", of("pauses"))
    def test_row(self, row):
        """The next fetch comes as the table says, with the default bounds."""
        partner = Partner(trust_domain=CA.trust_domain, endpoint=WEB)
        if row.given in HINTS:
            assert partner.refresh_seconds(HINTS[row.given]) == row.ours
            return
        assert row.ours == "the same pause again"
        bundle = TrustBundle(CA.trust_domain, CA.bundle.authorities, refresh_hint=120)
        kept = Kept(CA.trust_domain).after(bundle, now=NOW)
        for _ in range(5):
            kept = kept.after("no answer", now=NOW)
            assert partner.refresh_seconds(kept.refresh_hint) == 120


class TestSettings:
    @pytest.mark.parametrize("row", of("settings"))
    def test_row(self, row):
        """Contradictory settings of an endpoint are refused when they are made."""
        assert row.ours == "refused"
        with pytest.raises(ConfigurationError):
            Endpoint(url="https://a.example/", **SETTINGS[row.given])


class TestDomains:
    @pytest.mark.parametrize("row", of("domains"))
    def test_row(self, row):
        """The caller's own trust domain decides which bundle verifies it."""
        bundles = TrustBundleSet([CA.bundle])
        try:
            verify_svid(CHAINS[row.given](), bundles=bundles, now=CA.now)
        except PeerVerificationError:
            assert row.ours == "refused"
        else:
            assert row.ours == "accepted"

    def test_even_when_both_are_trusted(self):
        """A partner's root mints no name of a domain whose bundle is there as well."""
        bundles = TrustBundleSet([CA.bundle, OTHER.bundle])
        forged = CA.issue_for("other.example", "/ns/shop/sa/web").chain
        with pytest.raises(PeerVerificationError):
            verify_svid(forged, bundles=bundles, now=CA.now)


class TestSets:
    @pytest.mark.parametrize("row", of("sets"))
    def test_row(self, row):
        """A set has one bundle for each domain, and none for the others."""
        assert row.ours == "refused"
        if row.given == "two bundles of one domain":
            with pytest.raises(BundleError):
                TrustBundleSet([CA.bundle, CA.bundle])
        else:
            with pytest.raises(KeyError):
                TrustBundleSet([CA.bundle])[OTHER.trust_domain]


class TestNames:
    @pytest.mark.parametrize("row", of("names"))
    def test_row(self, row):
        """The name of a trust domain is written plainly or as its SPIFFE ID."""
        try:
            found = str(TrustDomain.parse(row.given))
        except SpiffeIdError:
            found = "refused"
        assert found == row.ours


class TestServing:
    @pytest.mark.parametrize("row", of("serving"))
    def test_row(self, row):
        """Our endpoint answers as the table says."""
        method, _, with_what = row.given.partition(" ")
        source = StaticSource(CA.issue(), TrustBundleSet(BUNDLES[with_what]))
        answer = Publication(source).answer(method)
        found = {"status": answer.status, "type": answer.headers.get("content-type")}
        assert {name: found[name] for name in row.ours} == row.ours
