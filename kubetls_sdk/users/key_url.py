# SPDX-License-Identifier: Apache-2.0
"""Verification keys behind an https URL.

Rules:
    1. A fetch runs in a thread of its own, one at a time, and never in an event loop of a server.
    2. Keys are fetched again before they expire. Once expired they are used only while fetching
       fails, and not longer than a bounded time.
    3. An unknown `kid` causes a fetch, but only one in a while: nobody can make us call the issuer
       at will.
    4. A failed fetch never replaces keys; a document without keys does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk import metrics
from kubetls_sdk._forks import disown_in_children
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.users.jwks_request import FetchError, JwksRequest, check_url
from kubetls_sdk.users.key_set import NO_KEYS, KeySet

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from kubetls_sdk.users.jwks_request import JwksResponse

__all__ = ("FetchedKeys", "KeyUrl")

_log = logging.getLogger(__name__)
_REFRESH_SHARE = 0.8
_MAX_UNKNOWN = 256
_NEVER = float("-inf")


@dataclass(frozen=True, kw_only=True)
class KeyUrl:
    """Keys behind a URL.

    Attributes:
        url: https, exactly as configured; no other URL is ever fetched.
        ca_bundle: PEM file of the roots to trust; None for the web's. It is read at each fetch.
        timeout_seconds: For a whole fetch.
        ttl_seconds: How long keys count as fresh when the server does not say so, and at most
            otherwise.
        min_ttl_seconds: And at least.
        max_stale_seconds: How long expired keys are used while fetching fails.
        cooldown_seconds: Between two fetches for unknown keys, and after a failed one.
        unknown_seconds: How long a `kid` that was not found is not looked for again.
    """

    url: str
    ca_bundle: str | os.PathLike[str] | None = None
    timeout_seconds: float = 5.0
    ttl_seconds: float = 600.0
    min_ttl_seconds: float = 60.0
    max_stale_seconds: float = 3600.0
    cooldown_seconds: float = 30.0
    unknown_seconds: float = 120.0

    def __post_init__(self) -> None:
        check_url(self.url)
        if not 0 < self.timeout_seconds <= 60:
            raise ConfigurationError("expected a timeout of at most 60 seconds for fetching keys")
        if not 0 < self.min_ttl_seconds <= self.ttl_seconds:
            raise ConfigurationError("expected 0 < min_ttl_seconds <= ttl_seconds")
        if min(self.max_stale_seconds, self.cooldown_seconds, self.unknown_seconds) < 0:
            raise ConfigurationError("expected no negative times for fetching keys")

    def open(self) -> FetchedKeys:
        """Begin to fetch; a server that does not answer is no error yet."""
        keys = FetchedKeys(self)
        keys.flight(None)
        return keys


class FetchedKeys:
    """The keys of a URL in this process.

    Args:
        setting: Which URL, and how it is fetched.
        clock: Seconds of a clock that only grows.

    Attributes:
        keys: As last fetched.
        error: Why the last fetch failed, None when it did not.
    """

    def __init__(self, setting: KeyUrl, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys = NO_KEYS
        self.error: str | None = None
        self._setting = setting
        self._request = JwksRequest(setting.url, setting.ca_bundle, setting.timeout_seconds)
        self._clock = clock
        self._refresh_at = self._expires_at = self._dead_at = _NEVER
        self._tried_at = self._retry_at = _NEVER
        self._unknown: dict[str, float] = {}
        self._text: bytes | None = None
        self._forget()

    def usable(self) -> KeySet | None:
        """The keys while they are fresh; None when `flight` has to be asked."""
        return self.keys if self._clock() < self._refresh_at else None

    def last(self) -> KeySet:
        """The keys, expired ones too as long as they may be used."""
        return self.keys if self._clock() < self._dead_at else NO_KEYS

    def flight(self, kid: str | None) -> Future[None] | None:
        """What to wait for before verifying with a key: a fetch, which may fail."""
        now = self._clock()
        with self._lock:
            is_fresh = now < self._expires_at
            is_found = is_fresh and self.keys.has(kid)
            if self._flying is not None:
                return None if is_found else self._flying
            if self._is_closed or now < self._retry_at:
                return None
            if is_found:
                if now >= self._refresh_at:
                    self._launch(now)
                return None
            if is_fresh and not self._may_look_for(kid, now):
                return None
            return self._launch(now)

    def close(self) -> None:
        """End a fetch that is under way, and start none; may be called twice."""
        with self._lock:
            self._is_closed = True
            running, thread = self._running, self._thread
        if running is not None:
            with contextlib.suppress(RuntimeError):  # its loop ended meanwhile
                running[0].call_soon_threadsafe(running[1].cancel)
        if thread is not None:
            thread.join(self._setting.timeout_seconds)

    def _disown(self) -> None:
        """In a forked child: a fetch that is under way is not here."""
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._flying: Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[JwksResponse]] | None = None
        self._is_closed = False
        disown_in_children(self)

    def _may_look_for(self, kid: str | None, now: float) -> bool:
        """Whether fresh keys may be fetched again for one that is not among them."""
        if kid is None or now < self._tried_at + self._setting.cooldown_seconds:
            return False
        if now < self._unknown.get(kid, _NEVER):
            return False
        while len(self._unknown) >= _MAX_UNKNOWN:
            self._unknown.pop(next(iter(self._unknown)))
        self._unknown[kid] = now + self._setting.unknown_seconds
        return True

    def _launch(self, now: float) -> Future[None]:
        """Start a fetch; the lock is held."""
        flying: Future[None] = Future()
        flying.set_running_or_notify_cancel()  # A waiter that gives up must not cancel it for all.
        self._flying, self._tried_at = flying, now
        self._thread = threading.Thread(
            target=self._fly, args=(flying,), name="kubetls-jwks", daemon=True
        )
        self._thread.start()
        return flying

    def _fly(self, flying: Future[None]) -> None:
        try:
            response = asyncio.run(self._fetch())
            self._put(response)
        except (FetchError, ConfigurationError) as err:
            self._fail(str(err))
        except asyncio.CancelledError:
            self._fail("closed")
        except Exception as err:  # noqa: BLE001 - the outermost frame of a thread
            _log.exception("fetching keys failed")
            self._fail(type(err).__name__)
        finally:
            with self._lock:
                self._flying = self._running = None
            flying.set_result(None)

    async def _fetch(self) -> JwksResponse:
        task = asyncio.ensure_future(self._request.send())
        with self._lock:
            self._running = (asyncio.get_running_loop(), task)
            if self._is_closed:
                task.cancel()
        return await task

    def _put(self, response: JwksResponse) -> None:
        setting = self._setting
        keys = self.keys if response.text == self._text else KeySet.parse(response.text)
        wanted = setting.ttl_seconds if response.max_age is None else response.max_age
        ttl = min(max(wanted, setting.min_ttl_seconds), setting.ttl_seconds)
        now = self._clock()
        metrics.increment(metrics.USER_KEY_FETCHES, url=setting.url, result="ok")
        if keys is not self.keys:
            _log.info("%d verification keys of %s in force", len(keys.keys), setting.url)
        with self._lock:
            self.keys, self._text, self.error = keys, response.text, None
            self._refresh_at, self._expires_at = now + ttl * _REFRESH_SHARE, now + ttl
            self._dead_at = now + ttl + setting.max_stale_seconds

    def _fail(self, error: str) -> None:
        metrics.increment(metrics.USER_KEY_FETCHES, url=self._setting.url, result="failed")
        if error != self.error:
            _log.error("keys of %s were not fetched: %s", self._setting.url, error)
        self.error = error
        self._retry_at = self._clock() + self._setting.cooldown_seconds
