# SPDX-License-Identifier: Apache-2.0
"""`kubetls doctor` finds each fault that a volume can have, made for real on the disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from kubetls_sdk import TrustBundle, TrustDomain
from kubetls_sdk.cli.doctor import doctor
from kubetls_sdk.diagnosis import FAULTS, diagnose, gather
from kubetls_sdk.diagnosis.evidence import mount_points
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume
from tests.unprivileged import reachable_directory, without_privileges

ROOT = Path(__file__).parents[3]
CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
)
HOUR = timedelta(hours=1)
LAYOUTS = ("spiffe", "kubernetes-tls", "spiffe-helper")


@pytest.fixture(scope="module")
def ca():
    return DevelopmentCA("example.org")


@pytest.fixture(scope="module")
def partner():
    return DevelopmentCA("partner.example")


@pytest.fixture
def volume(tmp_path):
    return KubeletVolume(tmp_path / "volume")


def examine(directory, *options):
    result = CliRunner().invoke(doctor, [str(directory), "--json", *options])
    document = json.loads(result.stdout)
    assert document["ok"] == (result.exit_code == 0)
    return document["findings"]


def names(directory, *options):
    return [finding["name"] for finding in examine(directory, *options)]


def only(directory, *options):
    (finding,) = examine(directory, *options)
    return finding


class TestHealthy:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize(
        "options", [{}, {"intermediates": 2}, {"key_type": "ed25519"}], ids=str
    )
    def test_nothing_is_found(self, ca, partner, volume, layout, options):
        """A volume as the platform writes it has no fault, in every layout."""
        volume.write_svid(ca.issue(**options), [ca.bundle, partner.bundle], layout)
        assert names(volume.directory, "--trust-domain", "example.org") == []

    def test_default_directory(self, ca, volume):
        """Without an argument the volume of KUBETLS_DIR is examined."""
        volume.write_svid(ca.issue(), [ca.bundle])
        variables = {"KUBETLS_DIR": str(volume.directory)}
        result = CliRunner(env=variables).invoke(doctor)
        assert (result.exit_code, result.stdout) == (0, f"no faults found in {volume.directory}\n")


class TestMissingMount:
    def test_no_directory(self, tmp_path):
        """A directory that does not exist is a mount that the pod does not have."""
        finding = only(tmp_path / "absent")
        assert finding["name"] == "missing-mount"
        assert "volumeMount" in finding["remedy"]

    def test_empty_directory(self, tmp_path):
        """An empty directory is the mount point of a volume that is not there."""
        assert names(tmp_path) == ["missing-mount"]

    def test_file(self, tmp_path):
        """A file in place of the directory is no volume."""
        (tmp_path / "file").write_bytes(b"")
        assert names(tmp_path / "file") == ["missing-mount"]

    def test_unreadable_directory(self, ca):
        """A directory that this user may not enter is told apart from one that is missing."""
        with reachable_directory() as place:
            volume = KubeletVolume(place / "volume")
            volume.write_svid(ca.issue(), [ca.bundle])
            volume.directory.chmod(0o700 if os.geteuid() == 0 else 0)
            with without_privileges():
                findings = examine(volume.directory)
            volume.directory.chmod(0o700)
        assert [finding["name"] for finding in findings] == ["unreadable-directory"]
        assert "fsGroup" in findings[0]["remedy"]


class TestSubPath:
    def write(self, volume, ca, layout, **options):
        source = KubeletVolume(volume.directory.parent / "source")
        source.write_svid(ca.issue(**options), [ca.bundle], layout)
        volume.write_plain(source.read())

    def age(self, volume):
        before = datetime.now(UTC) - timedelta(minutes=50)
        for path in volume.directory.iterdir():
            os.utime(path, (before.timestamp(), before.timestamp()))

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_overdue(self, ca, volume, layout):
        """Plain files that nobody has renewed in time are mounted by subPath."""
        start = datetime.now(UTC) - timedelta(minutes=45)
        self.write(volume, ca, layout, not_before=start, ttl=HOUR)
        self.age(volume)
        finding = only(volume.directory)
        assert finding["name"] == "subpath-mount"
        assert "unchanged since" in finding["found"]
        assert "without subPath" in finding["remedy"]

    def test_fresh(self, ca, volume):
        """Plain files are only suspicious while they are fresh: that is no fault yet."""
        self.write(volume, ca, "spiffe")
        finding = only(volume.directory)
        assert (finding["name"], finding["severity"]) == ("plain-files", "warning")

    def test_spiffe_helper(self, ca, volume):
        """spiffe-helper writes plain files by design."""
        self.write(volume, ca, "spiffe-helper")
        assert names(volume.directory) == []

    def test_file_that_is_a_mount(self, ca, volume, monkeypatch):
        """On Linux a file that is a mount of its own is certain, however fresh it is."""
        self.write(volume, ca, "kubernetes-tls")
        key = str(volume.directory / "tls.key")
        line = f"741 722 0:52 /..2026/tls.key {key} ro,relatime - tmpfs tmpfs rw\n"
        monkeypatch.setattr("kubetls_sdk.diagnosis.evidence._mountinfo", lambda: line)
        finding = only(volume.directory)
        assert (finding["name"], finding["path"]) == ("subpath-mount", key)

    @pytest.mark.skipif(not CAN_MOUNT, reason="needs a mount namespace of its own")
    def test_real_mount(self, ca, volume):
        """A file that the kernel really has mounted by itself is found in `/proc`."""
        volume.write_svid(ca.issue(), [ca.bundle])
        target = volume.directory.parent / "target"
        target.mkdir()
        mounts = []
        for name in volume.read():
            (target / name).touch()
            mounts.append(f"mount --bind {volume.directory / name} {target / name}")
        script = "from kubetls_sdk.cli import main; main()"
        command = " && ".join(
            [*mounts, f"exec {sys.executable} -c '{script}' doctor --json {target}"]
        )
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, cwd=ROOT
        )
        found = [finding["name"] for finding in json.loads(done.stdout)["findings"]]
        assert found == ["subpath-mount", "subpath-mount"]

    def test_escaped_mount_point(self):
        """Spaces in a mount point are octal escapes in the kernel's list."""
        line = r"36 35 98:0 /mnt1 /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw"
        assert mount_points(line) == {"/mnt/a b"}

    def test_mounts_of_this_process(self):
        """The real list is read where there is one."""
        from kubetls_sdk.diagnosis.evidence import _mountinfo

        text = _mountinfo()
        assert not text or "/" in mount_points(text)


