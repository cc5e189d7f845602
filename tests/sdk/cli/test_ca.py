# SPDX-License-Identifier: Apache-2.0
"""`kubetls ca`: what it prints and writes; what it signs has tests of its own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.federation.difference import fingerprint
from kubetls_sdk.testing import DevelopmentCA


@pytest.fixture
def files(tmp_path):
    ours = DevelopmentCA("example.org")
    ours.save(tmp_path / "ours")
    (certificate,) = (tmp_path / "ours").glob("root-*[0-9a-f].pem")
    theirs = DevelopmentCA("partner.example").authority
    (tmp_path / "partner.pem").write_bytes(theirs.public_bytes(Encoding.PEM))
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "orders.csr").write_bytes(request.sign(key, SHA256()).public_bytes(Encoding.PEM))
    certificate.rename(tmp_path / "ca.pem")
    certificate.with_suffix(".key.pem").rename(tmp_path / "ca.key")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(kubetls, ["ca", *map(str, arguments)])


def cross_sign(files, *options):
    return run(
        "cross-sign",
        files / "partner.pem",
        *("--trust-domain", "example.org"),
        *("--partner", "partner.example"),
        *("--ca-certificate", files / "ca.pem"),
        *("--ca-key", files / "ca.key"),
        *options,
    )


class TestCrossSign:
    def test_words(self, files):
        """The certificate goes to standard output; what it allows is said beside it."""
        result = cross_sign(files)
        signed = x509.load_pem_x509_certificate(result.stdout_bytes)
        assert result.exit_code == 0
        assert fingerprint(signed) in result.stderr
        for words in (
            "SPIFFE IDs: spiffe://partner.example/..., and of no other trust domain",
            "DNS names: none",
            "subjects: none: certificates with a subject are refused",
            "an authority for the trust bundle of partner.example, and for no other",
        ):
            assert words in result.stderr
        assert "PRIVATE" not in result.output

    def test_options(self, files):
        """Options reach the certificate, and its file."""
        out = files / "cross.pem"
        options = ("--dns", "api.partner.example", "--subject", "O=Partner", "--path-length", "1")
        result = cross_sign(files, *options, "--ttl", "30d", "--out", out)
        assert result.exit_code == 0
        assert result.stdout == ""
        signed = x509.load_pem_x509_certificate(out.read_bytes())
        found = signed.extensions.get_extension_for_class(x509.NameConstraints).value
        assert x509.DNSName("api.partner.example") in found.permitted_subtrees
        lifetime = signed.not_valid_after_utc - signed.not_valid_before_utc
        assert lifetime.days == 30

    def test_json(self, files):
        """For programs, with the certificate in it."""
        document = json.loads(cross_sign(files, "--any-subject", "--json").stdout)
        assert document["format"] == 1
        assert (
            "subjects: any (they are left alone; nothing should decide by them)"
            in (document["allows"])
        )
        signed = x509.load_pem_x509_certificate(document["certificate"].encode())
        assert document["sha256"] == fingerprint(signed)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--dns", "com"), "DNS name"),
            (("--dns", "orders.shop.svc"), "DNS name"),
            (("--partner", "example.org"), "expected a CA of"),
            (("--partner", "10.0.0.1"), "trust domain"),
            (("--partner", "X"), "partner"),
            (("--subject", "nonsense"), "subject"),
            (("--subject", "O=x", "--any-subject"), "both"),
            (("--path-length", "9"), "path length"),
            (("--ttl", "1"), "length of time"),
        ],
    )
    def test_refused(self, files, options, message):
        """What cannot be constrained is refused, and nothing is written."""
        out = files / "cross.pem"
        result = cross_sign(files, *options, "--out", out)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not out.exists()

    def test_wrong_key(self, files):
        """The key of another CA is refused, and not shown."""
        DevelopmentCA("example.org").save(files / "other")
        (key,) = (files / "other").glob("*.key.pem")
        result = cross_sign(files, "--ca-key", key)
        assert result.exit_code == 2
        assert "expected the key of the CA" in result.stderr
        assert "BEGIN" not in result.output


class TestIssuePartner:
    def issue(self, files, *options):
        words = ("--trust-domain", "example.org", "--partner", "acme", "--path", "/orders")
        return run(
            "issue-partner", files / "partners", *words, "--csr", files / "orders.csr", *options
        )

    def test_issued(self, files):
        """It says who it is, and what verifies it."""
        result = self.issue(files)
        assert result.exit_code == 0
        assert x509.load_pem_x509_certificate(result.stdout_bytes)
        assert "SPIFFE ID: spiffe://partners.example.org/acme/orders" in result.stderr
        assert "partners.example.org.trust-bundle.pem" in result.stderr

    def test_revoked(self, files):
        """A partner ends with its root."""
        self.issue(files)
        bundle = files / "partners" / "partners.example.org.trust-bundle.pem"
        assert bundle.read_bytes()
        words = ("--trust-domain", "example.org", "--partner", "acme")
        result = run("revoke-partner", files / "partners", *words)
        assert result.exit_code == 0
        assert "0 roots left" in result.stdout
        assert bundle.read_bytes() == b""
        assert run("revoke-partner", files / "partners", *words).exit_code == 2

    def test_refused(self, files):
        """A lifetime that is not short, and a path that is none, are refused."""
        assert self.issue(files, "--ttl", "30d").exit_code == 2
        assert self.issue(files, "--path", "orders").exit_code == 2
