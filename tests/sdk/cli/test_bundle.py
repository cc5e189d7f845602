# SPDX-License-Identifier: Apache-2.0
"""`kubetls bundle` on files and volumes: what it shows, exports and compares."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.federation.bundle_document import parse_bundle, to_jwks
from kubetls_sdk.federation.difference import fingerprint
from kubetls_sdk.testing import DevelopmentCA


@pytest.fixture
def ca():
    return DevelopmentCA("example.org")


@pytest.fixture
def partner_ca():
    return DevelopmentCA("partner.example")


def run(*arguments):
    return CliRunner().invoke(kubetls, ["bundle", *map(str, arguments)])


class TestShow:
    def test_ours(self, kubetls_volume, kubetls_ca):
        """Our bundle of the mounted volume, with fingerprints."""
        result = run("show", "--volume", kubetls_volume().directory)
        assert result.exit_code == 0
        assert "trust domain  example.org" in result.stdout
        assert fingerprint(kubetls_ca.authority) in result.stdout

    def test_partner(self, kubetls_volume, partner_ca):
        """A partner's bundle in the volume, by name."""
        volume = kubetls_volume(trust=[partner_ca])
        result = run("show", "--volume", volume.directory, "--trust-domain", "partner.example")
        assert fingerprint(partner_ca.authority) in result.stdout

    def test_none(self, kubetls_volume):
        """A domain without a bundle is an error."""
        result = run("show", "--volume", kubetls_volume().directory, "--trust-domain", "a.example")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "'a.example'" in result.stderr

    @pytest.mark.parametrize("form", ["pem", "jwks"])
    def test_export(self, kubetls_volume, kubetls_ca, form):
        """It is exported in both forms, ready to be read again."""
        result = run("show", "--volume", kubetls_volume().directory, "--format", form)
        found = parse_bundle(kubetls_ca.trust_domain, result.stdout_bytes)
        assert found.authorities == kubetls_ca.bundle.authorities
        assert "PRIVATE" not in result.stdout

    def test_hint(self, kubetls_volume):
        """An exported document may have a hint."""
        options = ("--format", "jwks", "--refresh-hint", "60")
        result = run("show", "--volume", kubetls_volume().directory, *options)
        assert json.loads(result.stdout)["spiffe_refresh_hint"] == 60

    def test_file(self, partner_ca, tmp_path):
        """A file is shown for the domain that the user names."""
        file = tmp_path / "b.json"
        file.write_bytes(to_jwks(partner_ca.bundle, sequence=5, refresh_hint=300))
        result = run("show", file, "--trust-domain", "partner.example", "--json")
        document = json.loads(result.stdout)
        assert document["format"] == 1
        assert (document["sequence"], document["refresh_hint"]) == (5, 300)
        assert [each["sha256"] for each in document["authorities"]] == [
            fingerprint(partner_ca.authority)
        ]
        assert run("show", file).exit_code == 2
        assert run("show", file, "--trust-domain", "other.example").exit_code == 2

    def test_terminal(self, tmp_path):
        """Control characters of a certificate do not reach the terminal."""
        from datetime import timedelta

        from kubetls_sdk.testing.authority import Authority
        from kubetls_sdk.testing.draft import Draft, subject
        from kubetls_sdk.testing.keys import new_key

        now = DevelopmentCA("a.example").now
        draft = Draft(subject("\x1b[31mred"), new_key("p256"), now, now + timedelta(days=1))
        root = Authority.self_signed(draft.with_authority_profile("spiffe://a.example", None))
        from cryptography.hazmat.primitives.serialization import Encoding

        file = tmp_path / "b.pem"
        file.write_bytes(root.certificate.public_bytes(Encoding.PEM))
        result = run("show", file, "--trust-domain", "a.example")
        assert result.exit_code == 0
        assert "\x1b" not in result.stdout
        assert "red" in result.stdout


class TestDiff:
    @pytest.fixture
    def files(self, ca, tmp_path):
        old, new = tmp_path / "old.pem", tmp_path / "new.json"
        old.write_bytes(ca.bundle.to_pem())
        first = ca.authority
        ca.add_root()
        ca.activate_root()
        ca.retire_root()
        new.write_bytes(to_jwks(ca.bundle, sequence=1, refresh_hint=None))
        return old, new, first, ca.authority

    def test_differ(self, files):
        """What is added and removed is named by fingerprint; exit status 1."""
        old, new, removed, added = files
        result = run("diff", old, new, "--trust-domain", "example.org")
        lines = result.stdout.splitlines()
        assert result.exit_code == 1
        assert lines[0].startswith("+ ")
        assert fingerprint(added) in lines[1]
        assert lines[2].startswith("- ")
        assert fingerprint(removed) in lines[3]
        assert lines[4] == "1 added, 1 removed, 0 kept"

    def test_same(self, files):
        """The same authorities in another form are the same; exit status 0."""
        _, new, _, _ = files
        result = run("diff", new, new, "--trust-domain", "example.org")
        assert result.exit_code == 0
        assert result.stdout.endswith("the same authorities\n")

    def test_json(self, files):
        """For programs."""
        old, new, removed, added = files
        result = run("diff", old, new, "--trust-domain", "example.org", "--json")
        document = json.loads(result.stdout)
        assert document["is_same"] is False
        assert document["added"][0]["sha256"] == fingerprint(added)
        assert document["removed"][0]["sha256"] == fingerprint(removed)

    def test_jwt_keys(self, tmp_path):
        """Keys of JWT-SVIDs count too; one that is replaced under its name is both."""
        key = {"kty": "EC", "use": "jwt-svid", "kid": "a", "x": "1"}
        for name, value in (("old", "1"), ("new", "2")):
            (tmp_path / name).write_text(json.dumps({"keys": [{**key, "x": value}]}))
        result = run("diff", tmp_path / "old", tmp_path / "new", "--trust-domain", "example.org")
        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            "+ JWT-SVID key a",
            "- JWT-SVID key a",
            "1 added, 1 removed, 0 kept",
        ]

    @pytest.mark.parametrize("text", [b"{", b"x", b"-----BEGIN CERTIFICATE-----\n"])
    def test_unusable(self, files, tmp_path, text):
        """A file that is no bundle is an error of one line, with its name."""
        (tmp_path / "bad").write_bytes(text)
        result = run("diff", files[0], tmp_path / "bad", "--trust-domain", "example.org")
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "bad" in result.stderr

    def test_missing(self, files, tmp_path):
        """So is one that is not there."""
        result = run("diff", files[0], tmp_path / "none", "--trust-domain", "example.org")
        assert result.exit_code == 2