class TestUnreadableKey:
    @pytest.mark.parametrize(
        ("layout", "name"), [("spiffe", "credential-bundle.pem"), ("kubernetes-tls", "tls.key")]
    )
    def test_owner_only(self, ca, layout, name):
        """A key of another user names its owner, its mode, this user, and what to set."""
        with reachable_directory() as place:
            volume = KubeletVolume(place / "volume")
            volume.write_svid(ca.issue(), [ca.bundle], layout)
            os.chmod(volume.directory / name, 0o600 if os.geteuid() == 0 else 0)
            with without_privileges():
                finding = only(volume.directory)
                me = os.geteuid()
        assert (finding["name"], finding["path"]) == (
            "unreadable-key",
            str(volume.directory / name),
        )
        assert f"this process runs as uid {me}" in finding["found"]
        assert "mode 0" in finding["found"]
        assert "fsGroup" in finding["remedy"]

    def test_other_file(self, ca):
        """A bundle that may not be read is a finding of its own."""
        with reachable_directory() as place:
            volume = KubeletVolume(place / "volume", key_mode=0o644)
            volume.write_svid(ca.issue(), [ca.bundle])
            bundle = volume.directory / "example.org.trust-bundle.pem"
            bundle.chmod(0o600 if os.geteuid() == 0 else 0)
            with without_privileges():
                found = names(volume.directory)
        assert found == ["unreadable-file"]

    def test_no_regular_file(self, ca, volume):
        """A FIFO in place of the key is reported at once, not waited for."""
        volume.write_svid(ca.issue(), [ca.bundle], "kubernetes-tls")
        (volume.directory / "..data" / "tls.key").unlink()
        os.mkfifo(volume.directory / "..data" / "tls.key")
        assert names(volume.directory) == ["unreadable-file"]


