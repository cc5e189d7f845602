# SPDX-License-Identifier: Apache-2.0
"""The promises of a development trust domain and the volumes that it keeps."""

from __future__ import annotations

import json
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubetls_sdk import ConfigurationError, SpiffeIdError, TrustBundle, X509Svid
from kubetls_sdk.testing import LAYOUTS, DevelopmentCA
from kubetls_sdk.testing.development_domain import DevelopmentDomain
from kubetls_sdk.testing.issue_registry import IssueRegistry, VolumeOrder


@pytest.fixture
def domain(tmp_path) -> DevelopmentDomain:
    return DevelopmentDomain.create(tmp_path / "org", "example.org")


@pytest.fixture
def partner(tmp_path) -> DevelopmentDomain:
    return DevelopmentDomain.create(tmp_path / "partner", "partner.example")


def order(tmp_path, name: str = "web", **fields) -> VolumeOrder:
    return VolumeOrder(str(tmp_path / name), f"/ns/shop/sa/{name}", **fields)


def mounted(volume: VolumeOrder) -> X509Svid:
    text = (Path(volume.volume) / "credential-bundle.pem").read_bytes()
    return X509Svid.from_pem(certificates=text, private_key=text)


def bundle(volume: VolumeOrder, trust_domain) -> TrustBundle:
    file = Path(volume.volume) / f"{trust_domain}.trust-bundle.pem"
    return TrustBundle.from_pem(trust_domain, file.read_bytes())


class TestCreate:
    def test_makes_a_ca(self, domain) -> None:
        """The directory holds a CA of the trust domain, and has issued nothing."""
        assert str(DevelopmentCA.load(domain.directory).trust_domain) == "example.org"
        assert domain.rotate_svids() == {}

    def test_is_not_committed(self, domain) -> None:
        """In a repository, git sees nothing of the directory with the root key."""
        assert (domain.directory / ".gitignore").read_text() == "*\n"

    def test_refuses_a_second_ca(self, domain) -> None:
        """A CA is never overwritten."""
        with pytest.raises(ConfigurationError, match="new directory"):
            DevelopmentDomain.create(domain.directory, "example.org")

    def test_refuses_a_directory_in_use(self, tmp_path) -> None:
        """A directory with other content is left as it is."""
        (tmp_path / "notes").write_text("mine")
        with pytest.raises(ConfigurationError, match="empty directory"):
            DevelopmentDomain.create(tmp_path, "example.org")
        assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]

    def test_refuses_a_bad_name_before_writing(self, tmp_path) -> None:
        """A bad trust domain leaves no directory behind."""
        with pytest.raises(SpiffeIdError):
            DevelopmentDomain.create(tmp_path / "new", "Example.org")
        assert not (tmp_path / "new").exists()


class TestIssue:
    def test_writes_what_was_ordered(self, domain, tmp_path) -> None:
        """The volume has the SVID with name, DNS names, lifetime and key type as ordered."""
        web = order(tmp_path, dns_names=("web.shop.svc",), ttl_seconds=60.0, key_type="p384")
        svid = domain.issue(web)
        assert mounted(web) == svid
        assert str(svid.spiffe_id) == "spiffe://example.org/ns/shop/sa/web"
        assert svid.dns_names == ("web.shop.svc",)
        assert svid.not_after - datetime.now(UTC) <= timedelta(seconds=60)
        assert svid.private_key.curve.name == "secp384r1"

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_bundles_are_renewed_beside_the_svid(self, layout, domain, tmp_path) -> None:
        """In every layout a new root reaches the volume, and the SVID stays."""
        web = order(tmp_path, layout=layout)
        domain.issue(web)
        keys = {n: t for n, t in _files(web).items() if b"PRIVATE KEY" in t}
        domain.add_root()
        after = _files(web)
        assert keys.items() <= after.items()
        assert sum(text.count(b"BEGIN CERTIFICATE") for text in after.values()) == 3

    def test_refuses_a_directory_in_use(self, domain, tmp_path) -> None:
        """A directory with other content is no volume, and stays as it is."""
        (tmp_path / "web").mkdir()
        (tmp_path / "web" / "notes").write_text("mine")
        with pytest.raises(ConfigurationError, match="got content"):
            domain.issue(order(tmp_path))
        assert _files(order(tmp_path)) == {"notes": b"mine"}

    def test_refuses_a_partner_of_the_same_name(self, domain, tmp_path) -> None:
        """Two roots of one trust domain are never put together by trusting oneself."""
        twin = DevelopmentDomain.create(tmp_path / "twin", "example.org")
        with pytest.raises(ConfigurationError, match="another trust domain"):
            domain.issue(order(tmp_path, trust=(str(twin.directory),)))
        assert not (tmp_path / "web").exists()

    def test_reissue_replaces_the_order(self, domain, tmp_path) -> None:
        """A directory that is issued again is in the registry once."""
        domain.issue(order(tmp_path))
        domain.issue(order(tmp_path, dns_names=("b",)))
        (kept,) = IssueRegistry.load(domain.directory).volumes
        assert kept.dns_names == ("b",)


