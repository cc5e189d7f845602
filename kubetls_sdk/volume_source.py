# SPDX-License-Identifier: Apache-2.0
"""The source for mounted credentials: reads the volume, follows its changes, keeps what was good.

    with VolumeSource() as source:
        serve(server_context(source))

Rules:
    1. `snapshot` is a plain read. Files are read and parsed in the watcher's own thread.
    2. What stays in force after a bad read is decided by `LastGood`; here it is put in force.
    3. A problem is logged once when it appears and once when it ends, not at each look.
    4. A source belongs to the process that started it. Each worker process makes its own: threads
       do not survive a fork, and a source that went deaf would trust removed roots for ever.
    5. Leaving the `with` block ends the thread; the closed source hands out nothing any more.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from kubetls_sdk._follower import Follower
from kubetls_sdk._forks import disown_in_children
from kubetls_sdk._last_good import LastGood
from kubetls_sdk._lifetime import AsyncLifetime
from kubetls_sdk._volume_journal import log_problems, log_wait, record_look, record_removed
from kubetls_sdk._volume_reader import VolumeReader, missing_at_start
from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.exceptions import (
    ConfigurationError,
    NotReadyError,
    SourceClosedError,
    VolumeError,
)
from kubetls_sdk.source import Snapshot, Subscribers
from kubetls_sdk.source_status import BundleStatus, SourceStatus
from kubetls_sdk.volume import Volume, VolumeFiles, default_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from kubetls_sdk.exceptions import CredentialError
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("VolumeSource",)

_log = logging.getLogger(__name__)
_START_INTERVAL_SECONDS = 0.05


def _utc_now() -> datetime:
    return datetime.now(UTC)


class VolumeSource(AsyncLifetime):
    """Hands out the credentials in a mounted directory and follows their rotation.

    Both a `with` and an `async with` context manager. A change is in force within a second, and
    typically within 0.2 s. Threads may share it; processes may not (rule 4).

    Args:
        directory: In a layout of `kubetls_sdk.volume`; None for `default_directory()`.
        files: Explicit paths, instead of a directory.
        trust_domain: Refuse an SVID of any other trust domain, when given.
        poll_seconds: Look at least this often, for mounts that send no notifications.
        ready_timeout: Seconds that the start waits for the first usable content.
        max_stale: How long a trust bundle that cannot be read stays in force.
        clock: Returns the aware time of now.

    Raises:
        ConfigurationError: Both a directory and files, or a setting out of range.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        files: VolumeFiles | None = None,
        trust_domain: TrustDomain | str | None = None,
        poll_seconds: float = 10.0,
        ready_timeout: float = 30.0,
        max_stale: timedelta = timedelta(hours=1),
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        if directory is not None and files is not None:
            raise ConfigurationError("expected a directory or files, got both")
        if poll_seconds <= 0 or ready_timeout < 0 or max_stale < timedelta(0):
            raise ConfigurationError("expected poll_seconds > 0, ready_timeout and max_stale >= 0")
        place = files or os.path.abspath(directory or default_directory())
        self._reader = VolumeReader(place, trust_domain)
        self._ready_timeout = ready_timeout
        self._max_stale = max_stale
        self._clock = clock
        self._subscribers = Subscribers()
        self._early_subscribers = Subscribers()
        name = f"kubetls-volume-{os.path.basename(self._reader.directories[0])}"
        self._follower = Follower(name, self._look_again, poll_seconds=poll_seconds)
        self._reloading = threading.RLock()
        self._last = LastGood()
        self._changed_at: datetime | None = None
        self._snapshot: Snapshot | None = None
        self._why_none: CredentialError = NotReadyError("expected a started source: use 'with'")
        self._status = SourceStatus(self._reader.directories[0])

    @property
    def snapshot(self) -> Snapshot:
        """The current snapshot.

        Raises:
            NotReadyError: The source was not started.
            SourceClosedError: It was closed, or was started by the process that forked this one.
        """
        snapshot = self._snapshot
        if snapshot is None:
            # A new instance for each raise: a shared one would collect tracebacks.
            raise type(self._why_none)(self._why_none.message, path=self._why_none.path)
        return snapshot

    @property
    def status(self) -> SourceStatus:
        """What the last look found and what is wrong; for people, `kubetls doctor` and tests."""
        return self._status

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each later snapshot; the returned function ends that."""
        return self._subscribers.add(callback)

    def subscribe_early(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each later snapshot just before it is put in force.

        For whoever has to be ready when the first connection asks for it. The snapshot comes into
        force when all have returned, so they must be quick.
        """
        return self._early_subscribers.add(callback)

    def start(self, *, wait: float | None = None) -> Self:
        """Wait for usable credentials and begin to follow them; `with` does this.

        Ready means a valid SVID, at least one trust bundle file, and none of our own trust domain
        that cannot be used. A partner's bundle that cannot be used is logged, and trusts nobody.

        Args:
            wait: Seconds to wait at most, instead of `ready_timeout`; 0 looks once.

        Raises:
            NotReadyError: Not within that time; says what is missing, and what was found.
            ConfigurationError: The source was started or closed before.
        """
        if not self._follower.is_new:
            raise ConfigurationError("expected a new source, got one that was started before")
        seconds = self._ready_timeout if wait is None else wait
        self._wait(seconds)
        disown_in_children(self)
        self._follower.start(self._reader.directories)
        return self

    def reload(self) -> Snapshot:
        """Look at the volume now and return what is in force after that.

        A volume that cannot be used raises nothing: it is in `status` and in the log.

        Raises:
            NotReadyError: The source was not started.
            SourceClosedError: It was closed.
        """
        with self._reloading:
            if self._snapshot is not None:
                self._look()
            return self.snapshot

    def close(self) -> None:
        """End the thread; the source hands out nothing any more. May be called twice."""
        self._follower.close()
        with self._reloading:
            self._forget(SourceClosedError("the source was closed"))

    def __reduce__(self) -> NoReturn:
        raise TypeError("expected no pickling of a VolumeSource: make one in each worker process")

    def __repr__(self) -> str:
        state = self._snapshot.svid if self._snapshot is not None else self._why_none.message
        return f"<VolumeSource {self._status.directory!r}: {state}>"

    def _look_again(self) -> None:
        with self._reloading:
            if not self._follower.stop.is_set():
                self._look()

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        is_logged = False
        while (missing := self._first_look()) is not None:
            if self._follower.stop.is_set():
                raise SourceClosedError("the source was closed while it started")
            if time.monotonic() >= deadline:
                advice = self._reader.advice
                raise NotReadyError(f"no usable credentials after {seconds:g} s: {missing}{advice}")
            if not is_logged:
                log_wait(seconds, missing)
                is_logged = True
            self._follower.stop.wait(_START_INTERVAL_SECONDS)

    def _first_look(self) -> str | None:
        """Look; the reason why that is not enough to start with, or None once it is in force."""
        with self._reloading:
            now = self._clock()
            read = self._reader.read(self._last)
            last = self._last.after(read, now=now, max_stale=self._max_stale)
            missing = missing_at_start(last, read)
            if missing is None:
                self._take(last, read, now)
            else:
                self._status = replace(self._new_status(read), problems=(missing,))
            return missing

    def _look(self) -> None:
        now = self._clock()
        read = self._reader.read(self._last)
        self._take(self._last.after(read, now=now, max_stale=self._max_stale), read, now)

    def _take(self, last: LastGood, read: Volume | VolumeError, now: datetime) -> None:
        """Put a state in force, then report it, then tell the subscribers."""
        before, self._last = self._last, last
        following = self._following(last)
        if following is not None:
            self._early_subscribers.notify(following)
            self._changed_at = now
            self._snapshot = following
        self._status = self._new_status(read)
        log_problems(before.problems, last.problems)
        record_look(last, self._snapshot, now, is_changed=following is not None)
        record_removed(before, last)
        if following is not None:
            _log.info(
                "generation %d: %r, trusting %r",
                following.generation,
                following.svid,
                following.bundles,
            )
            self._subscribers.notify(following)

    def _following(self, last: LastGood) -> Snapshot | None:
        """The next snapshot; None when what is in force does not change."""
        if last.svid is None:
            return None
        bundles = TrustBundleSet(kept.bundle for kept in last.bundles.values())
        current = self._snapshot
        if current is None:
            return Snapshot(last.svid, bundles, 1)
        if current.svid == last.svid and dict(current.bundles) == dict(bundles):
            return None
        return Snapshot(last.svid, bundles, current.generation + 1)

    def _new_status(self, read: Volume | VolumeError) -> SourceStatus:
        last, snapshot = self._last, self._snapshot
        return SourceStatus(
            directory=self._reader.directories[0],
            layout=self._status.layout if isinstance(read, VolumeError) else read.layout,
            generation=snapshot.generation if snapshot else 0,
            last_change=self._changed_at,
            problems=tuple(each.text for each in last.problems),
            svid_not_after=snapshot.svid.not_after if snapshot else None,
            bundles=tuple(map(BundleStatus.of, last.bundles.values())),
        )

    def _forget(self, why: CredentialError) -> None:
        self._why_none = why
        self._snapshot = None
        self._last = LastGood()
        self._reader.forget()

    def _give_up(self) -> None:
        self._follower.stop.set()

    def _disown(self) -> None:
        """In a forked child: the thread is not here, and the locks may be held by it."""
        self._reloading = threading.RLock()
        self._subscribers = Subscribers()
        self._early_subscribers = Subscribers()
        self._follower.disown()
        self._forget(
            SourceClosedError("the source belongs to the process before the fork: make one here")
        )
