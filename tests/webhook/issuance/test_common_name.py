# SPDX-License-Identifier: Apache-2.0
"""The common name of a pod."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.issuance.common_name import MAX_COMMON_NAME, common_name

POD_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True)


class TestCommonName:
    @pytest.mark.parametrize("length", [1, 63, 64])
    def test_a_name_that_fits(self, length):
        """A name of up to 64 characters is the common name."""
        assert common_name("a" * length) == "a" * length

    def test_a_longer_name(self):
        """A longer one is its start, a dash and 20 digits of its SHA-256."""
        name = "a" * 65
        digits = hashlib.sha256(name.encode()).hexdigest()[:20]
        assert common_name(name) == f"{'a' * 43}-{digits}"

    def test_names_that_start_alike(self):
        """Two pods of a StatefulSet with a long name differ."""
        names = {common_name(f"{'a' * 100}-{number}") for number in range(100)}
        assert len(names) == 100

    def test_a_cut_at_a_dot(self):
        """The start does not end in punctuation."""
        assert common_name("a" * 42 + "." + "b" * 40).startswith("a" * 42 + "-")

    @given(POD_NAMES)
    def test_any_pod(self, name):
        """Whatever a pod is called, its common name fits a certificate and reads like a name."""
        found = common_name(name)
        assert 1 <= len(found) <= MAX_COMMON_NAME
        assert found[0].isalnum()
        assert found[-1].isalnum()
        assert found == common_name(name)