class TestKey:
    def test_mismatch(self, ca, volume):
        """The key of another issuance is found, whatever else is right."""
        volume.write_svid(ca.issue_faulty("wrong_key"), [ca.bundle])
        finding = only(volume.directory)
        assert finding["name"] == "key-mismatch"
        assert "tls.crt come from one issuance" in finding["remedy"]

    def test_encrypted(self, ca, volume):
        """An encrypted key cannot be used: nobody is there to type a password."""
        svid = ca.issue()
        secret = svid.private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        content = secret + svid.certificates_pem()
        volume.write(
            {
                "credential-bundle.pem": content,
                "example.org.trust-bundle.pem": ca.bundle.to_pem(),
            }
        )
        assert names(volume.directory) == ["unusable-key"]

    def test_truncated(self, ca, volume):
        """A key file that is cut off is told apart from a wrong one."""
        svid = ca.issue()
        volume.write(
            {
                "tls.key": svid.private_key_pem()[:80],
                "tls.crt": svid.certificates_pem(),
                "ca.crt": ca.bundle.to_pem(),
            }
        )
        finding = only(volume.directory)
        assert finding["name"] == "unusable-key"
        assert "cut off" in finding["found"]


class TestTime:
    def test_expired(self, ca, volume):
        """An expired certificate says when it ended and what the clock says."""
        volume.write_svid(ca.issue_faulty("expired"), [ca.bundle])
        finding = only(volume.directory)
        assert finding["name"] == "expired"
        assert "the clock says" in finding["found"]

    def test_clock_skew(self, ca, volume):
        """A certificate from the future means that this clock, or the signer's, is wrong."""
        volume.write_svid(ca.issue_faulty("not_yet_valid"), [ca.bundle])
        finding = only(volume.directory)
        assert finding["name"] == "clock-skew"
        assert "time synchronisation" in finding["remedy"]

    def test_near_expiry(self, ca, volume):
        """Less than a fifth of the lifetime left is late, but no fault yet."""
        start = datetime.now(UTC) - timedelta(minutes=50)
        volume.write_svid(ca.issue(not_before=start, ttl=HOUR), [ca.bundle])
        finding = only(volume.directory)
        assert (finding["name"], finding["severity"]) == ("near-expiry", "warning")

    def test_expired_authority(self, volume):
        """An authority that has expired can vouch for nobody, so it should go."""
        ca = DevelopmentCA("example.org")
        old = DevelopmentCA("example.org", now=datetime.now(UTC) - timedelta(days=3660))
        both = TrustBundle(ca.trust_domain, (*ca.bundle.authorities, *old.bundle.authorities))
        volume.write_svid(ca.issue(), [both])
        assert names(volume.directory) == ["expired-authority"]


class TestBundles:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_empty(self, ca, volume, layout):
        """An empty bundle of our own domain trusts nobody, and is named as such."""
        volume.write_svid(ca.issue(), [TrustBundle(ca.trust_domain, ())], layout)
        finding = only(volume.directory)
        assert (finding["name"], finding["severity"]) == ("empty-bundle", "error")
        assert "optional: true" in finding["remedy"]

    def test_empty_partner(self, ca, partner, volume):
        """An empty bundle of a partner is how trust in it is withdrawn: a warning."""
        volume.write_svid(ca.issue(), [ca.bundle, TrustBundle(partner.trust_domain, ())])
        finding = only(volume.directory)
        assert (finding["name"], finding["severity"]) == ("empty-bundle", "warning")
        assert finding["path"].endswith("/partner.example.trust-bundle.pem")

    def test_none(self, ca, volume):
        """Without any bundle nobody is trusted."""
        volume.write_svid(ca.issue(), [])
        assert names(volume.directory) == ["missing-bundle"]

    def test_leaf_in_bundle(self, ca, volume):
        """A leaf in a bundle would vouch for itself: the file cannot be used."""
        svid = ca.issue()
        volume.write(
            {
                "tls.key": svid.private_key_pem(),
                "tls.crt": svid.certificates_pem(),
                "ca.crt": svid.certificates_pem(),
            }
        )
        assert names(volume.directory) == ["unusable-bundle"]

    def test_shared_authority(self, ca, partner, volume):
        """An authority in the bundles of two domains could mint the names of both."""
        theirs = TrustBundle(partner.trust_domain, ca.bundle.authorities)
        volume.write_svid(ca.issue(), [ca.bundle, theirs])
        finding = only(volume.directory)
        assert (finding["name"], finding["severity"]) == ("shared-authority", "warning")
        assert "'example.org' and 'partner.example'" in finding["found"]

    def test_misnamed(self, ca, volume):
        """A bundle named after no trust domain counts for nobody."""
        volume.write_svid(ca.issue(), [ca.bundle])
        content = volume.read() | {"Example.ORG.trust-bundle.pem": ca.bundle.to_pem()}
        volume.write(content)
        assert names(volume.directory) == ["misnamed-bundle"]


