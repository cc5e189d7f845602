# SPDX-License-Identifier: Apache-2.0
"""Verification keys in a JWK Set file, followed live.

Rules:
    1. A file that cannot be read or parsed keeps the last good keys for a bounded time: one log
       line, then nobody is verified.
    2. A file that is gone verifies nobody at once. At the start it is an error.
    3. A process that forks opens its own: in the child nobody is verified.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubetls_sdk._follower import Follower
from kubetls_sdk._forks import disown_in_children
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.users.key_set import MAX_TEXT_BYTES, NO_KEYS, KeySet

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Self

__all__ = ("FollowedKeys", "KeyFile")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KeyFile:
    """Keys in a file.

    Attributes:
        path: Of a JWK Set document.
        poll_seconds: Look at least this often, for mounts that send no notifications.
        max_stale_seconds: How long unreadable content keeps the last good keys.
    """

    path: str | os.PathLike[str]
    poll_seconds: float = 10.0
    max_stale_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if self.poll_seconds <= 0 or self.max_stale_seconds < 0:
            raise ConfigurationError("expected poll_seconds > 0 and max_stale_seconds >= 0")

    def open(self) -> FollowedKeys:
        """Read the file and begin to follow it.

        Raises:
            ConfigurationError: It is missing, unreadable or no JWK Set.
        """
        return FollowedKeys(self).start()


class FollowedKeys:
    """The keys of a file in this process.

    Args:
        setting: Which file, and how it is followed.

    Attributes:
        keys: In force.
        error: Why the last look changed nothing, None when it was fine.
    """

    def __init__(self, setting: KeyFile) -> None:
        self.keys = NO_KEYS
        self.error: str | None = None
        self._setting = setting
        self._path = Path(os.path.abspath(setting.path))
        self._text: bytes | None = None
        self._good_at = time.monotonic()
        self._looking = threading.Lock()
        self._follower = Follower("kubetls-keys", self.look, poll_seconds=setting.poll_seconds)

    def start(self) -> Self:
        """Read the file, then follow it in a thread.

        Raises:
            ConfigurationError: It cannot be used.
        """
        try:
            self._put(_read(self._path))
        except (OSError, ConfigurationError) as err:
            raise ConfigurationError(f"{self._path}: {err}") from err
        disown_in_children(self)
        self._follower.start([str(self._path.parent)])
        return self

    def usable(self) -> KeySet | None:
        """The keys in force."""
        return self.keys

    def flight(self, kid: str | None) -> Future[None] | None:
        """Nothing to wait for: the file is followed."""
        del kid
        return None

    def last(self) -> KeySet:
        """The keys in force."""
        return self.keys

    def look(self) -> None:
        """Look at the file now; raises nothing."""
        with self._looking:
            self._look()

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._follower.close()

    def _disown(self) -> None:
        """In a forked child: the thread is not here, and a removed key would stay."""
        self._follower.disown()
        self._looking = threading.Lock()
        self.keys = NO_KEYS

    def _look(self) -> None:
        try:
            text = _read(self._path)
            if text != self._text:
                self._put(text)
        except FileNotFoundError:
            self._drop("the key file is gone")
        except (OSError, ConfigurationError) as err:
            self._keep(str(err))
        else:
            self._good_at, self.error = time.monotonic(), None

    def _put(self, text: bytes) -> None:
        self.keys, self._text = KeySet.parse(text), text
        self._good_at, self.error = time.monotonic(), None
        _log.info("%d verification keys of %s in force", len(self.keys.keys), self._path)

    def _keep(self, error: str) -> None:
        if time.monotonic() - self._good_at > self._setting.max_stale_seconds:
            self._drop(f"{error}, for too long")
        elif error != self.error:
            _log.error("the keys of %s stay as they are: %s", self._path, error)
            self.error = error

    def _drop(self, error: str) -> None:
        if error != self.error:
            _log.error("no token is verified by %s: %s", self._path, error)
        self.keys, self._text, self.error = NO_KEYS, None, error


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_TEXT_BYTES + 1)
