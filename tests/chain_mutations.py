# SPDX-License-Identifier: Apache-2.0
"""Chains by the thousand: good plans, and what may be wrong with them.

Each mutation is a function of a plan and random numbers; several may meet in one plan. Some leave
the chain valid: whether it is, only a verifier can tell.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.chains import (
    Chain,
    any_authority,
    any_issued,
    any_of,
    authority_of,
    carry_out,
    der,
    good_plan,
    key_of,
    key_usage,
    link,
    name_of,
)
from tests.name_mutations import NAME_MUTATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chains import Plan


def chains(seed: int, count: int) -> list[Chain]:
    """`count` chains, a quarter of them without a mutation, the others with one to three."""
    rng = random.Random(seed)  # noqa: S311
    return [_chain(rng, number) for number in range(count)]


def _chain(rng: random.Random, number: int) -> Chain:
    plan = good_plan(rng)
    mutations = list(MUTATIONS.items())
    if number % 4:
        # The first is taken in turn, so that each kind occurs often enough.
        picked = [
            mutations[number % len(mutations)],
            *rng.sample(mutations, rng.choice([0, 0, 1, 2])),
        ]
        for label, mutate in picked:
            mutate(plan, rng)
            plan.labels.append(label)
    return carry_out(plan, rng)


def _expired(plan: Plan, rng: random.Random) -> None:
    any_of(plan, rng).not_after = datetime(2021, 1, 1, tzinfo=UTC)


def _not_yet_valid(plan: Plan, rng: random.Random) -> None:
    any_of(plan, rng).not_before = datetime(2048, 1, 1, tzinfo=UTC)


def _wrong_signature(plan: Plan, rng: random.Random) -> None:
    any_issued(plan, rng).issuer_key = key_of("p256", rng)


def _wrong_issuer_name(plan: Plan, rng: random.Random) -> None:
    any_issued(plan, rng).issuer_name = name_of("nobody")


def _respelled_issuer_name(plan: Plan, rng: random.Random) -> None:
    """Another spelling of the same name by RFC 5280 §7.1: case and white space."""
    number = rng.randrange(plan.trusted + 1, len(plan.certificates))
    above = plan.certificates[number - 1].name
    plan.certificates[number].issuer_name = x509.Name(
        [x509.NameAttribute(each.oid, f" {str(each.value).upper()}  ") for each in above]
    )


def _not_an_authority(plan: Plan, rng: random.Random) -> None:
    any_authority(plan, rng).put(x509.BasicConstraints(ca=False, path_length=None), critical=True)


def _no_basic_constraints(plan: Plan, rng: random.Random) -> None:
    any_authority(plan, rng).drop(x509.BasicConstraints)


def _may_not_sign(plan: Plan, rng: random.Random) -> None:
    any_authority(plan, rng).put(key_usage(digital_signature=True, crl_sign=True), critical=True)


def _no_key_usage(plan: Plan, rng: random.Random) -> None:
    any_of(plan, rng).drop(x509.KeyUsage)


def _path_length(plan: Plan, rng: random.Random) -> None:
    limit = x509.BasicConstraints(ca=True, path_length=rng.randrange(3))
    any_authority(plan, rng).put(limit, critical=rng.random() < 0.5)


def _self_issued(plan: Plan, rng: random.Random) -> None:
    """A CA of a new key under its own name: does not count for the path length."""
    number = rng.randrange(plan.trusted, len(plan.certificates) - 1)
    above = plan.certificates[number]
    renewed = authority_of(above.name, rng)
    link(above, renewed)
    plan.certificates.insert(number + 1, renewed)
    link(renewed, plan.certificates[number + 2])


def _unknown_extension(plan: Plan, rng: random.Random) -> None:
    value = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\5\0")
    any_of(plan, rng).put(value, critical=rng.random() < 0.6)


def _critical_extension(plan: Plan, rng: random.Random) -> None:
    target = any_of(plan, rng)
    oid = rng.choice(list(target.extensions))
    target.extensions[oid] = (target.extensions[oid][0], True)


def _policies(plan: Plan, rng: random.Random) -> None:
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.55555.2")
    values: list[x509.ExtensionType] = [
        x509.CertificatePolicies([x509.PolicyInformation(oid, None)]),
        x509.PolicyConstraints(0, None),
        x509.InhibitAnyPolicy(0),
        x509.OCSPNoCheck(),
        x509.FreshestCRL([_distribution_point()]),
        x509.CRLDistributionPoints([_distribution_point()]),
        x509.TLSFeature([x509.TLSFeatureType.status_request]),
    ]
    any_of(plan, rng).put(rng.choice(values), critical=rng.random() < 0.7)


def _distribution_point() -> x509.DistributionPoint:
    where = [x509.UniformResourceIdentifier("http://crl.example.org/crl")]
    return x509.DistributionPoint(where, None, None, None)


def _special_extension(plan: Plan, rng: random.Random) -> None:
    """Extensions that OpenSSL acts upon although they are rare: Netscape type, proxy, RFC 3779."""
    oid, value = rng.choice(
        [
            ("2.16.840.1.113730.1.1", der(0x03, b"\x06\x40")),
            ("1.3.6.1.5.5.7.1.14", bytes.fromhex("300c300a06082b06010505071501")),
            ("1.3.6.1.5.5.7.1.8", bytes.fromhex("3009a0073005020300fde8")),
        ]
    )
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
    any_of(plan, rng).put(extension, critical=rng.random() < 0.3)


def _key_type(plan: Plan, rng: random.Random) -> None:
    kinds = ["p384", "p521", "ed25519", "rsa2048", "rsa2048", "rsa1024", "k256", "ed448", "p224"]
    number = rng.randrange(plan.trusted, len(plan.certificates))
    plan.rekey(number, key_of(rng.choice(kinds), rng))
    plan.certificates[min(number + 1, len(plan.certificates) - 1)].is_pss = rng.random() < 0.5


def _digest_type(plan: Plan, rng: random.Random) -> None:
    kinds = [hashes.SHA1, hashes.SHA1, hashes.SHA224, hashes.SHA384, hashes.SHA512, hashes.SHA3_256]
    any_of(plan, rng).digest = rng.choice(kinds)()


def _no_key_identifiers(plan: Plan, rng: random.Random) -> None:
    target = any_of(plan, rng)
    target.drop(x509.AuthorityKeyIdentifier)
    target.drop(x509.SubjectKeyIdentifier)


def _wrong_key_identifier(plan: Plan, rng: random.Random) -> None:
    any_issued(plan, rng).put(x509.AuthorityKeyIdentifier(rng.randbytes(20), None, None))


def _issuer_and_serial(plan: Plan, rng: random.Random) -> None:
    """An authority key identifier by issuer and serial number: right, or wrong in either."""
    number = rng.randrange(plan.trusted + 1, len(plan.certificates))
    issuer = plan.certificates[number - 1]
    above = plan.certificates[max(number - 2, 0)].name
    right = rng.choice([(above, issuer.serial), (name_of("x"), issuer.serial), (above, 7)])
    named = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(right[0])], right[1])
    plan.certificates[number].put(named)


def _purposes(plan: Plan, rng: random.Random) -> None:
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    every, other = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsageOID.CODE_SIGNING
    choices = [[server, client], [server], [client], [every], [other], [server, client, other]]
    usage = x509.ExtendedKeyUsage(rng.choice(choices))
    any_of(plan, rng).put(usage, critical=rng.random() < 0.5)


def _leaf_usage(plan: Plan, rng: random.Random) -> None:
    choices = ["digital_signature", "key_agreement", "key_encipherment", "key_cert_sign"]
    bits = dict.fromkeys(rng.sample(choices, rng.choice([1, 2])), True)
    plan.leaf.put(key_usage(**bits), critical=rng.random() < 0.8)


def _untrusted(plan: Plan, rng: random.Random) -> None:
    """The authority of the bundle has the right name and another key."""
    decoy = authority_of(plan.authority.name, rng)
    plan.surplus.append(plan.authority.signed_by(plan.certificates[max(plan.trusted - 1, 0)]))
    plan.certificates[: plan.trusted + 1] = [decoy]
    plan.trusted = 0
    key = plan.certificates[1].issuer_key or key_of("p256", rng)
    plan.certificates[1].issuer_key = key


def _decoy_authority(plan: Plan, rng: random.Random) -> None:
    """A second authority of the same name: another key, or the same key and expired."""
    decoy = authority_of(plan.authority.name, rng)
    if rng.random() < 0.5:
        decoy = replace(plan.authority, not_after=datetime(2021, 1, 1, tzinfo=UTC), edit=None)
        decoy.serial += 2
    if rng.random() < 0.5:
        decoy.drop(x509.SubjectKeyIdentifier)
    plan.decoys.append(decoy.signed_by(decoy))


def _surplus(plan: Plan, rng: random.Random) -> None:
    """Intermediates that lead nowhere: a namesake of a CA of the path, and a stranger."""
    for name in (any_authority(plan, rng).name, name_of("stranger")):
        stranger = authority_of(name, rng)
        if rng.random() < 0.5:
            stranger.drop(x509.SubjectKeyIdentifier)
        plan.surplus.append(stranger.signed_by(stranger))


def _cross_signed(plan: Plan, rng: random.Random) -> None:
    """The authority of the bundle is also presented, signed by a root that nobody knows."""
    root = authority_of(name_of("elsewhere"), rng)
    plan.surplus.append(replace(plan.authority, edit=None).signed_by(root))


def _withheld(plan: Plan, _rng: random.Random) -> None:
    plan.withheld = True


def _long(plan: Plan, rng: random.Random) -> None:
    for _ in range(rng.choice([2, 6, 7, 8])):
        above = plan.certificates[-2]
        more = authority_of(name_of(f"more {rng.randrange(10**6)}"), rng)
        link(above, more)
        plan.certificates.insert(len(plan.certificates) - 1, more)
    link(plan.certificates[-2], plan.leaf)


def _edited(plan: Plan, rng: random.Random) -> None:
    """One byte of the to-be-signed bytes of a CA is another, and the signature is true."""
    at, value = rng.random(), rng.choice([0, 1, 0x30, 0x80, 0xFF, rng.randrange(256)])

    def edit(tbs: bytes) -> bytes:
        position = int(at * len(tbs))
        return tbs[:position] + bytes([value]) + tbs[position + 1 :]

    target = any_of(plan, rng) if rng.random() < 0.3 else any_authority(plan, rng)
    target.edit = edit


MUTATIONS: dict[str, Callable[[Plan, random.Random], None]] = {
    "expired": _expired,
    "not yet valid": _not_yet_valid,
    "wrong signature": _wrong_signature,
    "wrong issuer name": _wrong_issuer_name,
    "respelled issuer name": _respelled_issuer_name,
    "not an authority": _not_an_authority,
    "no basic constraints": _no_basic_constraints,
    "may not sign": _may_not_sign,
    "no key usage": _no_key_usage,
    "path length": _path_length,
    "self-issued": _self_issued,
    "unknown extension": _unknown_extension,
    "critical extension": _critical_extension,
    "policies": _policies,
    "special extension": _special_extension,
    "key type": _key_type,
    "digest": _digest_type,
    "no key identifiers": _no_key_identifiers,
    "wrong key identifier": _wrong_key_identifier,
    "issuer and serial": _issuer_and_serial,
    "purposes": _purposes,
    "leaf usage": _leaf_usage,
    "untrusted": _untrusted,
    "decoy authority": _decoy_authority,
    "surplus": _surplus,
    "cross-signed": _cross_signed,
    "withheld": _withheld,
    "long": _long,
    "edited": _edited,
    "edited again": _edited,
    **NAME_MUTATIONS,
}
