# SPDX-License-Identifier: Apache-2.0
"""Inside there are no web roots: what the system store and certifi believe lets nobody in."""

from __future__ import annotations

import pytest

from tests.integration.web_roots import CLIENTS, SERVERS, outcomes

EVERYTHING = [*CLIENTS, *SERVERS]
STOCK = [name for name in EVERYTHING if name.startswith("stock ")]
OURS = [name for name in EVERYTHING if name not in STOCK]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return outcomes(tmp_path_factory.mktemp("poisoned"))


class TestPoisonedStores:
    @pytest.mark.parametrize("name", STOCK)
    def test_poison_works(self, found, name):
        """Ordinary clients and servers of that process believe the attacker, and not us."""
        assert found[name] == {"forged": True, "genuine": False}

    @pytest.mark.parametrize("name", OURS)
    def test_ours(self, found, name):
        """Ours refuse the attacker, right names and all, and accept who our own bundle vouches for.

        A client sends no request, a server gives no answer.
        """
        assert found[name] == {"forged": False, "genuine": True}
