# SPDX-License-Identifier: Apache-2.0
"""Tokens that were verified before, so that the next request with one costs a few microseconds.

Rules:
    1. A token is known by its SHA-256; its text is not kept.
    2. It is forgotten when it expires, and verified again when the keys of its issuer are others.
    3. The binding to a certificate is no part of it: that is checked for each request.
    4. Only what was accepted is kept, and not more than `size`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kubetls_sdk.users.key_set import KeySet
    from kubetls_sdk.users.keys import LiveKeys
    from kubetls_sdk.users.user import User

__all__ = ("Verified", "VerifiedTokens")


class Verified(NamedTuple):
    """What a verification found.

    Attributes:
        user: Who.
        thumbprint: Of the certificate that the token is bound to, None for any.
        until: Seconds since the epoch at which it is not accepted any more.
        kid: Which key.
        live: The issuer's keys.
        keys: The key set that it was verified with.
    """

    user: User
    thumbprint: str | None
    until: float
    kid: str | None
    live: LiveKeys
    keys: KeySet


class VerifiedTokens:
    """A bounded memory.

    Args:
        size: Most tokens.
    """

    __slots__ = ("_by_digest", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._by_digest: dict[bytes, Verified] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def get(self, digest: bytes, now: float) -> Verified | None:
        """What is known of a token, unless it has expired; its keys are the caller's to compare."""
        found = self._by_digest.get(digest)
        if found is not None and now >= found.until:
            self._by_digest.pop(digest, None)
            return None
        return found

    def add(self, digest: bytes, verified: Verified) -> None:
        """Remember; the oldest make room."""
        known = self._by_digest
        while len(known) >= self._size:
            known.pop(next(iter(known), b""), None)
        known[digest] = verified
