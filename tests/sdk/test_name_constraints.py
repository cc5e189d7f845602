# SPDX-License-Identifier: Apache-2.0
"""Name constraints: every name form, permitted and excluded, as OpenSSL reads them."""

from __future__ import annotations

import ipaddress
import random

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kubetls_sdk import PeerVerificationError, TrustBundleSet, verify_svid
from kubetls_sdk._issuer import PathError
from kubetls_sdk._name_constraints import check_names
from kubetls_sdk.testing import DevelopmentCA, name_constraints
from tests import chains as plans

DNS, URI, MAIL = x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name


def net(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_network(text))


def ip(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_address(text))


def directory(*values: str) -> x509.DirectoryName:
    return x509.DirectoryName(
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in values])
    )


def path_of(plan: plans.Plan) -> list[x509.Certificate]:
    """The certificates of a plan, leaf first."""
    certificates = plan.certificates
    pairs = zip(certificates, [certificates[0], *certificates], strict=False)
    return [x509.load_der_x509_certificate(c.signed_by(above)) for c, above in pairs][::-1]


def plan_with(
    constraints: x509.NameConstraints, *names: x509.GeneralName, subject: x509.Name | None = None
) -> plans.Plan:
    """Root, constrained intermediate, and a leaf with these names and nothing else."""
    plan = plans.straight_plan(random.Random(1), 1)  # noqa: S311
    plan.certificates[1].put(constraints, critical=True)
    plan.leaf.name = subject or x509.Name([])
    plan.leaf.drop(x509.SubjectAlternativeName)
    if names:
        plan.leaf.put(x509.SubjectAlternativeName(names), critical=True)
    return plan


