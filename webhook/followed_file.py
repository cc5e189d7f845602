# SPDX-License-Identifier: Apache-2.0
"""A mounted configuration file, read again when it changes.

Rules:
    1. At the start a file that cannot be used is an error; later the last good value stays, with
       one log line for each new fault.
    2. The text is compared, not times: a mounted ConfigMap swaps symbolic links.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from typing import NoReturn

__all__ = ("FollowedFile",)

T = TypeVar("T")

_log = logging.getLogger(__name__)
_MAX_BYTES = 4 * 1024 * 1024


class FollowedFile(Generic[T]):
    """A file, and the value that its text stands for.

    Args:
        path: The file.
        parse: Text to value; raises `ConfigurationError`.
        when_missing: The value while there is no file; without it a missing file is an error.
        poll_seconds: How often to look.

    Attributes:
        current: The value in force.
        error: Why the last look changed nothing; None when it was fine.

    Raises:
        ConfigurationError: The file is missing, unreadable or not valid.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        parse: Callable[[str], T],
        *,
        when_missing: T | None = None,
        poll_seconds: float = 1.0,
    ) -> None:
        self.path = Path(path)
        self.error: str | None = None
        self._parse = parse
        self._when_missing = when_missing
        self._poll_seconds = poll_seconds
        self._text = self._read()
        self.current: T = self._value(self._text)

    async def follow(self, changed: Callable[[T], Awaitable[None]]) -> NoReturn:
        """Look until cancelled, in a thread; await `changed` with each new value."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if await asyncio.to_thread(self.look):
                await changed(self.current)

    def look(self) -> bool:
        """Read the file now; tell whether there is a new value."""
        try:
            text = self._read()
            if text == self._text:
                self.error = None
                return False
            value = self._value(text)
        except ConfigurationError as err:
            if self.error != str(err):
                self.error = str(err)
                _log.error("the last good configuration stays in force: %s", err)
            return False
        self.current, self._text, self.error = value, text, None
        _log.info("%s: a new configuration is in force", self.path)
        return True

    def _value(self, text: str | None) -> T:
        if text is not None:
            return self._parse(text)
        if self._when_missing is None:
            raise ConfigurationError(f"{self.path}: expected a configuration file, got none")
        return self._when_missing

    def _read(self) -> str | None:
        try:
            with self.path.open("rb") as stream:
                content = stream.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as err:
            raise ConfigurationError(f"{self.path}: expected a readable file, got {err}") from err
        if len(content) > _MAX_BYTES:
            raise ConfigurationError(f"{self.path}: expected at most {_MAX_BYTES} bytes")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError(f"{self.path}: expected UTF-8 text") from None
