# SPDX-License-Identifier: Apache-2.0
"""What is read from a volume's files, and when they will do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from kubetls_sdk._pem import encode
from kubetls_sdk.testing.layout import volume_files
from webhook.config import KeyType
from webhook.node.contents import Held


@pytest.fixture
def files(kubetls_ca):
    svid = kubetls_ca.issue(dns_names=["b.shop.svc", "a.shop.svc"], ttl=timedelta(hours=24))
    return volume_files(svid, [kubetls_ca.bundle])


class TestRead:
    def test_what_the_certificate_says(self, files):
        """Names, key and times are the leaf's."""
        held = Held.read(files)
        assert held.spiffe_id.endswith("/ns/shop/sa/web")
        assert held.dns_names == ("a.shop.svc", "b.shop.svc")
        assert held.key_type is KeyType.ECDSA_P256
        assert 0.4 < (held.not_after - held.refresh_at) / held.lifetime.total_seconds() < 0.6

    def test_twice(self, files):
        """The same files say the same, so that a restart renews nothing early."""
        assert Held.read(files) == Held.read(dict(reversed(files.items())))

    def test_intermediate_that_ends_sooner(self, files, kubetls_ca):
        """A chain is worth as much as the first of its certificates to end."""
        sooner = kubetls_ca.issue(ttl=timedelta(hours=2))
        name = "credential-bundle.pem"
        held = Held.read({**files, name: files[name] + sooner.certificates_pem()})
        assert held.not_after == sooner.not_after.timestamp()
        assert held.refresh_at < held.not_after

    @pytest.mark.parametrize(
        "broken",
        [
            {},
            {"credential-bundle.pem": b""},
            {"credential-bundle.pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n"},
            {"credential-bundle.pem": encode("CERTIFICATE", b"none")},
        ],
        ids=["no file", "empty", "half", "no certificate"],
    )
    def test_nothing_of_ours(self, broken):
        """What cannot be read is nothing, and is made anew."""
        assert Held.read(broken) is None

    def test_another_bundle(self, files):
        """One byte of a bundle is another content, as is another name."""
        (name,) = [each for each in files if each != "credential-bundle.pem"]
        before = Held.read(files)
        changed = Held.read({**files, name: files[name] + b"\n"})
        renamed = Held.read({**{k: v for k, v in files.items() if k != name}, "x": files[name]})
        assert len({before.bundles, changed.bundles, renamed.bundles}) == 3
        assert replace(changed, bundles=before.bundles) == before
