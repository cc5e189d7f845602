# SPDX-License-Identifier: Apache-2.0
"""Ways to put names and name constraints on a planned chain, fitting or not."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.chains import SPIFFE_ID, any_authority, any_of, der, name_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.chains import Plan

NAMES: list[x509.GeneralName] = [
    *map(x509.DNSName, ["a.svc", "b.a.svc", "A.SVC", "xa.svc", "svc", "evil.test", "a.svc."]),
    *map(x509.RFC822Name, ["u@a.svc", "U@a.svc", "u@b.a.svc", "u@evil.test"]),
    *(x509.IPAddress(ipaddress.ip_address(a)) for a in ("10.0.0.1", "11.1.1.1", "::1")),
    x509.DirectoryName(name_of("web")),
    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Other")])),
    x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), der(0x0C, b"u@a.svc")),
    x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), der(0x0C, b"u@a.svc")),
]
AUTHORITY_URIS = [
    "spiffe://example.org",
    "spiffe://evil.test",
    "spiffe://example.org:8443/a",
    "spiffe://u@example.org/a",
    "spiffe://example.org/a:b",
    "urn:example",
    "spiffe://EXAMPLE.org/a",
    "https://sub.example.org/a?q",
]


def _more_names(plan: Plan, rng: random.Random) -> None:
    uri = x509.UniformResourceIdentifier(SPIFFE_ID)
    plan.leaf.put(x509.SubjectAlternativeName([uri, *rng.sample(NAMES, rng.choice([1, 2]))]))


def _authority_names(plan: Plan, rng: random.Random) -> None:
    target = any_authority(plan, rng)
    uri = x509.UniformResourceIdentifier(rng.choice(AUTHORITY_URIS))
    target.put(x509.SubjectAlternativeName([uri, *rng.sample(NAMES, rng.choice([0, 1]))]))


def _subject(plan: Plan, rng: random.Random) -> None:
    """A subject with a mailbox, or a common name that reads like a host or has odd spaces."""
    target = any_of(plan, rng)
    mailbox = x509.NameAttribute(NameOID.EMAIL_ADDRESS, rng.choice(["u@a.svc", "u@evil.test"]))
    utf8 = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "u@a.svc", x509.name._ASN1Type.UTF8String)
    names = [
        x509.Name([*name_of("web"), mailbox]),
        x509.Name([*name_of("web"), utf8]),
        name_of("a.svc"),
        name_of("evil.test"),
        name_of("a..svc"),
        name_of("  WEB  "),
        x509.Name([]),
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, " eXaMpLe ")]),
    ]
    target.name = rng.choice(names[:-2] if target is not plan.leaf else names)


BASES: list[x509.GeneralName] = [
    *map(x509.DNSName, ["a.svc", ".a.svc", "svc", "", "evil.test", "A.svc"]),
    *map(
        x509.UniformResourceIdentifier,
        [
            "example.org",
            "EXAMPLE.org",
            ".example.org",
            ".org",
            "evil.test",
            "",
            "example.org",
            "sub.example.org",
        ],
    ),
    *map(x509.RFC822Name, ["u@a.svc", "a.svc", ".a.svc", "evil.test", ".svc"]),
    *(
        x509.IPAddress(ipaddress.ip_network(a))
        for a in ("10.0.0.0/8", "0.0.0.0/0", "11.0.0.0/8", "::/0")
    ),
    x509.DirectoryName(x509.Name([])),
    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")])),
    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "EXAMPLE ")])),
    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Other")])),
    x509.DirectoryName(name_of("web")),
    x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), der(0x0C, b"u@a.svc")),
]


def _constraints(plan: Plan, rng: random.Random) -> None:
    permitted = rng.sample(BASES, rng.choice([0, 1, 1, 2]))
    excluded = rng.sample(BASES, rng.choice([0, 0, 1] if permitted else [1]))
    value = x509.NameConstraints(permitted or None, excluded or None)
    any_authority(plan, rng).put(value, critical=rng.random() < 0.8)


def _constrained_names(plan: Plan, rng: random.Random) -> None:
    rng.choice([_more_names, _authority_names, _subject])(plan, rng)
    _constraints(plan, rng)


def _constrained_uri(plan: Plan, rng: random.Random) -> None:
    uris = [base for base in BASES if isinstance(base, x509.UniformResourceIdentifier)]
    one = rng.sample(uris, 1)
    value = (
        x509.NameConstraints(one, None) if rng.random() < 0.6 else x509.NameConstraints(None, one)
    )
    any_authority(plan, rng).put(value, critical=True)


def _subtree_distance(plan: Plan, rng: random.Random) -> None:
    """A subtree with minimum or maximum, which RFC 5280 §4.2.1.10 forbids."""
    base = rng.choice([der(0x82, b"a.svc"), der(0x86, b"example.org")])
    distance = rng.choice([der(0x80, b"\1"), der(0x81, b"\5"), b""])
    subtrees = der(0xA0, der(0x30, base + distance))
    value = x509.UnrecognizedExtension(x509.NameConstraints.oid, der(0x30, subtrees))
    any_authority(plan, rng).put(value, critical=True)


NAME_MUTATIONS: dict[str, Callable[[Plan, random.Random], None]] = {
    "more names": _more_names,
    "authority names": _authority_names,
    "subject": _subject,
    "constraints": _constraints,
    "constrained names": _constrained_names,
    "constrained names again": _constrained_names,
    "constrained URI": _constrained_uri,
    "subtree distance": _subtree_distance,
}