def is_within(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    """Whether a name matches a constraint; permitted and excluded must agree on that."""
    permitted = _passes(plan_with(x509.NameConstraints([base], None), name))
    excluded = not _passes(plan_with(x509.NameConstraints(None, [base]), name))
    assert permitted == excluded
    return permitted


def _passes(plan: plans.Plan) -> bool:
    try:
        check_names(path_of(plan))
    except PathError:
        return False
    return True


class TestMatching:
    """Whether a name lies within a constraint of its form."""

    @pytest.mark.parametrize(
        ("name", "base", "expected"),
        [
            (URI("spiffe://example.org/a"), URI("example.org"), True),
            (URI("spiffe://EXAMPLE.org/a"), URI("example.ORG"), True),
            (URI("spiffe://example.org"), URI("example.org"), True),
            (URI("spiffe://example.org:8443/a"), URI("example.org"), True),
            (URI("spiffe://example.org.evil.test/a"), URI("example.org"), False),
            (URI("spiffe://evil.test/example.org"), URI("example.org"), False),
            (URI("spiffe://a.example.org/a"), URI("example.org"), False),
            (URI("spiffe://a.example.org/a"), URI(".example.org"), True),
            (URI("spiffe://example.org/a"), URI(".example.org"), False),
            (URI("spiffe://xexample.org/a"), URI(".example.org"), False),
            (DNS("a.svc"), DNS("a.svc"), True),
            (DNS("A.SVC"), DNS("a.svc"), True),
            (DNS("b.a.svc"), DNS("a.svc"), True),
            (DNS("xa.svc"), DNS("a.svc"), False),
            (DNS("svc"), DNS("a.svc"), False),
            (DNS("b.a.svc"), DNS(".a.svc"), True),
            (DNS("a.svc"), DNS(".a.svc"), False),
            (DNS("anything"), DNS(""), True),
            (MAIL("u@a.svc"), MAIL("u@a.svc"), True),
            (MAIL("U@a.svc"), MAIL("u@a.svc"), False),
            (MAIL("u@A.svc"), MAIL("a.svc"), True),
            (MAIL("u@b.a.svc"), MAIL("a.svc"), False),
            (MAIL("u@b.a.svc"), MAIL(".a.svc"), True),
            (MAIL("u@a.svc"), MAIL(".a.svc"), False),
            (ip("10.1.2.3"), net("10.0.0.0/8"), True),
            (ip("11.1.2.3"), net("10.0.0.0/8"), False),
            (ip("::1"), net("::/0"), True),
            (ip("::1"), net("0.0.0.0/0"), False),
            (directory("A", "B"), directory("A"), True),
            (directory(" a  b "), directory("A B"), True),
            (directory("A"), directory("A", "B"), False),
            (directory("B", "A"), directory("A"), False),
            (directory("A"), directory(), True),
        ],
    )
    def test_compares_by_form(self, name, base, expected: bool) -> None:
        """Permitted takes what matches; excluded refuses exactly that."""
        assert is_within(name, base) is expected

    @pytest.mark.parametrize(
        "name",
        [
            URI("spiffe://user@example.org/a"),
            URI("spiffe://example.org?a"),
            URI("spiffe://example.org/a:b"),
            URI("urn:example"),
            URI("spiffe:///a"),
            URI("spiffe://example.org\n/a"),
        ],
        ids=lambda name: repr(name.value),
    )
    @pytest.mark.parametrize("kind", ["permitted_uris", "excluded_uris"])
    def test_refuses_an_ambiguous_uri(self, name, kind: str) -> None:
        """A URI whose host two readers see differently passes no constraint, of either kind."""
        constraints = name_constraints(**{kind: ["example.org"]})
        with pytest.raises(PathError, match="plain host"):
            check_names(path_of(plan_with(constraints, name)))

    @pytest.mark.parametrize(
        ("name", "base"),
        [
            (DNS("a.svc."), DNS("a.svc")),
            (DNS("a.svc"), DNS("a.svc.")),
            (URI("spiffe://example.org/a"), URI("")),
            (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),) * 2,
            (x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\5\0"),) * 2,
            (x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\5\0"), MAIL("a.svc")),
        ],
        ids=["dot", "dot in base", "empty URI", "id", "other name", "UTF-8 mail"],
    )
    def test_refuses_what_it_cannot_compare(self, name, base) -> None:
        """Neither permitted nor excluded: such a name is refused under both."""
        assert not _passes(plan_with(x509.NameConstraints([base], None), name))
        assert not _passes(plan_with(x509.NameConstraints(None, [base]), name))

    @pytest.mark.parametrize("base", [DNS("a.svc"), MAIL("a.svc"), net("10.0.0.0/8")], ids=repr)
    def test_leaves_other_forms_alone(self, base) -> None:
        """A constraint says nothing of names of another form."""
        assert _passes(plan_with(x509.NameConstraints([base], None), URI("spiffe://a/b")))

    def test_wants_one_of_several_permitted(self) -> None:
        """Permitted subtrees of one form are alternatives; an excluded one always wins."""
        two = x509.NameConstraints([DNS("a.svc"), DNS("b.svc")], [DNS("x.b.svc")])
        assert _passes(plan_with(two, DNS("1.a.svc"), DNS("1.b.svc")))
        assert not _passes(plan_with(two, DNS("1.a.svc"), DNS("c.svc")))
        assert not _passes(plan_with(two, DNS("x.b.svc")))


class TestReach:
    """Which certificates are bound by which constraints."""

    @pytest.mark.parametrize("number", [0, 1, 2], ids=["anchor", "upper", "lower"])
    def test_every_authority_binds_the_leaf(self, number: int) -> None:
        """However high a constraint stands, the anchor's own included."""
        plan = plans.straight_plan(random.Random(1), 2)  # noqa: S311
        plan.certificates[number].put(name_constraints(permitted_uris=["other.test"]))
        with pytest.raises(PathError, match=f"CN=rank {number},.* does not permit 'spiffe://exam"):
            check_names(path_of(plan))

    def test_binds_intermediates_too(self) -> None:
        """A CA below may not carry an excluded name."""
        plan = plans.straight_plan(random.Random(1), 1)  # noqa: S311
        plan.certificates[0].put(name_constraints(excluded_dns=["evil.test"]))
        plan.certificates[1].put(x509.SubjectAlternativeName([DNS("evil.test")]))
        with pytest.raises(PathError, match="excludes 'evil"):
            check_names(path_of(plan))

    def test_spares_self_issued_authorities_but_never_the_leaf(self) -> None:
        """RFC 5280 §6.1.3 (b): a renewed key of the same CA is no subordinate."""
        plan = plans.straight_plan(random.Random(1), 1)  # noqa: S311
        plan.certificates[1].name = plan.certificates[0].name
        plan.certificates[0].put(name_constraints(excluded_dns=["evil.test"]))
        plan.certificates[1].put(x509.SubjectAlternativeName([DNS("evil.test")]))
        check_names(path_of(plan))
        plan.leaf.put(x509.SubjectAlternativeName([DNS("evil.test")]))
        with pytest.raises(PathError, match="excludes 'evil"):
            check_names(path_of(plan))

    def test_binds_a_leaf_that_bears_the_name_of_its_issuer(self) -> None:
        """A leaf does not slip through by calling itself as its CA does."""
        plan = plans.straight_plan(random.Random(1), 0)  # noqa: S311
        plan.leaf.name = plan.certificates[0].name
        plan.leaf.put(x509.SubjectAlternativeName([DNS("evil.test")]))
        plan.certificates[0].put(name_constraints(excluded_dns=["evil.test"]))
        with pytest.raises(PathError, match="excludes 'evil"):
            check_names(path_of(plan))

    def test_does_not_bind_its_own_bearer(self) -> None:
        """A CA is not bound by its own constraints."""
        plan = plans.straight_plan(random.Random(1), 1)  # noqa: S311
        plan.certificates[1].put(x509.SubjectAlternativeName([DNS("ca.test")]))
        plan.certificates[1].put(name_constraints(excluded_dns=["ca.test"]))
        check_names(path_of(plan))


class TestSubject:
    """Names hide in the subject as well."""

    @pytest.mark.parametrize(
        "common_name", ["evil.test", "a.evil.test", "EVIL.test", "evil.test\0"]
    )
    def test_common_name_that_reads_like_a_host_is_one(self, common_name: str) -> None:
        """Without a DNS SAN, old software would take the common name for the host."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        constraints = name_constraints(excluded_dns=["evil.test"])
        assert not _passes(plan_with(constraints, subject=subject))
        assert _passes(plan_with(constraints, DNS("a.svc"), subject=subject))

    @pytest.mark.parametrize("common_name", ["web", "a b.evil.test", "evil..test"])
    def test_other_common_names_are_not(self, common_name: str) -> None:
        """A plain word is no host name."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        assert _passes(plan_with(name_constraints(permitted_dns=["a.svc"]), subject=subject))

    def test_mailbox_counts(self) -> None:
        """An emailAddress attribute falls under email constraints."""
        subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "u@evil.test")])
        excluded = x509.NameConstraints(None, [MAIL("evil.test")])
        assert not _passes(plan_with(excluded, subject=subject))

    def test_mailbox_of_another_string_type_is_refused(self) -> None:
        """OpenSSL compares an IA5String only; UTF-8 may hide another spelling."""
        utf8 = x509.name._ASN1Type.UTF8String
        attribute = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "u@a.svc", utf8)
        plan = plan_with(name_constraints(permitted_dns=["a.svc"]), subject=x509.Name([attribute]))
        with pytest.raises(PathError, match="has a malformed name"):
            check_names(path_of(plan))

    def test_common_name_with_nul_is_refused(self) -> None:
        """What stands behind a NUL is seen by some readers and not by others."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "evil.test\0.a.svc")])
        with pytest.raises(PathError, match="common name with NUL"):
            check_names(path_of(plan_with(name_constraints(excluded_dns=["x"]), subject=subject)))


class TestWrittenForm:
    """What the parser would drop is not overlooked."""

    @pytest.mark.parametrize("distance", [b"\x80\x01\x01", b"\x81\x01\x05"], ids=["min", "max"])
    def test_refuses_minimum_and_maximum(self, distance: bytes) -> None:
        """RFC 5280 §4.2.1.10: minimum is zero and maximum absent."""
        subtree = plans.der(0x30, plans.der(0x82, b"a.svc") + distance)
        value = plans.der(0x30, plans.der(0xA0, subtree))
        plan = plan_with(name_constraints(permitted_dns=["a.svc"]), DNS("a.svc"))
        plan.certificates[1].put(x509.UnrecognizedExtension(x509.NameConstraints.oid, value))
        with pytest.raises(PathError, match="minimum or maximum"):
            check_names(path_of(plan))


class TestVerifySvid:
    """The constraints of X509-SVID §4.2, through the front door."""

    @pytest.mark.parametrize(
        ("constraints", "is_good"),
        [
            (name_constraints(permitted_uris=["example.org"]), True),
            (name_constraints(permitted_uris=["other.test"]), False),
            (name_constraints(excluded_uris=["example.org"]), False),
            (name_constraints(permitted_dns=["shop.svc"]), True),
            (name_constraints(permitted_dns=["pay.svc"]), False),
            (name_constraints(excluded_dns=["web.shop.svc"]), False),
        ],
    )
    def test_applies_them(self, constraints, is_good: bool) -> None:
        """An intermediate vouches only for the names that it was given."""
        ca = DevelopmentCA()
        through = ca.intermediate(constraints=constraints)
        svid = ca.issue(through=through, dns_names=["web.shop.svc"])
        bundles = TrustBundleSet([ca.bundle])
        if is_good:
            assert verify_svid(svid.chain, bundles=bundles, now=ca.now)
        else:
            with pytest.raises(PeerVerificationError, match="name constraint of"):
                verify_svid(svid.chain, bundles=bundles, now=ca.now)
