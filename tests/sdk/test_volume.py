# SPDX-License-Identifier: Apache-2.0
"""The mounted volume: layouts, and what one read of it means."""

from __future__ import annotations

import base64
import json
import os

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import (
    BundleError,
    SvidError,
    TrustBundle,
    TrustDomain,
    VolumeError,
    X509Svid,
    _layout,
)
from kubetls_sdk.testing import LAYOUTS, DevelopmentCA, KubeletVolume, volume_files
from kubetls_sdk.volume import (
    VolumeFiles,
    bundle_file_name,
    default_directory,
    parse_volume,
    read_volume,
)

CA = DevelopmentCA("example.org")
PARTNER = DevelopmentCA("partner.example")
SVID = CA.issue()
OWN = CA.trust_domain


def load(source, **options):
    return parse_volume(read_volume(source), **options)


@pytest.fixture
def volume(tmp_path):
    return KubeletVolume(tmp_path)


class TestDefaultDirectory:
    @pytest.mark.parametrize(
        ("expected", "environment"),
        [
            pytest.param("/a", {"KUBETLS_DIR": "/a", "SPIFFE_CREDENTIAL_FOLDER": "/b"}, id="own"),
            pytest.param("/b", {"SPIFFE_CREDENTIAL_FOLDER": "/b"}, id="spiffe"),
            pytest.param(
                "/b", {"KUBETLS_DIR": "", "SPIFFE_CREDENTIAL_FOLDER": "/b"}, id="blank counts not"
            ),
            pytest.param("/run/secrets/workload-spiffe-credentials", {}, id="neither"),
        ],
    )
    def test_environment(self, expected, environment, monkeypatch):
        """Our own variable goes before the standard's, and that before the standard's path."""
        monkeypatch.setattr(os.path, "isdir", lambda _: False)
        assert default_directory(environment) == expected

    def test_second_standard_path(self, monkeypatch):
        """The directory under /var is used when only that exists."""
        var = "/var/run/secrets/workload-spiffe-credentials"
        monkeypatch.setattr(os.path, "isdir", var.__eq__)
        monkeypatch.setattr(_layout, "_VARIABLES", ())
        assert default_directory() == var

    def test_read_volume_uses_it(self, volume, monkeypatch):
        """Without an argument the directory of the environment is read."""
        volume.write_svid(SVID, [CA.bundle])
        monkeypatch.setenv("KUBETLS_DIR", str(volume.directory))
        assert load(None).svid == SVID


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_each_is_recognised(self, volume, layout):
        """SVID, own bundle and partner's bundle are found under the names of each layout."""
        volume.write_svid(SVID, [CA.bundle, PARTNER.bundle], layout)
        found = load(volume.directory)
        assert found.layout == layout
        assert found.svid == SVID
        assert found.bundles == {OWN: CA.bundle, PARTNER.trust_domain: PARTNER.bundle}

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_plain_files(self, volume, layout):
        """A volume without the kubelet's links is read as well."""
        volume.write_plain(volume_files(SVID, [CA.bundle], layout))
        assert load(volume.directory).svid == SVID

    def test_one_in_full_goes_before_one_in_part(self, volume):
        """A stray certificate does not hide the layout that is complete."""
        files = volume_files(SVID, [CA.bundle], "spiffe-helper")
        volume.write(files | {"tls.crt": b"stray"})
        assert load(volume.directory).layout == "spiffe-helper"

    def test_spiffe_goes_before_the_others(self, volume):
        """Of two complete layouts the single file is used: it cannot be torn."""
        both = volume_files(CA.issue(), [CA.bundle], "kubernetes-tls")
        volume.write(both | volume_files(SVID, [CA.bundle]))
        found = load(volume.directory)
        assert (found.layout, found.svid) == ("spiffe", SVID)

    def test_nothing_known(self, volume):
        """The error says what is expected and what is there."""
        volume.write({"server.pem": b"", "README": b""})
        error = load(volume.directory).svid
        assert isinstance(error, VolumeError)
        assert str(error) == (
            f"{volume.directory}: expected 'credential-bundle.pem', or 'tls.key' and 'tls.crt',"
            " or 'svid_key.pem' and 'svid.pem'; found 'README', 'server.pem'"
        )

    def test_nothing_at_all(self, volume):
        """An entirely empty directory is a volume that vanished."""
        with pytest.raises(VolumeError, match="found nothing"):
            read_volume(volume.directory)

    def test_bundle_file_name(self, volume):
        """What the issuer names so is found."""
        name = bundle_file_name(PARTNER.trust_domain)
        volume.write(volume_files(SVID, [CA.bundle]) | {name: PARTNER.bundle.to_pem()})
        assert PARTNER.trust_domain in load(volume.directory).bundles


