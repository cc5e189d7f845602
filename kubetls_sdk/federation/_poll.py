# SPDX-License-Identifier: Apache-2.0
"""Fetches one partner's bundle again and again.

Rules:
    1. The next fetch comes by the hint of the bundle in force, within the partner's bounds and a
       little early, by chance, so that not everybody asks at the same moment.
    2. A failed fetch is tried again at the next regular time, not sooner (§6.2), apart from one
       that waits for the bundle of the endpoint's server: it is tried when that is there.
    3. The endpoint's server is verified by the latest bundle of its trust domain, however old.

Spec: SPIFFE Federation §4.1, §5.2.2.4, §6.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING

from kubetls_sdk import metrics
from kubetls_sdk.federation.fetch import FetchError, fetch_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation._relation import Relation
    from kubetls_sdk.federation.partner import Endpoint
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("Poll",)

_log = logging.getLogger("kubetls_sdk.federation")
_EARLIEST = 0.85


class Poll:
    """The fetches of one relation, in an event loop.

    Args:
        relation: Whose; its partner has the endpoint.
        endpoint: It.
        bundle_of: The latest bundle of another trust domain, or None.
        put: Takes the result of a fetch: a bundle, or why there is none.

    Attributes:
        tried: Set once the first fetch has ended, well or not.
    """

    def __init__(
        self,
        relation: Relation,
        endpoint: Endpoint,
        *,
        bundle_of: Callable[[TrustDomain], TrustBundle | None],
        put: Callable[[Relation, TrustBundle | str], None],
    ) -> None:
        self.tried = asyncio.Event()
        self._relation = relation
        self._endpoint = endpoint
        self._bundle_of = bundle_of
        self._put = put
        self._wake = asyncio.Event()
        self._is_waiting = False
        self._is_stopped = False

    async def run(self) -> None:
        """Fetch until `stop`, or until cancelled."""
        while not self._is_stopped:
            await self._once()
            self.tried.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()

    def stop(self) -> None:
        """End after the fetch that is under way: one that is cut off leaves a socket behind."""
        self._is_stopped = True
        self._wake.set()

    def wake(self) -> None:
        """Fetch now."""
        self._wake.set()

    def bundles_changed(self) -> None:
        """Fetch now if that waits for a bundle to verify the endpoint's server by."""
        is_there = self._is_waiting and self._known() is not None
        if is_there or self._relation.is_due:
            self._wake.set()

    def _pause(self) -> float:
        partner, kept = self._relation.partner, self._relation.kept
        if kept.bundle is None:
            seconds = partner.min_refresh_seconds
        else:
            seconds = partner.refresh_seconds(kept.refresh_hint)
        return seconds * random.uniform(_EARLIEST, 1)  # noqa: S311 - spreads load, guards nothing

    async def _once(self) -> None:
        partner, endpoint = self._relation.partner, self._endpoint
        self._relation.is_due = False
        known = self._known()
        self._is_waiting = endpoint.spiffe_id is not None and known is None
        found: TrustBundle | str
        try:
            document = await fetch_bundle(
                partner.trust_domain, endpoint, known=known, timeout_seconds=partner.timeout_seconds
            )
            found = document.bundle
        except FetchError as err:
            found = str(err)
        except Exception as err:  # noqa: BLE001 - the outermost loop: it must outlive our bugs
            _log.exception("fetching the bundle of %s failed", partner.trust_domain)
            found = type(err).__name__
        else:
            self._note(document.bundle, document.ignored)
        result = "failed" if isinstance(found, str) else "ok"
        domain = str(partner.trust_domain)
        metrics.increment(metrics.BUNDLE_FETCHES, trust_domain=domain, result=result)
        self._put(self._relation, found)

    def _known(self) -> TrustBundle | None:
        """The latest bundle to verify the endpoint's server by."""
        server = self._endpoint.spiffe_id
        if server is None:
            return None
        if self._relation.partner.is_self_serving:
            return self._relation.known
        return self._bundle_of(server.trust_domain)

    def _note(self, bundle: TrustBundle, ignored: int) -> None:
        """Say why a bundle is empty, once."""
        last = self._relation.kept.bundle
        if not len(bundle) and (last is None or len(last)):
            _log.warning(
                "partner %s publishes no authority: nobody of it is trusted; %d entries ignored",
                bundle.trust_domain,
                ignored,
            )
