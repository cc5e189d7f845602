# SPDX-License-Identifier: Apache-2.0
"""A CA pool as the JSON text in its Secret.

Rules:
    1. A version or field that is not known is refused: an older program must not write away what
       a newer one needs.
    2. The text holds the private keys; no error ever quotes it.
    3. Times are UTC in whole seconds, `2026-11-25T16:00:00Z`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.exceptions import KubeTLSError
from kubetls_sdk.spiffe_id import TrustDomain
from webhook.issuance.authority import Authority
from webhook.trust.ca_pool import CaPool, Rotation
from webhook.trust.pool_entry import Origin, PoolEntry, PoolError, State

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("VERSION", "parse_pool", "pool_text", "time_text")

VERSION: Final = 1
_KEY_TYPES = (None, "p256", "p384")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_POOL = frozenset({"version", "trustDomain", "entries", "rotation"})
_TIMES = {
    "createdAt": "created_at",
    "publishedAt": "published_at",
    "activatedAt": "activated_at",
    "retiredAt": "retired_at",
    "lastLeafNotAfter": "last_leaf_not_after",
}
_ENTRY = frozenset(
    {"id", "state", "origin", "anchor", "certificates", "privateKey", "longestLifetimeSeconds"}
) | frozenset(_TIMES)
_ROTATION = frozenset({"requestedAt", "cause", "entryId", "isForced", "keyType", "validitySeconds"})


def pool_text(pool: CaPool) -> bytes:
    """Write a pool, private keys included: only for its Secret."""
    document = {
        "version": VERSION,
        "trustDomain": str(pool.trust_domain),
        "entries": [_entry_document(entry) for entry in pool.entries],
        "rotation": None if pool.rotation is None else _rotation_document(pool.rotation),
    }
    return json.dumps(document, indent=1).encode("ascii")


def parse_pool(text: bytes) -> CaPool:
    """Read a pool.

    Raises:
        PoolError: Not a pool, or of a version that is not known; the message quotes nothing.
    """
    try:
        document = json.loads(text)
        version = document.get("version")
    except (ValueError, RecursionError, AttributeError):
        raise PoolError("expected a CA pool as a JSON object") from None
    if version != VERSION:
        raise PoolError(f"expected a CA pool of version {VERSION}, got another one")
    try:
        return _pool(document)
    except KubeTLSError as err:
        raise PoolError(f"CA pool: {err}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, *MALFORMED) as err:
        raise PoolError(f"expected a well-formed CA pool ({type(err).__name__})") from None


def time_text(moment: datetime) -> str:
    """Write an aware time as the API server does."""
    return moment.astimezone(UTC).strftime(_TIME)


def _pool(document: Mapping[str, Any]) -> CaPool:
    _check_fields(document, _POOL)
    rotation = document.get("rotation")
    return CaPool(
        TrustDomain.parse(document["trustDomain"]),
        tuple(_entry(each) for each in document["entries"]),
        None if rotation is None else _rotation(rotation),
    )


def _entry(document: Mapping[str, Any]) -> PoolEntry:
    _check_fields(document, _ENTRY)
    times = {name: _time(document.get(key)) for key, name in _TIMES.items()}
    return PoolEntry(
        id=_text(document["id"]),
        state=State(document["state"]),
        origin=Origin(document["origin"]),
        anchor=x509.load_pem_x509_certificate(document["anchor"].encode("ascii")),
        authority=_authority(document),
        longest_lifetime=timedelta(seconds=document["longestLifetimeSeconds"]),
        **times,  # type: ignore[arg-type]  # createdAt is checked to be there below.
    )


def _authority(document: Mapping[str, Any]) -> Authority | None:
    key = document.get("privateKey")
    if document["createdAt"] is None:
        raise ValueError("no time")
    if key is None:
        return None
    certificates = document["certificates"].encode("ascii")
    return Authority.from_pem(certificates, key.encode("ascii"), document["anchor"].encode("ascii"))


def _rotation(document: Mapping[str, Any]) -> Rotation:
    _check_fields(document, _ROTATION)
    seconds, cause, key_type = (document.get(k) for k in ("validitySeconds", "cause", "keyType"))
    requested_at = _time(document["requestedAt"])
    if requested_at is None or cause not in ("asked", "age") or key_type not in _KEY_TYPES:
        raise ValueError("not a rotation")
    return Rotation(
        requested_at,
        cause,
        entry_id=document.get("entryId"),
        is_forced=document.get("isForced") is True,
        key_type=key_type,
        validity=None if seconds is None else timedelta(seconds=seconds),
    )


def _entry_document(entry: PoolEntry) -> dict[str, Any]:
    authority = entry.authority
    document: dict[str, Any] = {
        "id": entry.id,
        "state": entry.state.value,
        "origin": entry.origin.value,
        "anchor": entry.anchor.public_bytes(Encoding.PEM).decode("ascii"),
        "longestLifetimeSeconds": int(entry.longest_lifetime.total_seconds()),
    }
    for key, name in _TIMES.items():
        moment = getattr(entry, name)
        document[key] = None if moment is None else time_text(moment)
    if authority is not None:
        document["certificates"] = authority.certificates_pem().decode("ascii")
        document["privateKey"] = authority.private_key_pem().decode("ascii")
    return document


def _rotation_document(rotation: Rotation) -> dict[str, Any]:
    validity = rotation.validity
    return {
        "requestedAt": time_text(rotation.requested_at),
        "cause": rotation.cause,
        "entryId": rotation.entry_id,
        "isForced": rotation.is_forced,
        "keyType": rotation.key_type,
        "validitySeconds": None if validity is None else int(validity.total_seconds()),
    }


def _check_fields(document: Mapping[str, Any], known: frozenset[str]) -> None:
    if document.keys() - known:
        raise PoolError(f"expected only the fields of version {VERSION}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("expected a text")
    return value


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.strptime(text, _TIME).replace(tzinfo=UTC)