class TestSvid:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"tls.crt": None}, "tls.crt: expected this file, got none", id="no chain"),
            pytest.param({"tls.key": None}, "tls.key: expected this file, got none", id="no key"),
            pytest.param({"tls.key": b""}, "exactly one PEM private key", id="empty key"),
            pytest.param({"tls.crt": b""}, "expected a PEM CERTIFICATE block", id="empty chain"),
            pytest.param(
                {"tls.key": CA.issue().private_key_pem()}, "got another key", id="mismatch"
            ),
            pytest.param(
                {"tls.crt": SVID.certificates_pem()[:-60]}, "is cut off", id="truncated chain"
            ),
            pytest.param(
                {"tls.key": SVID.private_key_pem()[:-40]}, "is cut off", id="truncated key"
            ),
            pytest.param(
                {"tls.crt": CA.bundle.to_pem()}, "certificate is not an X.509-SVID", id="ca as leaf"
            ),
        ],
    )
    def test_problems(self, volume, change, message):
        """Whatever is wrong with key or chain is one error of the SVID, and trust is untouched."""
        files = volume_files(SVID, [CA.bundle, PARTNER.bundle], "kubernetes-tls") | change
        volume.write({name: text for name, text in files.items() if text is not None})
        found = load(volume.directory, last_trust_domain=OWN)
        assert isinstance(found.svid, VolumeError | SvidError)
        assert message in str(found.svid)
        assert str(volume.directory) in str(found.svid)
        assert found.bundles[PARTNER.trust_domain] == PARTNER.bundle

    def test_secrets_are_in_no_message_and_no_repr(self, volume):
        """Neither the content's `repr` nor an error shows a byte of the key."""
        body = SVID.private_key_pem().split(b"\n")[1].decode()
        volume.write({"tls.key": SVID.private_key_pem(), "tls.crt": SVID.private_key_pem()})
        content = read_volume(volume.directory)
        assert body not in repr(content)
        assert body not in repr(parse_volume(content))

    def test_trust_domain_is_asserted(self, volume):
        """An SVID of another domain is refused, and the bundle beside it vouches for nobody."""
        volume.write_svid(PARTNER.issue(), [PARTNER.bundle], "kubernetes-tls")
        found = load(volume.directory, trust_domain=OWN)
        assert isinstance(found.svid, SvidError)
        assert "expected an SVID of 'example.org'" in str(found.svid)
        assert isinstance(found.bundles[OWN], SvidError)
        assert PARTNER.trust_domain not in found.bundles

    def test_expiry_is_not_judged_here(self, volume):
        """An expired SVID is read; who uses it decides."""
        volume.write_svid(CA.issue_faulty("expired"), [CA.bundle])
        assert isinstance(load(volume.directory).svid, X509Svid)