class TestTrustDomain:
    def test_expected_another(self, ca, volume):
        """A certificate of another domain than the one that was asked for is found."""
        volume.write_svid(ca.issue(), [ca.bundle])
        finding = only(volume.directory, "--trust-domain", "prod.example")
        assert finding["name"] == "wrong-trust-domain"
        assert "expected a certificate of 'prod.example'" in finding["found"]

    def test_bundles_of_others_only(self, ca, partner, volume):
        """Bundles of other domains than the certificate's own are found."""
        volume.write_svid(ca.issue(), [partner.bundle])
        assert names(volume.directory) == ["wrong-trust-domain"]

    def test_signed_by_another_domain(self, ca, partner, volume):
        """A certificate that another trusted domain's authority signed names that domain."""
        volume.write_svid(partner.issue_for("example.org"), [ca.bundle, partner.bundle])
        finding = only(volume.directory)
        assert finding["name"] == "wrong-trust-domain"
        assert "its issuer is one of 'partner.example'" in finding["found"]

    def test_root_that_has_not_arrived(self, volume):
        """A new root that signs before it is published says how old the bundle is."""
        ca = DevelopmentCA("example.org")
        before = ca.bundle
        ca.add_root()
        ca.activate_root()
        volume.write_svid(ca.issue(), [before])
        finding = only(volume.directory)
        assert finding["name"] == "untrusted-issuer"
        assert "the bundles were written at" in finding["found"]
        assert "minutes late" in finding["remedy"]

    def test_expiry_does_not_hide_it(self, ca, partner, volume):
        """An expired certificate of a wrong issuer has both faults."""
        volume.write_svid(partner.issue_for("example.org", ttl=-HOUR), [ca.bundle])
        assert sorted(names(volume.directory)) == ["expired", "untrusted-issuer"]

    def test_not_a_trust_domain(self, volume):
        """A question that makes no sense has exit status 2 and a clean message."""
        result = CliRunner().invoke(doctor, [str(volume.directory), "--trust-domain", "Bad Name"])
        assert result.exit_code == 2
        assert "'Bad Name'" in result.stderr
        assert "Traceback" not in result.output


class TestProfile:
    @pytest.mark.parametrize(
        ("fault", "name"),
        [
            ("no_san", "no-spiffe-id"),
            ("dns_only", "no-spiffe-id"),
            ("two_uris", "no-spiffe-id"),
            ("upper_case_domain", "no-spiffe-id"),
            ("ca_leaf", "not-an-svid"),
            ("server_only_eku", "not-an-svid"),
            ("key_cert_sign", "not-an-svid"),
        ],
    )
    def test_not_an_svid(self, ca, volume, fault, name):
        """A certificate without a SPIFFE ID and one that breaks the profile are told apart."""
        volume.write_svid(ca.issue_faulty(fault), [ca.bundle])
        assert names(volume.directory) == [name]

    def test_ordinary_certificate(self, ca, volume):
        """Whoever mounted a web certificate is shown its DNS names."""
        volume.write_svid(ca.issue_faulty("dns_only"), [ca.bundle], "kubernetes-tls")
        assert "its DNS names are ['web.shop.svc']" in only(volume.directory)["found"]

    def test_no_pem(self, ca, volume):
        """A certificate file without a certificate is malformed, not mismatched."""
        svid = ca.issue()
        files = {"tls.key": svid.private_key_pem(), "tls.crt": b"nonsense"}
        volume.write(files | {"ca.crt": ca.bundle.to_pem()})
        assert names(volume.directory) == ["malformed-certificate"]

    def test_wrong_order(self, ca, volume):
        """A chain that is not leaf first is reported."""
        svid = ca.issue(intermediates=2)
        chain = (svid.chain[0], svid.chain[2], svid.chain[1])
        volume.write(
            {
                "tls.key": svid.private_key_pem(),
                "tls.crt": b"".join(c.public_bytes(Encoding.PEM) for c in chain),
                "ca.crt": ca.bundle.to_pem(),
            }
        )
        finding = only(volume.directory)
        assert finding["name"] == "malformed-certificate"
        assert "leaf-first order" in finding["found"]

    def test_lax_authority(self, ca, volume):
        """An authority that Python 3.13 refuses by default is named, with what it lacks."""
        draft = ca._authority_draft("root", None, None, HOUR)
        lax = draft.lacking(x509.SubjectKeyIdentifier.oid).having(
            x509.BasicConstraints(ca=True, path_length=None), critical=False
        )
        certificate = lax.signed_by(lax.subject, lax.key)
        authorities = (*ca.bundle.authorities, certificate)
        volume.write_svid(ca.issue(), [TrustBundle(ca.trust_domain, authorities)])
        finding = only(volume.directory)
        assert (finding["name"], finding["severity"]) == ("lax-certificate", "warning")
        assert "a subject key identifier and critical basicConstraints" in finding["found"]