class TestRotation:
    def test_svids(self, domain, tmp_path) -> None:
        """Every volume gets a new key and certificate of the same name."""
        orders = [order(tmp_path, "web"), order(tmp_path, "orders")]
        before = [domain.issue(each) for each in orders]
        rotated = domain.rotate_svids()
        after = [mounted(each) for each in orders]
        assert list(rotated.values()) == after
        for old, new in zip(before, after, strict=True):
            assert old.spiffe_id == new.spiffe_id
            assert old.leaf.public_key() != new.leaf.public_key()

    def test_roots_reach_partners(self, domain, partner, tmp_path) -> None:
        """Add, activate and retire reach own volumes and the partner's that trust us."""
        web = order(tmp_path, "web")
        theirs = order(tmp_path, "theirs", trust=(str(domain.directory),))
        domain.issue(web)
        their_svid = partner.issue(theirs)
        first = domain.ca.authority
        for change, size in (("add_root", 2), ("activate_root", 2), ("retire_root", 1)):
            getattr(domain, change)()
            assert len(domain.ca.bundle) == size
            assert bundle(web, domain.trust_domain) == domain.ca.bundle
            assert bundle(theirs, domain.trust_domain) == domain.ca.bundle
        assert mounted(theirs) == their_svid
        assert domain.ca.authority != first
        mounted(web).leaf.verify_directly_issued_by(domain.ca.authority)

    def test_no_volume_is_left_under_the_old_root(self, domain, tmp_path) -> None:
        """Activation renews every SVID, so that withdrawing the old root breaks none."""
        web = order(tmp_path)
        old = domain.issue(web)
        domain.add_root()
        assert mounted(web) == old
        renewed = domain.activate_root()[web.volume]
        assert mounted(web) == renewed != old
        assert renewed.leaf.issuer == domain.ca.authority.subject

    def test_vanished_volume_is_forgotten(self, domain, tmp_path) -> None:
        """A removed volume is not made anew."""
        domain.issue(order(tmp_path))
        shutil.rmtree(tmp_path / "web")
        assert domain.rotate_svids() == {}
        assert not (tmp_path / "web").exists()
        assert IssueRegistry.load(domain.directory).volumes == ()

    def test_vanished_partner_is_no_obstacle(self, domain, partner, tmp_path) -> None:
        """A partner's directory that is gone does not keep our roots from rotating."""
        partner.issue(order(tmp_path, "theirs", trust=(str(domain.directory),)))
        shutil.rmtree(partner.directory)
        domain.add_root()
        assert len(domain.ca.bundle) == 2

    def test_damaged_volume_is_repaired(self, domain, tmp_path) -> None:
        """A volume whose SVID cannot be read gets a new one with the bundles."""
        web = order(tmp_path)
        domain.issue(web)
        (tmp_path / "web" / "credential-bundle.pem").write_text("damaged")
        domain.write_trust()
        assert mounted(web).spiffe_id.path == "/ns/shop/sa/web"

    def test_renew_due(self, domain, tmp_path) -> None:
        """Only what is past half of its life is renewed."""
        domain.issue(order(tmp_path, "web", ttl_seconds=60.0))
        domain.issue(order(tmp_path, "orders", ttl_seconds=86400.0))
        now = datetime.now(UTC)
        assert domain.renew_due(now - timedelta(minutes=1)) == {}
        assert domain.renew_due(now + timedelta(minutes=1)).keys() == {str(tmp_path / "web")}

    def test_concurrent_changes_all_count(self, domain, tmp_path) -> None:
        """Orders from several threads at once are all remembered."""
        names = [f"w{number}" for number in range(8)]
        threads = [
            threading.Thread(target=domain.issue, args=(order(tmp_path, name),)) for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        volumes = IssueRegistry.load(domain.directory).volumes
        assert sorted(Path(each.volume).name for each in volumes) == names


class TestRegistry:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            pytest.param({"ttl_seconds": 0.5}, "ttl", id="too short"),
            pytest.param({"ttl_seconds": float("nan")}, "ttl", id="not a number"),
            pytest.param({"ttl_seconds": 1e12}, "ttl", id="too long"),
            pytest.param({"dns_names": ("Upper.example",)}, "DNS name", id="upper case"),
            pytest.param({"dns_names": ("a\n",)}, "DNS name", id="line feed"),
            pytest.param({"dns_names": ("*.example",)}, "DNS name", id="wildcard"),
            pytest.param({"layout": "tls"}, "layout", id="layout"),
            pytest.param({"key_type": "dsa"}, "key type", id="key type"),
        ],
    )
    def test_order_is_checked(self, tmp_path, fields, expected) -> None:
        """An order that cannot be met is refused with the name of the field."""
        with pytest.raises(ConfigurationError, match=expected):
            order(tmp_path, **fields)

    def test_relative_volume(self) -> None:
        """A relative path would mean another directory for the next command."""
        with pytest.raises(ConfigurationError, match="absolute"):
            VolumeOrder("web", "/ns/a/sa/b")

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("{", id="no JSON"),
            pytest.param("[]", id="no object"),
            pytest.param('{"volumes": [{}], "trusted_by": []}', id="empty order"),
            pytest.param('{"volumes": [3], "trusted_by": []}', id="no order"),
            pytest.param('{"volumes": []}', id="field missing"),
        ],
    )
    def test_damaged_registry(self, domain, text) -> None:
        """A damaged registry is an error that names the file."""
        (domain.directory / "volumes.json").write_text(text)
        with pytest.raises(ConfigurationError, match=r"volumes\.json"):
            domain.rotate_svids()

    def test_holds_no_key(self, domain, tmp_path) -> None:
        """The registry is a list of orders, without keys or certificates."""
        domain.issue(order(tmp_path))
        text = (domain.directory / "volumes.json").read_text()
        assert "BEGIN" not in text
        assert json.loads(text)["volumes"][0]["path"] == "/ns/shop/sa/web"


def _files(volume: VolumeOrder) -> dict[str, bytes]:
    place = Path(volume.volume)
    return {entry.name: entry.read_bytes() for entry in place.iterdir() if entry.is_file()}
