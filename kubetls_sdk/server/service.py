# SPDX-License-Identifier: Apache-2.0
"""What runs beside the application in each process: probes, the edge listener, and their end.

uvicorn starts and stops it with the application's lifespan.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubetls_sdk.exceptions import CredentialError, KubeTLSError
from kubetls_sdk.server.refusal_log import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.server.uvicorn import Config
    from kubetls_sdk.source import Source

__all__ = ("Service",)


class Service:
    """The side listeners of one process.

    Args:
        config: Of the server.
        source: Its SVID decides whether we are ready.
        app: The application, without our middleware.
        policy: Of the server.
    """

    def __init__(self, config: Config, source: Source, app: Any, policy: Any) -> None:
        self._config = config
        self._source = source
        self._app = app
        self._policy = policy
        self._is_serving = False

    def lifespan_class(self, inner: Any) -> Any:
        """Wrap uvicorn's lifespan class."""
        return functools.partial(_ServiceLifespan, self, inner)

    def is_ready(self) -> bool:
        """Whether requests are served: the application has started and our SVID is valid."""
        try:
            svid = self._source.snapshot.svid
        except CredentialError:
            return False
        return self._is_serving and svid.is_valid_at(datetime.now(UTC))

    async def start(self) -> None:
        """Answer probes."""
        if self._config.probes is not None:
            await self._config.probes.start(self._source, self.is_ready)

    async def begin_serving(self, state: dict[str, Any]) -> None:
        """Let the public in, and say that we are ready: the application is."""
        if self._config.edge is not None:
            await self._config.edge.start(self._config, self._app, self._policy, state)
        self._is_serving = True

    async def stop_serving(self) -> None:
        """Say that we are not ready, and let no more of the public in."""
        self._is_serving = False
        if self._config.edge is not None:
            await self._config.edge.stop()

    async def stop(self) -> None:
        """Answer no more probes, and close what the configuration opened."""
        if self._config.probes is not None:
            await self._config.probes.stop()
        self._config.close()


class _ServiceLifespan:
    """uvicorn's lifespan, with the service around it."""

    def __init__(self, service: Service, inner: Callable[[Config], Any], config: Config) -> None:
        self._service = service
        self._inner = inner(config)
        self._has_failed = False

    @property
    def should_exit(self) -> bool:
        """Whether uvicorn has to give up."""
        return self._has_failed or bool(self._inner.should_exit)

    @property
    def state(self) -> dict[str, Any]:
        """Of the application."""
        state: dict[str, Any] = self._inner.state
        return state

    async def startup(self) -> None:
        """Start the side listeners around the application."""
        try:
            await self._service.start()
            await self._inner.startup()
            if not self._inner.should_exit:
                await self._service.begin_serving(self._inner.state)
        except (KubeTLSError, OSError) as err:
            log.error("cannot start: %s", err)
            self._has_failed = True

    async def shutdown(self) -> None:
        """Stop the application between the side listeners."""
        await self._service.stop_serving()
        await self._inner.shutdown()
        await self._service.stop()