class TestBundles:
    def write(self, volume, **bundles):
        files = {name.replace("__", ".").replace("_", "-"): text for name, text in bundles.items()}
        volume.write(volume_files(SVID, [], "kubernetes-tls") | files)
        return load(volume.directory).bundles

    def test_empty_file(self, volume):
        """A readable and empty file is a bundle that trusts nobody."""
        assert self.write(volume, ca__crt=b"") == {OWN: TrustBundle(OWN, ())}

    def test_no_file(self, volume):
        """A file that is not there is a domain that is not there."""
        assert self.write(volume) == {}

    def test_jwks_by_content(self, volume):
        """A SPIFFE bundle document is read whatever the ending of the file."""
        der = CA.authority.public_bytes(Encoding.DER)
        entry = {"use": "x509-svid", "kty": "EC", "x5c": [base64.b64encode(der).decode()]}
        text = json.dumps({"keys": [entry]}).encode()
        for ending in ("json", "jwks", "pem"):
            files = {f"example.org.trust-bundle.{ending}": text}
            volume.write(volume_files(SVID, []) | files)
            assert load(volume.directory).bundles == {OWN: CA.bundle}

    def test_garbage_is_an_error_of_that_domain(self, volume):
        """One unusable bundle is an error that names its file; the others are read."""
        found = self.write(
            volume, ca__crt=CA.bundle.to_pem(), partner__example__trust_bundle__pem=b"garbage"
        )
        error = found[PARTNER.trust_domain]
        assert isinstance(error, BundleError)
        assert str(error).startswith(f"{volume.directory}/partner.example.trust-bundle.pem: ")
        assert found[OWN] == CA.bundle

    def test_a_leaf_is_no_authority(self, volume):
        """A bundle that holds a leaf is an error, not a root."""
        found = self.write(volume, ca__crt=SVID.certificates_pem())
        assert isinstance(found[OWN], BundleError)

    def test_named_own_bundle_goes_before_ca_crt(self, volume):
        """`ca.crt` is what issuers fill with whatever they like: the named file is the bundle."""
        other = DevelopmentCA("example.org").bundle
        found = self.write(
            volume,
            ca__crt=other.to_pem(),
            example__org__trust_bundle__pem=CA.bundle.to_pem(),
        )
        assert found == {OWN: CA.bundle}

    def test_broken_named_own_bundle_is_no_reason_to_use_ca_crt(self, volume):
        """There is no fallback: the error stands."""
        found = self.write(
            volume, ca__crt=CA.bundle.to_pem(), example__org__trust_bundle__pem=b"garbage"
        )
        assert isinstance(found[OWN], BundleError)

    def test_two_named_files_that_agree(self, volume):
        """The same authorities twice are no contradiction."""
        pem = CA.bundle.to_pem()
        found = self.write(
            volume, example__org__trust_bundle__pem=pem, example__org__trust_bundle__jwks=pem
        )
        assert found == {OWN: CA.bundle}

    def test_two_named_files_that_differ(self, volume):
        """Different authorities are an error: bundles are never merged."""
        other = DevelopmentCA("example.org").bundle
        found = self.write(
            volume,
            example__org__trust_bundle__pem=CA.bundle.to_pem(),
            example__org__trust_bundle__jwks=other.to_pem(),
        )
        assert "expected the same authorities in" in str(found[OWN])

    @pytest.mark.parametrize("name", ["Example.ORG", "exämple.org", "", "a b"])
    def test_name_that_is_no_trust_domain(self, volume, name):
        """A bundle under a name that is no trust domain counts for nobody, and is reported."""
        files = {f"{name}.trust-bundle.pem": PARTNER.bundle.to_pem()}
        volume.write(volume_files(SVID, [CA.bundle]) | files)
        found = load(volume.directory)
        assert found.bundles == {OWN: CA.bundle}
        assert f"/{name}.trust-bundle.pem: name of the bundle:" in str(found.misnamed[0])

    def test_ca_crt_belongs_to_the_leaf_beside_it(self, volume):
        """A key that does not fit does not make `ca.crt` the bundle of the last domain."""
        files = volume_files(PARTNER.issue(), [PARTNER.bundle], "kubernetes-tls")
        volume.write(files | {"tls.key": SVID.private_key_pem()})
        found = load(volume.directory, last_trust_domain=OWN)
        assert found.bundles == {PARTNER.trust_domain: PARTNER.bundle}

    def test_ca_crt_beside_an_unreadable_leaf(self, volume):
        """When the leaf cannot be read, `ca.crt` still is the bundle of the last known domain."""
        volume.write({"tls.crt": b"half", "tls.key": b"", "ca.crt": CA.bundle.to_pem()})
        assert load(volume.directory, last_trust_domain=OWN).bundles == {OWN: CA.bundle}
        assert load(volume.directory).bundles == {}

    def test_key_and_chain_gone(self, volume):
        """Trust is still read when the SVID's files are gone."""
        volume.write({"ca.crt": b""})
        found = load(volume.directory, last_trust_domain=OWN)
        assert found.bundles == {OWN: TrustBundle(OWN, ())}


