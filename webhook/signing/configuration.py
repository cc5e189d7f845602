# SPDX-License-Identifier: Apache-2.0
"""The platform's configuration as the signer sees it: mounted, and read afresh before a refusal.

A mounted ConfigMap reaches each pod at its own time, up to minutes apart. The injector may admit a
pod by a rule that this replica has not yet, and a refusal is for ever: so before one, the ConfigMap
itself is read.

Rules:
    1. Reading afresh never fails: without the right to, or without an answer, the mounted file
       decides.
    2. A text that is not valid changes nothing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import ConfigurationError
from webhook.api import ApiError
from webhook.api.resources import CONFIG_MAPS
from webhook.config import PlatformConfig
from webhook.names import CONFIGURATION_KEY, CONFIGURATION_MAP

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.api import Api
    from webhook.followed_file import FollowedFile

__all__ = ("Configuration",)

_log = logging.getLogger(__name__)


class Configuration:
    """The configuration in force.

    Args:
        file: The mounted file.
        api: Where the ConfigMap is.
        namespace: Of the ConfigMap.
        reread_seconds: How long a fresh read is fresh.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        file: FollowedFile[PlatformConfig],
        api: Api,
        namespace: str,
        *,
        reread_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._api = api
        self._namespace = namespace
        self._reread_seconds = reread_seconds
        self._clock = clock
        self._read_at = float("-inf")
        self._ahead: tuple[PlatformConfig, PlatformConfig] | None = None

    @property
    def current(self) -> PlatformConfig:
        """The ConfigMap's where it was seen ahead of the mounted file, until that changes too."""
        if self._ahead is not None and self._ahead[0] is self._file.current:
            return self._ahead[1]
        return self._file.current

    async def fresh(self) -> PlatformConfig:
        """Read the ConfigMap, unless that was done just now, and return what is in force."""
        now = self._clock()
        if now - self._read_at >= self._reread_seconds:
            self._read_at = now
            try:
                await self._read()
            except (ApiError, ConfigurationError, KeyError) as err:
                _log.debug("the mounted configuration decides: %s", err)
        return self.current

    async def _read(self) -> None:
        found = await self._api.get(CONFIG_MAPS, CONFIGURATION_MAP, namespace=self._namespace)
        config = PlatformConfig.parse(found["data"][CONFIGURATION_KEY])
        if config != self._file.current:
            self._ahead = (self._file.current, config)
