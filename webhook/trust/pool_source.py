# SPDX-License-Identifier: Apache-2.0
"""The CA pools as every signer replica sees them: current, or none.

    async with PoolSource(api) as pools:
        await pools.follow(config.zones)
        await pools.synced()
        pools.pool("default").active

Rules:
    1. One watch a zone, on exactly the one Secret: the right to read is by that name.
    2. A pool that is missing, cannot be read, or was out of sight for `STALE_SECONDS` signs
       nothing; requests stay pending.
    3. With the time after which a silent watch is given up, that stays within `SIGNER_LAG`: a
       retired authority's last leaf is reckoned from there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from webhook.api.informer import Informer
from webhook.api.informer_group import InformerGroup
from webhook.api.resources import SECRETS
from webhook.api.subscribers import Subscribers
from webhook.exceptions import IssuanceError
from webhook.names import SYSTEM_NAMESPACE, ca_secret
from webhook.trust.ca_store import pool_in
from webhook.trust.pool_entry import PoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from webhook.api.client import Api
    from webhook.trust.ca_pool import CaPool

__all__ = ("STALE_SECONDS", "PoolSource")

STALE_SECONDS: Final = 120.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a Secret had in it, by its version: equal when nothing was written."""

    version: str
    pool: CaPool | None = field(compare=False)
    problem: str = field(default="", compare=False)


class PoolSource(InformerGroup[str, _Sight]):
    """The pools of the zones that are followed.

    Args:
        api: The API server.
        namespace: Where the Secrets are.
    """

    def __init__(self, api: Api, *, namespace: str = SYSTEM_NAMESPACE) -> None:
        super().__init__(self._watch)
        self._api = api
        self._namespace = namespace
        self._subscribers = Subscribers[[str]](_tell_failure)

    def pool(self, zone: str) -> CaPool:
        """The current pool of a zone.

        Raises:
            IssuanceError: There is none that can be relied on now; retryable.
        """
        informer = self.informer(zone)
        if informer is None or informer.is_stale(STALE_SECONDS):
            raise _pending(zone, "has not been seen for too long", "CaPoolOutOfSight")
        sight = informer.get(self._namespace, ca_secret(zone))
        if sight is None:
            raise _pending(zone, "does not exist yet", "NoCaPool")
        if sight.pool is None:
            raise _pending(zone, f"cannot be read: {sight.problem}", "CaPoolUnreadable")
        return sight.pool

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back with the zone's name when its pool changed, was made or removed.

        Returns:
            A function that ends the subscription.
        """
        return self._subscribers.add(callback)

    def _watch(self, zone: str) -> Informer[_Sight]:
        informer = Informer(
            self._api,
            SECRETS,
            _sight,
            namespace=self._namespace,
            field_selector=f"metadata.name={ca_secret(zone)}",
        )
        informer.subscribe(lambda _old, new: self._tell(zone, new))
        return informer

    def _tell(self, zone: str, sight: _Sight | None) -> None:
        if sight is not None and sight.pool is None:
            _log.error("the CA pool of zone %r cannot be read: %s", zone, sight.problem)
        self._subscribers.tell(zone)


def _tell_failure() -> None:
    _log.exception("a subscriber of CA pools failed")


def _sight(secret: Mapping[str, Any]) -> _Sight:
    version = secret["metadata"]["resourceVersion"]
    try:
        return _Sight(version, pool_in(secret))
    except PoolError as err:
        return _Sight(version, None, str(err))


def _pending(zone: str, problem: str, reason: str) -> IssuanceError:
    return IssuanceError(
        f"the CA pool of zone {zone!r} {problem}", reason=reason, is_retryable=True
    )
