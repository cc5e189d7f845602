# SPDX-License-Identifier: Apache-2.0
"""Which short names could be somebody's outside of the cluster."""

import pytest

from webhook.issuance.public_suffix import is_meant_elsewhere


class TestIsMeantElsewhere:
    @pytest.mark.parametrize(
        "name",
        [
            "google.com",
            "bbc.uk",
            "co.uk",
            "x.shop",
            "x.dev",
            "x.app",
            "x.prod",
            "anything.ck",  # `*.ck` is the rule there
            "www.ck",  # and this an exception from it
            "x.xn--p1ai",
            "x.arpa",
            "github.io",
        ],
    )
    def test_public_suffixes(self, name):
        """A name in a registry's zone, wherever the registry draws its lines."""
        assert is_meant_elsewhere(name)

    @pytest.mark.parametrize(
        "name",
        ["printer.local", "x.onion", "x.localhost", "x.internal", "x.test", "x.example", "x.alt"],
    )
    def test_names_that_are_set_aside(self, name):
        """Names with a meaning of their own: mDNS, Tor, the machine itself, private networks."""
        assert is_meant_elsewhere(name)

    def test_the_cluster_itself(self):
        """In a namespace `svc` a short name would read as another Service's."""
        assert is_meant_elsewhere("shop.svc")

    @pytest.mark.parametrize("name", ["a.1", "a.254", "a.0x7f", "1.0"])
    def test_numbers(self, name):
        """A last label that is a number makes an address of it."""
        assert is_meant_elsewhere(name)

    @pytest.mark.parametrize(
        "name",
        ["web.payments", "web.team-a", "web.kube-system", "web.default", "web.a1", "web.0xg"],
    )
    def test_names_of_nobody(self, name):
        """Other namespaces are no top level domains."""
        assert not is_meant_elsewhere(name)
