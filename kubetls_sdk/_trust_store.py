# SPDX-License-Identifier: Apache-2.0
"""The authorities that OpenSSL gets: of all trust domains, without those that would hide ours.

OpenSSL finds an issuer by its name and key identifier, takes the first that fits, and looks no
further when the signature does not. So a partner could publish an authority that is named like one
of ours, and keep all our own peers out.

Rules:
    1. An authority of another domain that OpenSSL could take for one of our own domain, or for an
       intermediate of our own chain, is left out. What it vouches for is refused.
    2. Nothing is added here: a bundle decides alone whom its domain trusts.

Spec: RFC 4158 §3.5.12, §3.5.15 (choosing among issuers).
"""

from __future__ import annotations

import functools
import hashlib
import logging
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk._distinguished_name import canonical
from kubetls_sdk._profile import find_extension

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubetls_sdk.source import Snapshot

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
    for bundle in others:
        for authority in bundle.authorities:
            if _hides_one(authority, index):
                _tell(str(bundle.trust_domain), authority.public_bytes(Encoding.DER))
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
    identifier = _key_identifier(authority)
    return any(
        identifier is None or _key_identifier(ours) in (None, identifier) for ours in named_alike
    )


def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    found = find_extension(certificate.extensions, x509.SubjectKeyIdentifier)
    return None if found is None else found.value.digest


@functools.lru_cache(maxsize=256)
def _tell(trust_domain: str, der: bytes) -> None:
    """Say it once for each certificate."""
    _log.error(
        "an authority of %r is not used, since it has the name and key identifier of one of ours:"
        " SHA-256 %s",
        trust_domain,
        hashlib.sha256(der).hexdigest(),
    )
