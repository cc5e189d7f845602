# SPDX-License-Identifier: Apache-2.0
"""Requests and WebSockets under way: decided again when the policy changes.

Rules:
    1. One sweep for each new policy, over what is open then; nothing is written down for a request
       that takes the quick way: the server that serves it knows it.
    2. What is not allowed any more ends as when its peer is not trusted any more: a WebSocket with
       code 1008, a response at the end of the server's `stream_recheck` when it has not finished
       by then.
    3. A sweep never holds the event loop longer than `SLICE_SECONDS` at a time.
    4. All requests of one middleware are served in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from kubetls_sdk.server.authorize import POLICY_KEY
from kubetls_sdk.server.ending import end_untold, record_end
from kubetls_sdk.server.refusal_log import log
from kubetls_sdk.server.verdicts import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.server._user_check import UserCheck
    from kubetls_sdk.server.connection import PeerConnection
    from kubetls_sdk.server.verdicts import Admission, Verdicts

__all__ = ("SLICE_SECONDS", "OpenRequests")

SLICE_SECONDS = 0.002

ENDED_KEY = "kubetls.ended"
"""In the scope of what is being ended already."""


class _Entry(NamedTuple):
    connection: PeerConnection
    scope: Any
    end: Callable[[], None]


class OpenRequests:
    """What one middleware has let through and is not over.

    Args:
        verdicts: The policy; a holder with `subscribe`, as `PolicyFile`, tells of changes.
        user_check: Of the middleware.
    """

    def __init__(self, verdicts: Verdicts, user_check: UserCheck | None) -> None:
        self._user_check = user_check
        self._entries: dict[int, _Entry] = {}
        self._peers: weakref.WeakSet[PeerConnection] = weakref.WeakSet()
        self._pending: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        subscribe = getattr(verdicts.holder, "subscribe", None)
        if subscribe is not None:
            weakref.finalize(self, subscribe(_waker(self))).atexit = False

    def __len__(self) -> int:
        return len(self._entries)

    def watch(self, peer: PeerConnection) -> None:
        """Look after what the server of a connection knows; called when that is made."""
        self._loop = asyncio.get_running_loop()
        self._peers.add(peer)

    def add(self, connection: PeerConnection, scope: Any, end: Callable[[], None]) -> None:
        """Look after a request until `discard`; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._entries[id(scope)] = _Entry(connection, scope, end)

    def discard(self, scope: Any) -> None:
        """Forget a request that is over."""
        self._entries.pop(id(scope), None)

    def sweep(self) -> None:
        """Decide about everything again, slice by slice."""
        self._pending = [*self._entries, *self._peers]
        self._step()

    def _step(self) -> None:
        until = perf_counter() + SLICE_SECONDS
        while self._pending:
            self._look_at(self._pending.pop())
            if perf_counter() > until and self._loop is not None:
                self._loop.call_soon(self._step)
                return

    def _look_at(self, it: Any) -> None:
        try:
            if isinstance(it, int):
                entry = self._entries.get(it)
                if entry is not None:
                    self._look_at_request(*entry)
            else:
                self._look_at_peer(it)
        except Exception:  # noqa: BLE001 - the others have to be looked at as well
            log.exception("ending a request under way failed")

    def _look_at_peer(self, peer: PeerConnection) -> None:
        if peer.requests is None or peer.is_ended:
            return
        requests = peer.requests()
        if requests is None:
            end_untold(peer)
            return
        for scope, end in requests:
            if id(scope) not in self._entries:
                self._look_at_request(peer, scope, end)

    def _look_at_request(
        self, connection: PeerConnection, scope: Any, end: Callable[[], None]
    ) -> None:
        admission: Admission | None = scope.get(POLICY_KEY)
        if admission is None or admission.decision is PUBLIC or ENDED_KEY in scope:
            return
        if not self._is_allowed(connection, admission, scope):
            scope[ENDED_KEY] = True
            end()

    def _is_allowed(self, connection: PeerConnection, admission: Admission, scope: Any) -> bool:
        try:
            decision = admission.decide_again(connection, scope)
        except Exception:  # noqa: BLE001 - an authorizer is foreign code; no answer allows nothing
            log.exception("deciding again about a request under way failed: it is ended")
            return False
        check = self._user_check
        lacks_user = check is not None and check.lacks_user(decision, scope)
        if decision.allowed and not lacks_user:
            return True
        record_end(connection, admission, decision, scope)
        return False

    def _wake(self) -> None:
        """A new policy, in any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self.sweep)


def _waker(requests: OpenRequests) -> Callable[[object], None]:
    """What the policy calls; it does not keep the middleware alive."""
    known = weakref.ref(requests)

    def wake(_: object) -> None:
        found = known()
        if found is not None:
            found._wake()  # noqa: SLF001 - the same module

    return wake
