# SPDX-License-Identifier: Apache-2.0
"""The path validator, rule by rule; `test_path_beside_openssl` compares it by the thousand."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kubetls_sdk._issuer import check_signature
from kubetls_sdk._path import MAX_SIGNATURE_CHECKS, PathError, find_path
from kubetls_sdk.svid import MAX_CHAIN
from tests import chains as plans

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Built:
    """A plan carried out, every certificate parsed, from the root to the leaf."""

    certificates: list[x509.Certificate]

    @property
    def leaf(self) -> x509.Certificate:
        return self.certificates[-1]

    @property
    def intermediates(self) -> list[x509.Certificate]:
        return self.certificates[-2:0:-1]

    @property
    def root(self) -> x509.Certificate:
        return self.certificates[0]

    def find(self, now: datetime = NOW) -> tuple[x509.Certificate, ...]:
        return find_path(self.leaf, self.intermediates, [self.root], now=now)

    def refusal(self, now: datetime = NOW) -> str:
        with pytest.raises(PathError) as caught:
            self.find(now)
        return str(caught.value)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def plan_of(*, intermediates: int = 1, kind: str = "p256") -> plans.Plan:
    """A good plan with so many intermediates."""
    return plans.straight_plan(seeded(intermediates), intermediates, kind)


def build(plan: plans.Plan) -> Built:
    """Sign all certificates of a plan."""
    certificates = plan.certificates
    pairs = zip(certificates, [certificates[0], *certificates], strict=False)
    signed = [each.signed_by(issuer) for each, issuer in pairs]
    return Built([x509.load_der_x509_certificate(each) for each in signed])


class TestFindPath:
    """A path leads from the leaf to an authority, or a reason says why there is none."""

    @pytest.mark.parametrize("count", range(MAX_CHAIN - 1))
    def test_returns_the_path_leaf_first_and_anchor_last(self, count: int) -> None:
        """The path holds the leaf, each intermediate upwards, and the authority."""
        built = build(plan_of(intermediates=count))
        assert built.find() == tuple(reversed(built.certificates))

    @pytest.mark.parametrize("kind", ["p256", "p384", "p521", "ed25519", "rsa2048"])
    @pytest.mark.parametrize("is_pss", [False, True], ids=["plain", "pss"])
    def test_takes_each_algorithm(self, kind: str, is_pss: bool) -> None:
        """Ed25519, ECDSA on the three NIST curves, and RSA with both paddings are known."""
        plan = plan_of(kind=kind)
        for certificate in plan.certificates:
            certificate.is_pss = is_pss
        assert len(build(plan).find()) == 3

    def test_takes_intermediates_in_any_order(self) -> None:
        """What a peer sends need not be in order."""
        built = build(plan_of(intermediates=4))
        for order in itertools.islice(itertools.permutations(built.intermediates), 0, None, 5):
            assert find_path(built.leaf, order, [built.root], now=NOW)[-1] == built.root

    def test_ignores_surplus_intermediates(self) -> None:
        """Certificates that belong to no path do no harm."""
        built, other = build(plan_of(intermediates=2)), build(plan_of(intermediates=3))
        presented = [*other.certificates, *built.intermediates, *built.intermediates]
        assert len(find_path(built.leaf, presented, [built.root], now=NOW)) == 4

    def test_ends_at_an_intermediate_that_is_an_authority(self) -> None:
        """An authority is trusted because it is in the bundle, not because it is self-signed."""
        built = build(plan_of(intermediates=2))
        anchor = built.intermediates[0]
        assert find_path(built.leaf, [], [anchor], now=NOW) == (built.leaf, anchor)

    def test_does_not_check_the_signature_of_the_anchor(self) -> None:
        """An authority is taken as it is; nobody has to vouch for it."""
        plan = plan_of(intermediates=0)
        plan.certificates[0].issuer_key = plans.key_of("p256", seeded(9))
        assert len(build(plan).find()) == 2

    def test_backs_out_of_a_namesake(self) -> None:
        """Two authorities of one name: the one whose key signed is found, in either order."""
        plan, namesake = plan_of(intermediates=0), plan_of(intermediates=0)
        namesake.certificates[0].key = plans.key_of("p256", seeded(8))
        for each in (*plan.certificates, namesake.certificates[0]):
            each.drop(x509.SubjectKeyIdentifier)
        right, wrong = build(plan), build(namesake)
        for authorities in ([right.root, wrong.root], [wrong.root, right.root]):
            found = find_path(right.leaf, [], authorities, now=NOW)
            assert found == (right.leaf, right.root)

    def test_trusts_nobody_without_authorities(self) -> None:
        """An empty bundle refuses every chain, and says so."""
        built = build(plan_of())
        with pytest.raises(PathError, match="the trust bundle is empty"):
            find_path(built.leaf, built.intermediates, [], now=NOW)

    def test_never_takes_the_leaf_for_an_authority(self) -> None:
        """A leaf in the list of authorities does not vouch for itself."""
        built = build(plan_of())
        with pytest.raises(PathError, match="no authority of the bundle issued"):
            find_path(built.leaf, [], [built.leaf], now=NOW)

    def test_refuses_a_path_that_is_too_long(self) -> None:
        """Leaf and anchor included, a path has at most `MAX_CHAIN` certificates."""
        assert "at most 10" in build(plan_of(intermediates=MAX_CHAIN - 1)).refusal()

    def test_refuses_a_naive_time(self) -> None:
        """A time without a zone is a mistake of the caller, not a moment."""
        with pytest.raises(TypeError):
            build(plan_of()).find(NOW.replace(tzinfo=None))


class TestValidity:
    """Every certificate of the path is valid at the time of the check, both ends included."""

    @pytest.mark.parametrize("number", [0, 1, 2], ids=["anchor", "intermediate", "leaf"])
    def test_holds_from_not_before_to_not_after(self, number: int) -> None:
        """RFC 5280 §4.1.2.5: the period includes both its ends."""
        plan = plan_of()
        plan.certificates[number].not_before = NOW
        plan.certificates[number].not_after = NOW + 60 * SECOND
        built = build(plan)
        assert built.find(NOW)
        assert built.find(NOW + 60 * SECOND)
        assert "is not valid before 2026-06-01T00:00:00Z" in built.refusal(NOW - SECOND)
        assert "expired at 2026-06-01T00:01:00Z" in built.refusal(NOW + 61 * SECOND)


def _drop_constraints(plan: plans.Plan) -> None:
    plan.certificates[1].drop(x509.BasicConstraints)


def _is_leaf_like(plan: plans.Plan) -> None:
    plan.certificates[1].put(x509.BasicConstraints(ca=False, path_length=None), critical=True)


def _may_not_sign(plan: plans.Plan) -> None:
    plan.certificates[1].put(plans.key_usage(digital_signature=True), critical=True)


def _anchor_may_not_sign(plan: plans.Plan) -> None:
    plan.certificates[0].put(plans.key_usage(crl_sign=True), critical=True)


def _for_servers_only(plan: plans.Plan) -> None:
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    plan.certificates[1].put(usage)


def _too_long_below_anchor(plan: plans.Plan) -> None:
    plan.certificates[0].put(x509.BasicConstraints(ca=True, path_length=0), critical=True)


def _signed_by_another(plan: plans.Plan) -> None:
    plan.leaf.issuer_key = plans.key_of("p256", seeded(5))


def _unknown_issuer(plan: plans.Plan) -> None:
    plan.leaf.issuer_name = plans.name_of("nobody")


def _issued_by_itself(plan: plans.Plan) -> None:
    plan.leaf.issuer_name = plan.leaf.name
    plan.leaf.drop(x509.AuthorityKeyIdentifier)


def _other_key_identifier(plan: plans.Plan) -> None:
    plan.leaf.put(x509.AuthorityKeyIdentifier(b"x" * 20, None, None))


def _unknown_critical(number: int) -> Callable[[plans.Plan], None]:
    def mutate(plan: plans.Plan) -> None:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0")
        plan.certificates[number].put(unknown, critical=True)

    return mutate


def _proxy(plan: plans.Plan) -> None:
    value = bytes.fromhex("300c300a06082b06010505071501")
    oid = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
    plan.leaf.put(x509.UnrecognizedExtension(oid, value), critical=False)


def _weak_rsa(number: int) -> Callable[[plans.Plan], None]:
    def mutate(plan: plans.Plan) -> None:
        plan.rekey(number, plans.key_of("rsa1024", seeded(1)))

    return mutate


def _odd_curve(plan: plans.Plan) -> None:
    plan.rekey(1, plans.key_of("k256", seeded(1)))


def _sha1(plan: plans.Plan) -> None:
    plan.leaf.digest = hashes.SHA1()  # noqa: S303


REFUSALS = [
    pytest.param(_drop_constraints, "CN=rank 1,.* is not a CA", id="no basicConstraints"),
    pytest.param(_is_leaf_like, "CN=rank 1,.* is not a CA", id="cA=false"),
    pytest.param(_may_not_sign, "CN=rank 1,.* may not sign", id="no keyCertSign"),
    pytest.param(_anchor_may_not_sign, "CN=rank 0,.* may not sign", id="anchor may not sign"),
    pytest.param(_for_servers_only, "CN=rank 1,.* TLS on both sides", id="serverAuth only"),
    pytest.param(_too_long_below_anchor, "path length exceeded: .*rank 0.* got 1", id="pathlen"),
    pytest.param(_signed_by_another, "CN=web,.* is not signed by .*rank 1", id="wrong signature"),
    pytest.param(_unknown_issuer, "no authority of the bundle issued .*web", id="unknown issuer"),
    pytest.param(_issued_by_itself, "web.* names itself as its issuer", id="self-issued leaf"),
    pytest.param(_other_key_identifier, "no authority .* issued .*web", id="key identifiers"),
    pytest.param(_unknown_critical(0), "rank 0.* critical extension 1.2.3", id="unknown, anchor"),
    pytest.param(_unknown_critical(1), "rank 1.* critical extension 1.2.3", id="unknown, CA"),
    pytest.param(_unknown_critical(2), "web.* critical extension 1.2.3", id="unknown, leaf"),
    pytest.param(_proxy, "web.* unsupported extension 1.3.6.1.5.5.7.1.14", id="proxy certificate"),
    pytest.param(_weak_rsa(0), "rank 0.* weak RSA key of 1024 bits", id="RSA-1024 anchor"),
    pytest.param(_weak_rsa(1), "rank 1.* weak RSA key of 1024 bits", id="RSA-1024 CA"),
    pytest.param(_weak_rsa(2), "web.* weak RSA key of 1024 bits", id="RSA-1024 leaf"),
    pytest.param(_odd_curve, "rank 1.* curve 'secp256k1'", id="other curve"),
    pytest.param(_sha1, "web.* is signed with sha1", id="SHA-1"),
]


class TestReason:
    """A refusal names the certificate and the rule, of the path that came furthest."""

    @pytest.mark.parametrize(("mutate", "expected"), REFUSALS)
    def test_says_which_certificate_and_why(
        self, mutate: Callable[[plans.Plan], None], expected: str
    ) -> None:
        """One fault gives one reason."""
        plan = plan_of()
        mutate(plan)
        built = build(plan)
        with pytest.raises(PathError, match=expected):
            built.find()

    def test_names_the_last_certificate_that_nobody_issued(self) -> None:
        """When the root is unknown, the intermediate below it is the one to look at."""
        built, other = build(plan_of(intermediates=2)), build(plan_of(intermediates=0))
        with pytest.raises(PathError, match=r"no authority of the bundle issued .*rank 1"):
            find_path(built.leaf, built.intermediates, [other.leaf], now=NOW)

    @pytest.mark.parametrize("number", [0, 1, 2], ids=["anchor", "CA", "leaf"])
    def test_covers_a_name_that_cannot_be_read(self, number: int) -> None:
        """A subject that is not UTF-8 refuses its certificate, wherever it stands."""
        plan = plan_of()
        value = (
            plan.certificates[number]
            .name.rdns[-1]
            .get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0]
            .value.encode()
        )
        for each in plan.certificates[number : number + 2]:
            each.edit = lambda tbs: tbs.replace(value, b"\xff" * len(value))
        assert re.search("malformed|no authority of the bundle issued", build(plan).refusal())

    def test_is_short_whatever_the_certificate_says(self) -> None:
        """A peer cannot flood a log with its subject."""
        plan = plan_of()
        name = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "x\n" * 5000, _validate=False)
        plan.leaf.name = x509.Name([name])
        plan.leaf.not_after = NOW - SECOND
        refusal = build(plan).refusal()
        assert len(refusal) < 300
        assert "\n" not in refusal


class TestWork:
    """What a hostile peer presents costs a bounded time."""

    def test_is_bounded_for_a_web_of_cross_signatures(self, monkeypatch) -> None:
        """Nine CAs that all signed one another: not every permutation of them is tried."""
        presented = _web_of_authorities(9)
        other = build(plan_of(intermediates=0))
        checks = []

        def check(child: x509.Certificate, issuer: x509.Certificate) -> None:
            checks.append(issuer)
            check_signature(child, issuer)

        monkeypatch.setattr("kubetls_sdk._path.check_signature", check)
        with pytest.raises(PathError):
            find_path(presented[0], presented[1:], [other.root], now=NOW)
        assert len(checks) == MAX_SIGNATURE_CHECKS

    def test_is_bounded_for_many_names_and_constraints(self) -> None:
        """Names times constraints beyond the bound are refused, not compared."""
        plan = plan_of()
        names = [x509.DNSName(f"n{number}.svc") for number in range(200)]
        plan.leaf.put(x509.SubjectAlternativeName(names))
        plan.certificates[1].put(x509.NameConstraints(None, names[:100]), critical=True)
        assert "too many names" in build(plan).refusal()


def _web_of_authorities(count: int) -> list[x509.Certificate]:
    """A leaf, and CAs of two names and one key: each of one name was signed by all of the other."""
    plan = plan_of(intermediates=1)
    one, two, leaf = plan.certificates
    one.key = two.key
    for each in plan.certificates:
        each.drop(x509.AuthorityKeyIdentifier)
        each.drop(x509.SubjectKeyIdentifier)
    found = [leaf.signed_by(two)]
    for serial in range(1, count + 1):
        subject, issuer = (two, one) if serial % 2 else (one, two)
        subject.serial = serial
        found.append(subject.signed_by(issuer))
    return [x509.load_der_x509_certificate(each) for each in found]
