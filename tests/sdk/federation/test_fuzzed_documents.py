# SPDX-License-Identifier: Apache-2.0
"""Bundle documents in which anything may stand anywhere: a bundle of the domain, or our error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubetls_sdk.exceptions import BundleError
from kubetls_sdk.federation.bundle_document import parse_document, to_jwks
from kubetls_sdk.testing import DevelopmentCA
from tests.sdk.federation.libraries.documents import OTHER

CA = DevelopmentCA("partner.example")
GOOD = json.loads(to_jwks(CA.bundle, sequence=3, refresh_hint=300))
ENTRY = GOOD["keys"][0]
FOREIGN = json.loads(to_jwks(OTHER.bundle, sequence=None, refresh_hint=None))["keys"][0]

# What an entry or a document has, and what it might have in its place.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["x509-svid", "jwt-svid", "EC", "RSA", "OKP", "oct", ENTRY["x5c"][0]]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = st.sampled_from([*ENTRY, "kid", "alg", "x5c", "use", "kty"])
ENTRIES = st.one_of(
    st.just(ENTRY),
    st.builds(lambda changes: {**ENTRY, **changes}, st.dictionaries(MEMBERS, JSON, max_size=2)),
    JSON,
)
DOCUMENTS = st.fixed_dictionaries(
    {"keys": st.lists(ENTRIES, max_size=4)},
    optional={"spiffe_sequence": JSON, "spiffe_refresh_hint": JSON, "x": JSON},
)


def parsed(document):
    try:
        return parse_document(CA.trust_domain, json.dumps(document).encode())
    except BundleError:
        return None


class TestAnything:
    @settings(max_examples=300, deadline=None)
    @given(DOCUMENTS)
    def test_bundle_or_error(self, document):
        """Only the domain's own authority is ever trusted, and only our own error is raised."""
        found = parsed(document)
        if found is None:
            return
        assert found.bundle.trust_domain == CA.trust_domain
        assert set(found.bundle.authorities) <= set(CA.bundle.authorities)
        assert 0 <= found.ignored <= len(document["keys"])
        for number in (found.bundle.sequence, found.bundle.refresh_hint):
            assert number is None or (type(number) is int and 0 <= number < 2**64)

    @settings(max_examples=100, deadline=None)
    @given(JSON)
    def test_any_json(self, document):
        """JSON that is no JWK Set is an error of ours."""
        if not isinstance(document, dict) or "keys" not in document:
            assert parsed(document) is None

    @settings(max_examples=100, deadline=None)
    @given(st.lists(ENTRIES, max_size=3), st.integers(0, 3))
    def test_foreign_authority(self, entries, at):
        """Another domain's authority spoils the document wherever it stands."""
        assert parsed({"keys": [*entries[:at], FOREIGN, *entries[at:]]}) is None

    @pytest.mark.parametrize("name", ["kty", "use", "x5c", "x", "crv"])
    def test_duplicate_in_an_entry(self, name):
        """A member twice is an error in entries as well, whatever it says."""
        text = json.dumps(GOOD).encode()
        member = json.dumps({name: ENTRY[name]}).encode()[1:-1]
        assert text.count(member) == 1
        with pytest.raises(BundleError, match="duplicate"):
            parse_document(CA.trust_domain, text.replace(member, member + b", " + member))

    def test_many_entries(self):
        """Thousands of entries are read in a moment."""
        entries = [{**ENTRY, "use": f"use-{number}"} for number in range(2000)]
        found = parsed({"keys": [*entries, ENTRY]})
        assert (len(found.bundle), found.ignored) == (1, 2000)
