# SPDX-License-Identifier: Apache-2.0
"""The leaf profile of X509-SVID: each rule, and certificates that cannot even be read."""

from __future__ import annotations

import random

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kubetls_sdk._profile import (
    ProfileViolation,
    claimed_spiffe_id,
    is_authority,
    leaf_spiffe_id,
)
from kubetls_sdk.testing import DevelopmentCA
from tests import chains as plans

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
URI = x509.UniformResourceIdentifier
WEB = plans.SPIFFE_ID


def leaf_with(*extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
    """A right leaf, apart from these extensions."""
    plan = plans.straight_plan(random.Random(1), 0)  # noqa: S311
    for value, critical in extensions:
        plan.leaf.put(value, critical=critical)
    return x509.load_der_x509_certificate(plan.leaf.signed_by(plan.certificates[0]))


def san(*names: x509.GeneralName) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName(names), False


def raw_san(der: bytes) -> tuple[x509.ExtensionType, bool]:
    value = plans.der(0x30, der)
    return x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, value), False


class TestLeafSpiffeId:
    """One clause for each rule that a leaf breaks."""

    @pytest.mark.parametrize(
        "extensions",
        [
            [],
            [san(URI(WEB), x509.DNSName("a.svc"), x509.RFC822Name("u@a.svc"))],
            [(plans.key_usage(digital_signature=True, key_agreement=True), True)],
            [(x509.ExtendedKeyUsage([CLIENT, SERVER, ExtendedKeyUsageOID.CODE_SIGNING]), True)],
        ],
        ids=["plain", "other SANs", "more usages", "more purposes"],
    )
    def test_returns_the_identity(self, extensions) -> None:
        """Other names and usages are the signer's matter."""
        assert str(leaf_spiffe_id(leaf_with(*extensions))) == WEB

    @pytest.mark.parametrize("absent", [x509.BasicConstraints, x509.ExtendedKeyUsage])
    def test_does_not_need_what_the_standard_leaves_open(self, absent) -> None:
        """No basicConstraints is no CA; ExtendedKeyUsage only SHOULD be there."""
        plan = plans.straight_plan(random.Random(1), 0)  # noqa: S311
        plan.leaf.drop(absent)
        leaf = x509.load_der_x509_certificate(plan.leaf.signed_by(plan.certificates[0]))
        assert str(leaf_spiffe_id(leaf)) == WEB

    @pytest.mark.parametrize(
        ("extension", "message"),
        [
            (san(x509.DNSName("a.svc")), "exactly one URI SAN, got 0"),
            (san(URI(WEB), URI(WEB)), "exactly one URI SAN, got 2"),
            (san(URI(WEB), URI("https://a.test")), "exactly one URI SAN, got 2"),
            (san(URI("https://example.org/a")), "expected a SPIFFE ID as URI SAN"),
            (san(URI(f"{WEB}\0evil")), "expected a SPIFFE ID as URI SAN"),
            (san(URI(f"{WEB}\n")), "expected a SPIFFE ID as URI SAN"),
            (san(URI("spiffe://example.org")), "expected a SPIFFE ID with a path"),
            ((x509.BasicConstraints(ca=True, path_length=None), True), "got a CA"),
            ((plans.key_usage(digital_signature=True), False), "KeyUsage to be critical"),
            ((plans.key_usage(key_agreement=True), True), "KeyUsage digitalSignature"),
            ((plans.key_usage(digital_signature=True, key_cert_sign=True), True), "keyCertSign"),
            ((plans.key_usage(digital_signature=True, crl_sign=True), True), "cRLSign"),
            ((x509.ExtendedKeyUsage([SERVER]), False), "serverAuth and clientAuth"),
            ((x509.ExtendedKeyUsage([CLIENT]), False), "serverAuth and clientAuth"),
            (
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False),
                "serverAuth and clientAuth",
            ),
        ],
    )
    def test_says_which_rule_is_broken(self, extension, message: str) -> None:
        """Expected and got, in one clause."""
        with pytest.raises(ProfileViolation, match=message):
            leaf_spiffe_id(leaf_with(extension))

    @pytest.mark.parametrize("absent", [x509.SubjectAlternativeName, x509.KeyUsage])
    def test_needs_name_and_usage(self, absent) -> None:
        """X509-SVID §2 and §4.3."""
        plan = plans.straight_plan(random.Random(1), 0)  # noqa: S311
        plan.leaf.drop(absent)
        leaf = x509.load_der_x509_certificate(plan.leaf.signed_by(plan.certificates[0]))
        with pytest.raises(ProfileViolation, match="got none"):
            leaf_spiffe_id(leaf)

    @pytest.mark.parametrize(
        "der",
        [
            plans.der(0xA3, b"\x30\x00"),
            plans.der(0xA5, b"\x30\x00"),
            plans.der(0x86, b"spiffe://example.org/\xff"),
            plans.der(0x87, b"123"),
            b"\x86\x7f",
        ],
        ids=["x400Address", "ediPartyName", "not ASCII", "IP of three bytes", "cut off"],
    )
    def test_refuses_names_that_cannot_be_read(self, der: bytes) -> None:
        """Whatever the parser raises comes out as a violation, and no identity is claimed."""
        leaf = leaf_with(raw_san(plans.der(0x86, WEB.encode()) + der))
        with pytest.raises(ProfileViolation, match="expected well-formed extensions"):
            leaf_spiffe_id(leaf)
        assert claimed_spiffe_id(leaf) is None


class TestClaimedSpiffeId:
    """For log lines: the name, whether or not anything proves it."""

    def test_reads_the_name_of_a_refused_leaf(self) -> None:
        """The profile may be broken elsewhere."""
        leaf = DevelopmentCA().issue_faulty("ca_leaf").leaf
        assert str(claimed_spiffe_id(leaf)) == WEB

    @pytest.mark.parametrize("fault", ["no_san", "two_uris", "nul_in_uri", "trailing_newline"])
    def test_is_none_when_there_is_not_one(self, fault: str) -> None:
        """An ambiguous or malformed name is never shown as an identity."""
        assert claimed_spiffe_id(DevelopmentCA().issue_faulty(fault).leaf) is None


class TestIsAuthority:
    """Only basicConstraints cA=true makes an authority."""

    def test_tells_them_apart(self) -> None:
        """A root is one, a leaf is not."""
        ca = DevelopmentCA()
        assert is_authority(ca.authority)
        assert not is_authority(ca.issue().leaf)