class TestLayout:
    def test_unsupported(self, ca, volume):
        """Files that no layout knows are listed."""
        svid = ca.issue()
        volume.write({"client.pem": svid.certificates_pem(), "client.key": b"x"})
        findings = examine(volume.directory)
        assert [finding["name"] for finding in findings] == ["unsupported-layout", "missing-bundle"]
        assert "'client.key', 'client.pem'" in findings[0]["found"]

    def test_incomplete(self, ca, volume):
        """A key without its certificate is an incomplete layout."""
        svid = ca.issue()
        volume.write({"tls.key": svid.private_key_pem(), "ca.crt": ca.bundle.to_pem()})
        finding = only(volume.directory)
        assert (finding["name"], finding["path"]) == (
            "incomplete-layout",
            str(volume.directory / "tls.crt"),
        )


class TestOutput:
    def test_text(self, ca, volume):
        """For people: the name, what was found, and what to do."""
        volume.write_svid(ca.issue_faulty("expired"), [ca.bundle])
        result = CliRunner().invoke(doctor, [str(volume.directory)])
        first, found, remedy = result.stdout.splitlines()
        assert first == "error: expired: the certificate has expired"
        assert found.startswith(f"  found  {volume.directory}/credential-bundle.pem: ")
        assert remedy.startswith("  do     ")
        assert result.exit_code == 1

    def test_shape(self, ca, volume):
        """The JSON document has the keys that are documented."""
        volume.write_svid(ca.issue_faulty("expired"), [ca.bundle])
        result = CliRunner().invoke(doctor, [str(volume.directory), "--json"])
        document = json.loads(result.stdout)
        assert list(document) == ["format", "directory", "trust_store", "ok", "findings"]
        assert list(document["findings"][0]) == [
            "name",
            "severity",
            "meaning",
            "found",
            "path",
            "remedy",
        ]

    def test_errors_come_first(self, ca, partner, volume):
        """What keeps the workload from working stands above what does not."""
        bundles = [ca.bundle, TrustBundle(partner.trust_domain, ())]
        volume.write_svid(ca.issue_faulty("wrong_key"), bundles)
        assert names(volume.directory) == ["key-mismatch", "empty-bundle"]

    def test_list(self):
        """`--list` names every fault that there is."""
        result = CliRunner().invoke(doctor, ["--list"])
        assert [line.split()[0] for line in result.stdout.splitlines()] == list(FAULTS)
        assert result.exit_code == 0

    def test_no_key_is_shown(self, ca, volume):
        """Whatever is wrong, no part of the private key gets out."""
        svid = ca.issue()
        secret = svid.private_key_pem().splitlines()[1].decode()
        files = {"tls.key": svid.private_key_pem()[:-30], "tls.crt": b"-----BEGIN CERT"}
        volume.write(files)
        for options in ([], ["--json"]):
            assert (
                secret not in CliRunner().invoke(doctor, [str(volume.directory), *options]).output
            )
        assert secret not in repr(gather(volume.directory))

    def test_control_characters(self, tmp_path):
        """A directory's name cannot drive the terminal."""
        result = CliRunner().invoke(doctor, [str(tmp_path / "\x1b[31mred")])
        assert "\x1b" not in result.output
        assert "\\x1b[31mred" in result.output


class TestDiagnose:
    def test_time_is_an_argument(self, ca, volume):
        """The same evidence at another time has other faults: nothing reads the clock."""
        svid = ca.issue()
        volume.write_svid(svid, [ca.bundle])
        late = gather(volume.directory, now=svid.not_after + HOUR)
        early = gather(volume.directory, now=svid.not_before - HOUR)
        assert [finding.name for finding in diagnose(late)] == ["expired"]
        assert [finding.name for finding in diagnose(early)] == ["clock-skew"]

    def test_trust_domain_of_a_lone_bundle(self, ca, volume):
        """`ca.crt` is that of the expected domain when the certificate cannot be read."""
        volume.write({"tls.key": b"", "tls.crt": b"", "ca.crt": ca.bundle.to_pem()})
        domain = TrustDomain.parse("example.org")
        evidence = gather(volume.directory, trust_domain=domain)
        assert domain in evidence.bundles
