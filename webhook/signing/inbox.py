# SPDX-License-Identifier: Apache-2.0
"""The requests that this replica is to answer, and the way to answer them.

Rules:
    1. Every attempt begins with the request as it is now: what was settled meanwhile, is gone, or
       belongs to another replica, is done.
    2. An answer is a compare-and-swap on the request that was decided about, so a lost race
       changes nothing; the loser looks again.
    3. Nothing is remembered that matters: after a restart, the first list brings all requests back.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from webhook import metrics
from webhook.api import ApiError, ConflictError, NotFoundError
from webhook.signing.requests import RequestWatch
from webhook.signing.shares import Shares
from webhook.signing.statuses import with_status
from webhook.signing.worklist import Again, Lane, Worklist

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from webhook.api import Api, Resource
    from webhook.signing.record import Record
    from webhook.signing.requests import Key, PendingRequest
    from webhook.signing.shares import Replicas

__all__ = ("Inbox",)

_log = logging.getLogger(__name__)


class Inbox:
    """Requests of one kind, as they come in and until they are answered.

    Args:
        api: Where the requests are.
        resource: Their kind.
        parse: What is kept of one; None: it is left alone.
        answer: Answers one, given how often it was tried in vain; raises `Again`.
        order: Lane, deadline and owner of one.
        replicas: Among which the requests are divided.
        record: Of the work.
        limit: How many answers are under way at once.
        is_for_external: Whether requests to external signers are looked at, too.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        *,
        parse: Callable[[Mapping[str, Any]], PendingRequest | None],
        answer: Callable[[PendingRequest, int], Awaitable[None]],
        order: Callable[[PendingRequest], tuple[Lane, float | None, str]],
        replicas: Replicas,
        record: Record,
        limit: int = 32,
        is_for_external: bool = False,
    ) -> None:
        self._api = api
        self._answer = answer
        self._order = order
        self._record = record
        self._arrivals: dict[Key, float] = {}
        self.resource = resource
        self.is_for_external = is_for_external
        self.requests: RequestWatch[PendingRequest] = RequestWatch(
            api, resource, parse, self._changed
        )
        self.worklist: Worklist[Key] = Worklist(
            self._attempt,
            limit=limit,
            waited=metrics.QUEUE_SECONDS.labels(queue=record.kind).observe,
        )
        self.shares = Shares(replicas, self.requests, self._offer)
        metrics.PENDING.labels(kind=record.kind).set_function(self.worklist.__len__)
        metrics.QUEUE.labels(queue=record.kind).set_function(lambda: self.worklist.waiting)

    def arrived(self, pending: PendingRequest) -> float:
        """When a request was seen first, on the monotonic clock."""
        return self._arrivals.get(pending.key, time.monotonic())

    async def put(
        self, body: Mapping[str, Any], status: Mapping[str, Any], *, subresource: str = "status"
    ) -> dict[str, Any] | None:
        """Write an answer; None when the request is gone.

        Raises:
            Again: Somebody was faster, or the API server did not take it.
        """
        answer = with_status(body, status)
        try:
            return await self._api.replace(self.resource, answer, subresource=subresource)
        except NotFoundError:
            return None
        except ConflictError as err:
            self._record.postponed("LostRace")
            raise Again("somebody was faster, or the object changed") from err
        except ApiError as err:
            self._record.postponed(err.reason or "Unreachable")
            if not err.is_retryable:
                _log.error("the API server refuses an answer, to be tried again: %s", err)
            raise Again(str(err), at_least=err.retry_after or 0.0) from err

    def _changed(self, old: PendingRequest | None, new: PendingRequest | None) -> None:
        if new is not None and not new.is_settled:
            if self.shares.has(new):
                self._offer(new)
        elif (known := old or new) is not None:
            self.worklist.forget(known.key)
            self._arrivals.pop(known.key, None)

    def _offer(self, request: PendingRequest) -> None:
        if request.key not in self.worklist:
            self._arrivals.setdefault(request.key, time.monotonic())
            lane, deadline, owner = self._order(request)
            self.worklist.add(request.key, lane=lane, deadline=deadline, owner=owner)

    async def _attempt(self, key: Key, attempt: int) -> None:
        pending = self.requests.get(key)
        if pending is not None and self.shares.has(pending):
            await self._answer(pending, attempt)
