# SPDX-License-Identifier: Apache-2.0
"""Key, chain and roots of gRPC channels: in memory once, as long as a channel needs them."""

from __future__ import annotations

import os
import sys

import pytest

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.client.xds.bootstrap import Material
from kubetls_sdk.exceptions import SvidError
from kubetls_sdk.testing import DevelopmentCA
from tests.fresh_process import run_in_fresh_process

CA = DevelopmentCA("example.org")


def snapshot(**options):
    svid = CA.issue("/ns/shop/sa/web", **options)
    return StaticSource(svid, TrustBundleSet([CA.bundle])).snapshot


def exists(material):
    return [os.path.exists(path) for path in material.paths]


class TestShared:
    def test_same_generation(self):
        """Channels of one generation to one trust domain share files, until the last one ends."""
        of = snapshot()
        first, second = (Material.shared(of, CA.trust_domain) for _ in range(2))
        paths = first.paths
        assert second.paths == paths
        first.close()
        assert exists(second) == [True] * 3
        second.close()
        assert not [path for path in paths if "kubetls" in _target(path)]

    def test_others(self):
        """Another generation, or another trust domain, has files of its own."""
        of, later = snapshot(), snapshot()
        partner = DevelopmentCA("partner.example").trust_domain
        made = [
            Material.shared(of, CA.trust_domain),
            Material.shared(later, CA.trust_domain),
            Material.shared(of, partner),
        ]
        assert len({path for each in made for path in each.paths}) == 9
        for each in made:
            each.close()

    def test_again(self):
        """What was given back is made anew."""
        of = snapshot()
        Material.shared(of, CA.trust_domain).close()
        again = Material.shared(of, CA.trust_domain)
        assert exists(again) == [True] * 3
        again.close()

    def test_unusable_key(self):
        """What gRPC cannot use is refused each time, and leaves nothing behind."""
        of = snapshot(key_type="ed25519")
        for _ in range(2):
            with pytest.raises(SvidError):
                Material.shared(of, CA.trust_domain)

    def test_fork(self):
        """A forked child shares with nobody."""
        assert run_in_fresh_process("tests.sdk.client.test_grpc_material", "fork") == "other"


def fork():
    of = snapshot()
    parent = Material.shared(of, CA.trust_domain)
    child = os.fork()
    if child == 0:
        mine = Material.shared(of, CA.trust_domain)
        os._exit(0 if not set(mine.paths) & set(parent.paths) else 1)
    sys.stdout.write("other" if os.waitpid(child, 0)[1] == 0 else "same")


def _target(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""
