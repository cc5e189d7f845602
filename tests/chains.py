# SPDX-License-Identifier: Apache-2.0
"""Certificate chains as plans that can be made wrong before anything is signed.

Rules:
    1. A plan is right until somebody changes it.
    2. The same random numbers give the same keys and to-be-signed bytes (RSA keys apart).
    3. Signatures come last, so that no other fault hides behind a broken one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

SPIFFE_ID = "spiffe://example.org/ns/shop/sa/web"
NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2049, 1, 1, tzinfo=UTC)
CURVES = {
    "p224": ec.SECP224R1(),
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "k256": ec.SECP256K1(),
}


@dataclass
class Certificate:
    """The plan of one certificate; every field may be wrong on purpose."""

    name: x509.Name
    key: Any
    extensions: dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]]
    serial: int
    not_before: datetime = NOT_BEFORE
    not_after: datetime = NOT_AFTER
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    is_pss: bool = False
    issuer_name: x509.Name | None = None
    issuer_key: Any = None
    edit: Callable[[bytes], bytes] | None = None

    def put(self, value: x509.ExtensionType, *, critical: bool = False) -> None:
        self.extensions[value.oid] = (value, critical)

    def drop(self, kind: type[x509.ExtensionType]) -> None:
        self.extensions.pop(kind.oid, None)

    def signed_by(self, issuer: Certificate) -> bytes:
        """The certificate as DER; with `edit`, its to-be-signed bytes were changed before that."""
        key = self.issuer_key or issuer.key
        builder = x509.CertificateBuilder(
            issuer_name=self.issuer_name or issuer.name,
            subject_name=self.name,
            public_key=self.key.public_key(),
            serial_number=self.serial,
            not_valid_before=self.not_before,
            not_valid_after=self.not_after,
        )
        for value, critical in self.extensions.values():
            builder = builder.add_extension(value, critical)
        if isinstance(self.digest, hashes.SHA1) and isinstance(key, ec.EllipticCurvePrivateKey):
            return _with_sha1(builder.sign(key, hashes.SHA256()), key)
        digest = hashes.SHA256() if isinstance(self.digest, hashes.SHA1) else self.digest
        signed = builder.sign(key, _digest(key, digest), rsa_padding=_padding(key, self, digest))
        if self.edit is None or isinstance(key, rsa.RSAPrivateKey):
            return signed.public_bytes(Encoding.DER)
        return resign(signed, self.edit(signed.tbs_certificate_bytes), key, digest)


@dataclass
class Plan:
    """Certificates from the root down to the leaf, and what of them is trusted and presented."""

    certificates: list[Certificate]
    trusted: int = 0  # The index of the authority; those above it are unknown to the verifier.
    labels: list[str] = field(default_factory=list)
    decoys: list[bytes] = field(default_factory=list)  # More authorities.
    surplus: list[bytes] = field(default_factory=list)  # More intermediates.
    withheld: bool = False  # One intermediate is not presented.

    @property
    def leaf(self) -> Certificate:
        return self.certificates[-1]

    def rekey(self, number: int, key: Any) -> None:
        """Give one certificate another key, and the one below the matching identifier."""
        target = self.certificates[number]
        target.key = key
        if target is not self.leaf:
            target.put(x509.SubjectKeyIdentifier.from_public_key(key.public_key()))
            link(target, self.certificates[number + 1])

    @property
    def authority(self) -> Certificate:
        return self.certificates[self.trusted]

    @property
    def path(self) -> list[Certificate]:
        """From the authority to the leaf."""
        return self.certificates[self.trusted :]


@dataclass(frozen=True)
class Chain:
    """A plan carried out: everything as DER, and the leaf's key."""

    leaf: bytes
    intermediates: list[bytes]
    authorities: list[bytes]
    key: Any
    labels: tuple[str, ...]


def good_plan(rng: random.Random) -> Plan:
    """A root, up to three intermediates and a leaf; sometimes only an intermediate is trusted."""
    count = rng.choice([0, 0, 1, 1, 1, 2, 3])
    plan = straight_plan(rng, count)
    plan.trusted = rng.randrange(count + 1)
    return plan


def straight_plan(rng: random.Random, intermediates: int, kind: str = "p256") -> Plan:
    """A trusted root, so many intermediates and a leaf, with keys of one kind."""
    names = [name_of(f"rank {rank}") for rank in range(intermediates + 1)]
    authorities = [authority_of(name, rng, kind) for name in names]
    leaf = Certificate(name_of("web"), key_of(kind, rng), {}, rng.getrandbits(100) | 1)
    _make_leaf(leaf)
    plan = Plan([*authorities, leaf])
    for issuer, certificate in itertools.pairwise(plan.certificates):
        link(issuer, certificate)
    return plan