class TestExplicitPaths:
    def test_anything_anywhere(self, tmp_path):
        """Key, chain and bundles may lie in different directories under any name."""
        for name in ("identity", "trust"):
            (tmp_path / name).mkdir()
        (tmp_path / "identity/chain").write_bytes(SVID.certificates_pem())
        (tmp_path / "identity/key").write_bytes(SVID.private_key_pem())
        (tmp_path / "trust/own").write_bytes(CA.bundle.to_pem())
        (tmp_path / "trust/partner").write_bytes(PARTNER.bundle.to_pem())
        found = load(
            VolumeFiles(
                certificate=tmp_path / "identity/chain",
                private_key=tmp_path / "identity/key",
                own_bundle=tmp_path / "trust/own",
                bundles={"partner.example": tmp_path / "trust/partner"},
            )
        )
        assert (found.layout, found.svid) == ("explicit", SVID)
        assert found.bundles == {OWN: CA.bundle, PARTNER.trust_domain: PARTNER.bundle}

    def test_one_file_for_key_and_chain(self, tmp_path):
        """Without a key file the key is in the certificate's file."""
        file = tmp_path / "both.pem"
        file.write_bytes(SVID.private_key_pem() + SVID.certificates_pem())
        assert load(VolumeFiles(certificate=file)).svid == SVID

    def test_bundle_gone_and_bundle_unreachable(self, tmp_path):
        """Gone from a directory that can be read is a removal; with the directory it is not."""
        file = tmp_path / "both.pem"
        file.write_bytes(SVID.private_key_pem() + SVID.certificates_pem())
        found = load(
            VolumeFiles(
                certificate=file,
                own_bundle=tmp_path / "gone",
                bundles={"partner.example": tmp_path / "lost" / "bundle"},
            )
        )
        assert OWN not in found.bundles
        assert isinstance(found.bundles[PARTNER.trust_domain], VolumeError)

    def test_empty_bundle(self, tmp_path):
        """An explicit bundle that is readable and empty trusts nobody."""
        file = tmp_path / "both.pem"
        file.write_bytes(SVID.private_key_pem() + SVID.certificates_pem())
        (tmp_path / "own").write_bytes(b"")
        found = load(VolumeFiles(certificate=file, own_bundle=tmp_path / "own"))
        assert found.bundles == {OWN: TrustBundle(OWN, ())}

    def test_nested_in_a_kubelet_volume(self, tmp_path):
        """A path below a projected directory follows the swap of the volume."""
        for version, svid in (("..1", CA.issue()), ("..2", SVID)):
            (tmp_path / version / "certs").mkdir(parents=True)
            text = svid.private_key_pem() + svid.certificates_pem()
            (tmp_path / version / "certs" / "both.pem").write_bytes(text)
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "certs").symlink_to("..data/certs")
        files = VolumeFiles(certificate=tmp_path / "certs" / "both.pem")
        assert load(files).svid != SVID
        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").replace(tmp_path / "..data")
        assert load(files).svid == SVID

    def test_nothing_there(self, tmp_path):
        """When no directory can be read the volume has vanished."""
        with pytest.raises(VolumeError, match="expected a directory, got nothing there"):
            read_volume(VolumeFiles(certificate=tmp_path / "lost" / "cert"))


class TestFingerprint:
    def test_equal_for_equal_content(self, volume):
        """Two reads of the same content agree, and a change of one byte shows."""
        volume.write_svid(SVID, [CA.bundle], "kubernetes-tls")
        first = read_volume(volume.directory).fingerprint()
        assert first == read_volume(volume.directory).fingerprint()
        volume.write(volume.read() | {"ca.crt": CA.bundle.to_pem() + b"\n"})
        assert first != read_volume(volume.directory).fingerprint()

    def test_unreadable_is_not_its_own_message(self, volume):
        """A file that holds the text of an error is not the error."""
        os.mkfifo(volume.directory / "ca.crt")
        broken = read_volume(volume.directory)
        text = str(broken.own_bundle.content).encode()
        (volume.directory / "ca.crt").unlink()
        (volume.directory / "ca.crt").write_bytes(text)
        assert broken.fingerprint() != read_volume(volume.directory).fingerprint()


def test_trust_domain_name_in_full():
    """The bundle file is named after the domain, not after its SPIFFE ID."""
    assert bundle_file_name(TrustDomain("example.org")) == "example.org.trust-bundle.pem"
