# SPDX-License-Identifier: Apache-2.0
"""The authorities that OpenSSL gets: of all trust domains, without those that would hide others.

OpenSSL finds an issuer by its name and key identifier, takes the first that fits, and looks no
further when the signature does not. So a partner could publish an authority that is named like one
of ours, or of another partner, and keep all their peers out.

Rules:
    1. An authority of another domain that OpenSSL could take for one of our own domain, or for an
       intermediate of our own chain, is left out. What it vouches for is refused.
    2. Of two such authorities of two other domains the one stays that shows the key which its
       identifier is made of, and has signed itself with it: an imitation cannot. Where both do, or
       neither, both stay.
    3. Nothing is added here: a bundle decides alone whom its domain trusts.

Spec: RFC 4158 §3.5.12, §3.5.15 (choosing among issuers); RFC 5280 §4.2.1.2; RFC 7093 §2.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kubetls_sdk._distinguished_name import canonical
from kubetls_sdk._issuer import PathError, check_signature
from kubetls_sdk._profile import find_extension

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.source import Snapshot
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("trusted_authorities",)

_log = logging.getLogger(__name__)


def trusted_authorities(snapshot: Snapshot) -> Iterator[x509.Certificate]:
    """The authorities of all bundles of a snapshot, our own domain's first."""
    own = snapshot.own_bundle
    ours = own.authorities if own is not None else ()
    yield from ours
    others = [bundle for bundle in snapshot.bundles.values() if bundle is not own]
    if not others:
        return
    index = _by_name((*ours, *snapshot.svid.chain[1:]))
    imitations = _imitations(others)
    for bundle in others:
        for authority in bundle.authorities:
            if _hides_one(authority, index):
                _tell(str(bundle.trust_domain), authority.public_bytes(Encoding.DER), "ours")
            elif (bundle.trust_domain, authority) in imitations:
                _tell(str(bundle.trust_domain), authority.public_bytes(Encoding.DER), "others")
            else:
                yield authority


_Name = tuple[frozenset[tuple[x509.ObjectIdentifier, str | bytes]], ...]


def _by_name(certificates: Iterable[x509.Certificate]) -> dict[_Name, list[x509.Certificate]]:
    found: dict[_Name, list[x509.Certificate]] = {}
    for certificate in certificates:
        found.setdefault(tuple(canonical(certificate.subject)), []).append(certificate)
    return found


def _hides_one(authority: x509.Certificate, index: dict[_Name, list[x509.Certificate]]) -> bool:
    """Whether OpenSSL could take an authority for one of the same name in the index."""
    named_alike = index.get(tuple(canonical(authority.subject)), ())
    if not named_alike or authority in named_alike:
        return False
    return any(_are_confusable(authority, ours) for ours in named_alike)


def _are_confusable(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Whether nothing but the key tells two authorities of one name apart."""
    identifier = _key_identifier(one)
    return identifier is None or _key_identifier(other) in (None, identifier)


_Owned = tuple["TrustDomain", x509.Certificate]


def _imitations(bundles: list[TrustBundle]) -> set[_Owned]:
    """The authorities that another domain's would be taken for, and that prove less than it."""
    named: dict[_Name, list[_Owned]] = {}
    for bundle in bundles:
        for authority in bundle.authorities:
            name = tuple(canonical(authority.subject))
            named.setdefault(name, []).append((bundle.trust_domain, authority))
    rivals = [alike for alike in named.values() if len({domain for domain, _ in alike}) > 1]
    return {one for alike in rivals for one in alike if _is_outdone(one, alike)}


def _is_outdone(one: _Owned, alike: list[_Owned]) -> bool:
    domain, authority = one
    return any(
        domain != other_domain
        and authority != other
        and _are_confusable(authority, other)
        and _proof(other) > _proof(authority)
        for other_domain, other in alike
    )


def _proof(authority: x509.Certificate) -> int:
    """How much an authority shows of the key that its identifier stands for: 0 to 2."""
    if not any(_key_identifier(authority) == each for each in _identifiers_of(authority)):
        return 0
    try:
        check_signature(authority, authority)
    except PathError:
        return 1
    return 2


def _identifiers_of(authority: x509.Certificate) -> Iterator[bytes]:
    """The usual identifiers of its key: its digest, or the beginning of one.

    Spec: RFC 5280 §4.2.1.2 (1); RFC 7093 §2 (1) to (3).
    """
    key = authority.public_key()
    yield x509.SubjectKeyIdentifier.from_public_key(key).digest
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    bits = _bit_string(info)
    for algorithm in ("sha256", "sha384", "sha512"):
        yield hashlib.new(algorithm, bits).digest()[:20]


def _bit_string(info: bytes) -> bytes:
    """The key itself, the BIT STRING at the end of a SubjectPublicKeyInfo (RFC 5280 §4.1)."""
    algorithm = _after_header(info, 0)
    return info[_after_header(info, _end(info, algorithm)) + 1 :]


def _after_header(der: bytes, at: int) -> int:
    """Where the content of a DER value begins."""
    length = der[at + 1]
    return at + 2 + (length & 0x7F if length & 0x80 else 0)


def _end(der: bytes, at: int) -> int:
    """Where a DER value ends."""
    start = _after_header(der, at)
    length = der[at + 1]
    if length & 0x80:
        length = int.from_bytes(der[at + 2 : start], "big")
    return start + length


def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    found = find_extension(certificate.extensions, x509.SubjectKeyIdentifier)
    return None if found is None else found.value.digest


@functools.lru_cache(maxsize=256)
def _tell(trust_domain: str, der: bytes, whose: str) -> None:
    """Say it once for each certificate."""
    _log.error(
        "an authority of %r is not used, since it has the name and key identifier of one of %s:"
        " SHA-256 %s",
        trust_domain,
        whose,
        hashlib.sha256(der).hexdigest(),
    )
