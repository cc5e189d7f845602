# SPDX-License-Identifier: Apache-2.0
"""How a replica of the control plane runs: its parts, its probes, its end.

Rules:
    1. Probes are answered from the start, once the configuration is valid; ready is what `is_ready`
       says.
    2. Told to stop, the work is cancelled and has its time to end in order.
    3. A part that fails ends the process: the kubelet starts it anew.
"""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

from kubetls_sdk.server.probes import Probes
from webhook.config import PlatformConfig
from webhook.exceptions import WebhookError
from webhook.followed_file import FollowedFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from pathlib import Path

__all__ = (
    "Part",
    "Replica",
    "ReplicaSettings",
    "end_with",
    "every",
    "run_all",
    "serve",
    "status_probes",
    "stop_on_signals",
)


_LOOK_SECONDS: Final = 1.0


class Part(Protocol):
    """What runs beside the work, in tasks of its own."""

    @property
    def has_failed(self) -> bool:
        """Whether it has ended by a mistake of ours."""


class ReplicaSettings(Protocol):
    """What each replica is started with."""

    @property
    def config(self) -> Path:
        """The platform's configuration, a mounted file."""

    @property
    def host(self) -> str:
        """Where probes and metrics are served."""

    @property
    def status_port(self) -> int:
        """Of probes and metrics."""


class Replica(ABC):
    """A running replica that follows the platform's configuration.

    Args:
        settings: What it is started with.

    Attributes:
        is_ready: Whether it does its work.
    """

    def __init__(self, settings: ReplicaSettings) -> None:
        self._config = settings.config
        self._probes = status_probes(settings.host, settings.status_port)

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it has started, and knows what goes on."""

    @property
    def status_port(self) -> int:
        """The port of probes and metrics that was bound; 0 before."""
        return self._probes.bound_port or 0

    async def serve(self, stop: asyncio.Event) -> None:
        """Do its work until told to stop, and then end in order.

        Raises:
            ConfigurationError: The configuration is not valid, or a port is in use.
            WebhookError: What the work raises.
        """
        file = FollowedFile(self._config, partial(PlatformConfig.parse, file=self._config.name))
        await serve(
            lambda: self._work(file), stop, probes=self._probes, is_ready=lambda: self.is_ready
        )

    @abstractmethod
    async def _work(self, file: FollowedFile[PlatformConfig]) -> None:
        """Do its work until cancelled."""


def status_probes(host: str, port: int) -> Probes:
    """Health and metrics on a plain port: `/healthz`, `/readyz`, `/metrics`."""
    return Probes(
        port=port,
        host=host,
        ready_paths=("/readyz",),
        live_paths=("/healthz",),
        metrics_path="/metrics",
    )


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def serve(
    work: Callable[[], Coroutine[Any, Any, None]],
    stop: asyncio.Event,
    *,
    probes: Probes,
    is_ready: Callable[[], bool],
) -> None:
    """Do the work until told to stop, and raise what it raises.

    Raises:
        ConfigurationError: The port of the probes is in use.
    """
    # The probes are plain: no source is asked for anything.
    await probes.start(cast("Any", None), is_ready)
    stopping = asyncio.ensure_future(stop.wait())
    working = asyncio.ensure_future(work())
    try:
        await asyncio.wait([stopping, working], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.wait([stopping, working])
        await probes.stop()
    if not working.cancelled():
        working.result()


async def run_all(*parts: Awaitable[None]) -> None:
    """Run parts side by side until one fails or this is cancelled; the others are cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(_awaited(part))


async def every(seconds: float, act: Callable[[], Awaitable[None]]) -> None:
    """Act, again and again, with a pause between."""
    while True:
        await act()
        await asyncio.sleep(seconds)


async def end_with(parts: Iterable[Part]) -> NoReturn:
    """Fail as soon as one of these has, which it tells nobody.

    Raises:
        WebhookError: One has.
    """
    watched = tuple(parts)
    while True:
        if any(part.has_failed for part in watched):
            raise WebhookError("a watch has ended by a mistake of ours: all begins anew")
        await asyncio.sleep(_LOOK_SECONDS)


async def _awaited(part: Awaitable[None]) -> None:
    await part