def any_of(plan: Plan, rng: random.Random) -> Certificate:
    """Any certificate of the path, the authority included."""
    return rng.choice(plan.path)


def any_authority(plan: Plan, rng: random.Random) -> Certificate:
    """Any CA of the path."""
    return rng.choice(plan.path[:-1])


def any_issued(plan: Plan, rng: random.Random) -> Certificate:
    """Any certificate of the path but the authority."""
    return rng.choice(plan.path[1:])


def link(issuer: Certificate, certificate: Certificate) -> None:
    """Give a certificate the key identifier of its issuer."""
    key_id = x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key())
    certificate.put(x509.AuthorityKeyIdentifier(key_id.digest, None, None))


def carry_out(plan: Plan, rng: random.Random) -> Chain:
    """Sign everything and shuffle what may come in any order."""
    signed = []
    for number, certificate in enumerate(plan.certificates):
        signed.append(certificate.signed_by(plan.certificates[max(number - 1, 0)]))
    intermediates = signed[plan.trusted + 1 : -1]
    if plan.withheld and intermediates:
        intermediates.pop(rng.randrange(len(intermediates)))
    intermediates += plan.surplus
    rng.shuffle(intermediates)
    authorities = [signed[plan.trusted], *plan.decoys]
    rng.shuffle(authorities)
    return Chain(signed[-1], intermediates, authorities, plan.leaf.key, tuple(plan.labels))


def key_of(kind: str, rng: random.Random) -> Any:
    """A private key that depends on the random numbers only, but for RSA: one of a kind."""
    if kind in CURVES:
        return ec.derive_private_key(rng.getrandbits(200) | 1, CURVES[kind])
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
    if kind == "ed448":
        return ed448.Ed448PrivateKey.from_private_bytes(rng.randbytes(57))
    return _rsa_key(int(kind.removeprefix("rsa")), rng.randrange(2))


@cache
def _rsa_key(bits: int, number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def resign(signed: x509.Certificate, tbs: bytes, key: Any, digest: hashes.HashAlgorithm) -> bytes:
    """A certificate of other to-be-signed bytes, with a true signature over them."""
    whole = signed.public_bytes(Encoding.DER)
    original = signed.tbs_certificate_bytes
    algorithm = whole[whole.index(original) + len(original) :]
    algorithm = algorithm[: 2 + algorithm[1]]
    signature = (
        key.sign(tbs)
        if not isinstance(key, ec.EllipticCurvePrivateKey)
        else key.sign(tbs, ec.ECDSA(digest))
    )
    return der(0x30, tbs + algorithm + der(0x03, b"\0" + signature))


def _with_sha1(signed: x509.Certificate, key: Any) -> bytes:
    """The certificate, signed with ecdsa-with-SHA1, which no library offers any more."""
    strong, weak = (
        bytes.fromhex("300a06082a8648ce3d040302"),
        bytes.fromhex("300906072a8648ce3d0401"),
    )
    tbs = signed.tbs_certificate_bytes
    content = tbs[4:] if tbs[1] == 0x82 else tbs[3:]
    tbs = der(0x30, content.replace(strong, weak, 1))
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA1()))  # noqa: S303
    return der(0x30, tbs + weak + der(0x03, b"\0" + signature))


def der(tag: int, content: bytes) -> bytes:
    """One DER element."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def key_usage(**bits: bool) -> x509.KeyUsage:
    """A key usage with only the named bits."""
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        " key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names.split()})


def name_of(common_name: str, *more: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    pairs = [(NameOID.ORGANIZATION_NAME, "Example"), (NameOID.COMMON_NAME, common_name), *more]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


def authority_of(name: x509.Name, rng: random.Random, kind: str = "p256") -> Certificate:
    planned = Certificate(name, key_of(kind, rng), {}, rng.getrandbits(100) | 1)
    planned.put(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    planned.put(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    planned.put(x509.SubjectKeyIdentifier.from_public_key(planned.key.public_key()))
    return planned


def _make_leaf(leaf: Certificate) -> None:
    leaf.put(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    leaf.put(key_usage(digital_signature=True), critical=True)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    leaf.put(x509.ExtendedKeyUsage(both))
    leaf.put(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SPIFFE_ID)]))


def _digest(key: Any, digest: hashes.HashAlgorithm) -> hashes.HashAlgorithm | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else digest


def _padding(key: Any, certificate: Certificate, digest: hashes.HashAlgorithm) -> Any:
    if not isinstance(key, rsa.RSAPrivateKey) or not certificate.is_pss:
        return None
    return padding.PSS(padding.MGF1(digest), digest.digest_size)
