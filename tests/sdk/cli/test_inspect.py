# SPDX-License-Identifier: Apache-2.0
"""`kubetls inspect` shows what is mounted, to people and to programs."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.cli.inspect import inspect, lasting
from kubetls_sdk.diagnosis import describe, gather
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def ca():
    return DevelopmentCA("example.org")


@pytest.fixture(scope="module")
def partner():
    return DevelopmentCA("partner.example")


@pytest.fixture
def volume(tmp_path):
    return KubeletVolume(tmp_path / "volume")


def run(directory, *options):
    return CliRunner().invoke(inspect, [str(directory), *options])


def document(directory):
    return json.loads(run(directory, "--json").stdout)


class TestDocument:
    def test_identity(self, ca, partner, volume):
        """Identity, names, issuer, serial, key and validity are those of the leaf."""
        svid = ca.issue("/ns/shop/sa/web", dns_names=["web.shop.svc"], intermediates=1)
        volume.write_svid(svid, [ca.bundle, partner.bundle])
        found = document(volume.directory)["svid"]
        assert found["spiffe_id"] == "spiffe://example.org/ns/shop/sa/web"
        assert found["dns_names"] == ["web.shop.svc"]
        assert found["key_type"] == "EC P-256"
        assert found["not_after"] == f"{svid.not_after:%Y-%m-%dT%H:%M:%SZ}"
        assert 3500 < found["seconds_remaining"] <= 3600
        assert found["is_valid"] is True
        leaf, intermediate = found["chain"]
        assert leaf["serial"] == f"{svid.leaf.serial_number:x}"
        assert leaf["issuer"] == intermediate["subject"]

    def test_bundles(self, ca, partner, volume):
        """Each trust domain has its authorities, with fingerprint, subject and expiry."""
        volume.write_svid(ca.issue(), [ca.bundle, partner.bundle])
        bundles = document(volume.directory)["bundles"]
        assert [(b["trust_domain"], b["is_own"], b["is_usable"]) for b in bundles] == [
            ("example.org", True, True),
            ("partner.example", False, True),
        ]
        (authority,) = bundles[0]["authorities"]
        assert authority["sha256"] == ca.authority.fingerprint(SHA256()).hex()
        assert authority["subject"] == ca.authority.subject.rfc4514_string()

    def test_generation_is_what_the_kubelet_wrote(self, ca, volume):
        """The generation changes with each write of the kubelet."""
        volume.write_svid(ca.issue(), [ca.bundle])
        before = document(volume.directory)["generation"]
        volume.write_svid(ca.issue(), [ca.bundle])
        after = document(volume.directory)["generation"]
        assert before != after
        assert (volume.directory / after).is_dir()

    @pytest.mark.parametrize(
        ("key_type", "expected"),
        [("p384", "EC P-384"), ("ed25519", "Ed25519"), ("rsa2048", "RSA 2048")],
    )
    def test_key_type(self, ca, volume, key_type, expected):
        """Every kind of key has its name."""
        volume.write_svid(ca.issue(key_type=key_type), [ca.bundle])
        assert document(volume.directory)["svid"]["key_type"] == expected

    @pytest.mark.parametrize(
        ("layout", "files"),
        [
            ("spiffe", {"credential-bundle.pem": "credential"}),
            ("kubernetes-tls", {"tls.key": "private-key", "tls.crt": "certificate"}),
            ("spiffe-helper", {"svid_key.pem": "private-key", "svid.pem": "certificate"}),
        ],
    )
    def test_files(self, ca, volume, layout, files):
        """Each file is listed with its role."""
        volume.write_svid(ca.issue(), [ca.bundle], layout)
        found = document(volume.directory)
        assert found["layout"] == layout
        assert {f["name"]: f["role"] for f in found["files"] if f["role"] != "bundle"} == files
        assert all(file["is_linked"] and file["bytes"] > 0 for file in found["files"])

    def test_keys_are_stable(self, ca, volume):
        """The documented keys are there, also for a volume that cannot be read."""
        volume.write_svid(ca.issue(), [ca.bundle])
        expected = [
            "format",
            "directory",
            "layout",
            "generation",
            "usable",
            "spiffe_id",
            "svid",
            "bundles",
            "files",
            "errors",
        ]
        assert list(document(volume.directory)) == expected
        assert list(document(volume.directory / "absent")) == expected


class TestExitStatus:
    def test_usable(self, ca, volume):
        """0: an application could start with it."""
        volume.write_svid(ca.issue(), [ca.bundle])
        assert run(volume.directory).exit_code == 0

    @pytest.mark.parametrize("fault", ["expired", "not_yet_valid", "wrong_key", "no_san"])
    def test_not_usable(self, ca, volume, fault):
        """1: there is a volume, but no application could start with it."""
        volume.write_svid(ca.issue_faulty(fault), [ca.bundle])
        assert run(volume.directory).exit_code == 1

    def test_without_bundle(self, ca, volume):
        """1: an SVID without the bundle of its own trust domain trusts nobody."""
        volume.write_svid(ca.issue(), [])
        assert run(volume.directory).exit_code == 1

    def test_no_volume(self, tmp_path):
        """2: there is nothing to inspect, and the text says what lies there."""
        result = run(tmp_path / "absent")
        assert result.exit_code == 2
        assert "expected a directory" in result.stdout


class TestText:
    def test_names_everything(self, ca, volume):
        """For people: one line a fact."""
        volume.write_svid(ca.issue(dns_names=["web.shop.svc"]), [ca.bundle])
        text = run(volume.directory).stdout
        for pattern in (
            r"identity      spiffe://example\.org/ns/shop/sa/web",
            r"DNS names     web\.shop\.svc",
            r"key           EC P-256",
            r"valid         \S+ to \S+ \(59 min \d+ s left\)",
            r"bundle        example\.org \(own\): 1",
        ):
            assert re.search(pattern, text), pattern

    def test_expired(self, ca, volume):
        """An expired SVID says for how long."""
        volume.write_svid(ca.issue(ttl=-HOUR), [ca.bundle])
        assert re.search(r"\(expired 1 h 0 min ago\)", run(volume.directory).stdout)

    def test_unusable_identity(self, ca, volume):
        """A broken SVID still shows which identity it claims, and why it is broken."""
        volume.write_svid(ca.issue_faulty("wrong_key"), [ca.bundle])
        text = run(volume.directory).stdout
        assert "identity      spiffe://example.org/ns/shop/sa/web (not usable)" in text
        assert "expected the private key of the leaf certificate" in text

    def test_never_prints_a_key(self, ca, volume):
        """No line of the private key is in any output."""
        svid = ca.issue()
        volume.write_svid(svid, [ca.bundle])
        secrets = [line.decode() for line in svid.private_key_pem().splitlines()[1:-1]]
        shown = run(volume.directory).output + run(volume.directory, "--json").output
        shown += repr(describe(gather(volume.directory)))
        assert [line for line in secrets if line in shown] == []

    def test_control_characters(self, ca, volume):
        """A subject from a certificate cannot drive the terminal."""
        volume.write_svid(ca.issue(through=_authority_named(ca, "\x1b[31mred")), [ca.bundle])
        assert "\x1b" not in run(volume.directory).output
        assert "\\x1b" in run(volume.directory).output

    def test_unreadable_name(self, ca, volume):
        """A certificate with a broken name is shown, not a reason to fail."""
        svid = ca.issue()
        name = ca.authority.subject.rfc4514_string().removeprefix("CN=").encode()
        text, bits = (bytes([tag, len(name)]) for tag in (0x0C, 0x03))
        der = svid.leaf.public_bytes(Encoding.DER).replace(text + name, bits + b"\0" + name[1:])
        broken = x509.load_der_x509_certificate(der)
        files = {"tls.key": svid.private_key_pem(), "tls.crt": broken.public_bytes(Encoding.PEM)}
        volume.write(files | {"ca.crt": ca.bundle.to_pem()})
        result = run(volume.directory)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "issuer        unreadable name" in result.stdout

    @pytest.mark.parametrize(
        ("expected", "seconds"),
        [
            ("0 s", 0),
            ("59 s", 59),
            ("1 min 0 s", 60),
            ("23 h 12 min", 83_520),
            ("3 d 0 h", 259_200),
            ("1 min 0 s", -60),
        ],
    )
    def test_lasting(self, expected, seconds):
        """Lengths of time are said in their two largest units."""
        assert lasting(seconds) == expected


def _authority_named(ca, name):
    from kubetls_sdk.testing.authority import Authority
    from kubetls_sdk.testing.draft import Draft, subject
    from kubetls_sdk.testing.keys import new_key

    draft = Draft(subject(name), new_key("p256"), ca.now - HOUR, ca.now + HOUR)
    draft = draft.with_authority_profile("spiffe://example.org", None)
    signed = ca.root.sign(draft.having(ca.root.key_identifier(), critical=False))
    return Authority(signed.leaf, draft.key)
