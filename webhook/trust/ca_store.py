# SPDX-License-Identifier: Apache-2.0
"""The CA pool of a zone in its Secret: read, and changed by compare-and-swap.

Rules:
    1. One object a zone, so that each step of a rotation is one write that happens or does not.
    2. A write names the version that was read: who comes second gets a `ConflictError`.
    3. A Secret that is not of our type is not ours: never read as a pool, never written.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from webhook.api.errors import ConflictError, NotFoundError
from webhook.api.resources import SECRETS
from webhook.names import CA_SECRET_TYPE, SYSTEM_NAMESPACE, ca_secret
from webhook.trust.labels import MANAGED
from webhook.trust.pool_document import parse_pool, pool_text
from webhook.trust.pool_entry import PoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from webhook.api.client import Api
    from webhook.trust.ca_pool import CaPool

__all__ = ("POOL_KEY", "CaStore", "StoredPool", "pool_in")

POOL_KEY: Final = "pool.json"
_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class StoredPool:
    """A pool as it was read.

    Attributes:
        zone: Name of the zone.
        pool: The pool.
        metadata: Of the Secret, with the version that a write is compared with.
    """

    zone: str
    pool: CaPool
    metadata: Mapping[str, Any] = field(repr=False)


class CaStore:
    """The Secrets of all zones' pools.

    Args:
        api: The API server.
        namespace: Where the Secrets are.
    """

    def __init__(self, api: Api, *, namespace: str = SYSTEM_NAMESPACE) -> None:
        self._api = api
        self._namespace = namespace

    async def read(self, zone: str) -> StoredPool | None:
        """Read a zone's pool; None when it has none.

        Raises:
            PoolError: There is a Secret, and no pool that can be read in it.
            ApiError: The API server did not give it.
        """
        try:
            secret = await self._api.get(SECRETS, ca_secret(zone), namespace=self._namespace)
        except NotFoundError:
            return None
        return StoredPool(zone, pool_in(secret), secret["metadata"])

    async def create(self, zone: str, pool: CaPool) -> StoredPool:
        """Store the first pool of a zone.

        Raises:
            AlreadyExistsError: It has one.
            ApiError: The API server did not take it.
        """
        metadata = {
            "name": ca_secret(zone),
            "namespace": self._namespace,
            "labels": dict(MANAGED),
        }
        stored = await self._api.create(SECRETS, _secret(metadata, pool))
        return StoredPool(zone, pool, stored["metadata"])

    async def replace(self, stored: StoredPool, pool: CaPool) -> StoredPool:
        """Replace a pool that was read.

        Raises:
            ConflictError: It has changed since.
            ApiError: The API server did not take it.
        """
        written = await self._api.replace(SECRETS, _secret(stored.metadata, pool))
        return StoredPool(stored.zone, pool, written["metadata"])

    async def change(self, zone: str, step: Callable[[CaPool], CaPool]) -> CaPool:
        """Read, change and replace; again when somebody else was quicker.

        Raises:
            PoolError: There is no pool, or the step is not allowed.
            ApiError: The API server failed, or others were quicker every time.
        """
        for attempt in range(_ATTEMPTS):
            stored = await self.read(zone)
            if stored is None:
                raise PoolError(f"expected zone {zone!r} to have a CA pool: create it")
            after = step(stored.pool)
            if after == stored.pool:
                return after
            try:
                return (await self.replace(stored, after)).pool
            except ConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")


def pool_in(secret: Mapping[str, Any]) -> CaPool:
    """Read the pool out of a Secret.

    Raises:
        PoolError: The Secret is not of our type, or has no pool that can be read.
    """
    if secret.get("type") != CA_SECRET_TYPE:
        raise PoolError(f"expected a Secret of type {CA_SECRET_TYPE}, got another one")
    text = (secret.get("data") or {}).get(POOL_KEY)
    if not isinstance(text, str):
        raise PoolError(f"expected a key {POOL_KEY} in the Secret of a CA pool")
    try:
        return parse_pool(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise PoolError(f"expected base64 in {POOL_KEY} of a CA pool") from None


def _secret(metadata: Mapping[str, Any], pool: CaPool) -> dict[str, Any]:
    return {
        "metadata": dict(metadata),
        "type": CA_SECRET_TYPE,
        "data": {POOL_KEY: base64.b64encode(pool_text(pool)).decode("ascii")},
    }
