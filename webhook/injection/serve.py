# SPDX-License-Identifier: Apache-2.0
"""The injector as a process: files that are followed, two listeners, an orderly end.

Rules:
    1. Ready means: configuration and serving certificate are in force, and reviews are answered.
       Until then the files are waited for; a process that starts before them does not fail.
    2. A new file that cannot be used changes nothing; a log line and a metric say so.
    3. At the end it first says that it is not ready, and goes on answering until the API server has
       had time to see that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.bind import bind
from webhook.capabilities import Capabilities
from webhook.config import PlatformConfig
from webhook.followed_file import FollowedFile
from webhook.injection.admission import Platform
from webhook.injection.app import InjectorApp
from webhook.injection.listener import Listener
from webhook.injection.metrics import CERTIFICATE_NOT_AFTER, CONFIGURATION_FAULTY
from webhook.injection.serving_certificate import ServingCertificate
from webhook.names import SYSTEM_NAMESPACE
from webhook.replica import status_probes

if TYPE_CHECKING:
    import socket
    from pathlib import Path

__all__ = ("Injector", "InjectorSettings", "run")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectorSettings:
    """Where an injector finds what it needs.

    Attributes:
        config: The platform's configuration, YAML.
        capabilities: What the cluster can do, JSON; may be absent.
        serving: Folder of `tls.crt` and `tls.key`.
        client_authorities: Who signs the API server's client certificate; None: none is asked for.
        client_names: Common or DNS names of the API server's client certificate; none: any.
        host: Of both listeners.
        port: Of reviews, TLS; 0 takes a free one.
        status_port: Of probes and metrics, plain; 0 takes a free one.
        excluded: Namespaces that are always left alone.
        poll_seconds: How often the files are looked at.
        drain_seconds: How long reviews are still answered after the signal to end.
    """

    config: Path
    capabilities: Path
    serving: Path
    client_authorities: Path | None = None
    client_names: frozenset[str] = frozenset()
    host: str = "0.0.0.0"  # noqa: S104 - the API server comes from outside the pod
    port: int = 8443
    status_port: int = 8080
    excluded: frozenset[str] = frozenset({SYSTEM_NAMESPACE})
    poll_seconds: float = 1.0
    drain_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.client_names and self.client_authorities is None:
            raise ConfigurationError("expected client authorities with client names")


@dataclass(slots=True)
class Files:
    """The files of an injector, all of them usable at the start."""

    config: FollowedFile[PlatformConfig]
    capabilities: FollowedFile[Capabilities]
    certificate: ServingCertificate

    @classmethod
    def read(cls, settings: InjectorSettings) -> Files:
        """Read them.

        Raises:
            ConfigurationError: One cannot be used.
        """
        parse = functools.partial(PlatformConfig.parse, file=settings.config.name)
        found = cls(
            FollowedFile(settings.config, parse),
            FollowedFile(settings.capabilities, Capabilities.parse, when_missing=Capabilities()),
            ServingCertificate(settings.serving, client_authorities=settings.client_authorities),
        )
        found.report()
        return found

    def look(self) -> None:
        """Take what changed; blocks for a few milliseconds."""
        self.config.look()
        self.capabilities.look()
        self.certificate.reload()
        self.report()

    def report(self) -> None:
        """Set the metrics."""
        CONFIGURATION_FAULTY.labels("platform").set(self.config.error is not None)
        CONFIGURATION_FAULTY.labels("capabilities").set(self.capabilities.error is not None)
        CONFIGURATION_FAULTY.labels("certificate").set(self.certificate.is_faulty)
        CERTIFICATE_NOT_AFTER.set(self.certificate.not_after.timestamp())


class Injector:
    """A running injector.

    Attributes:
        is_ready: Whether it answers reviews, and will for a while.
    """

    def __init__(self, settings: InjectorSettings) -> None:
        self.is_ready = False
        self._settings = settings
        self._probes = status_probes(settings.host, settings.status_port)
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port of reviews that was bound; 0 before."""
        return self._socket.getsockname()[1] if self._socket is not None else 0

    @property
    def status_port(self) -> int:
        """The port of probes and metrics that was bound; 0 before."""
        return self._probes.bound_port or 0

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until told to stop, and then end in order.

        Raises:
            ConfigurationError: A port is in use.
        """
        self._socket = bind(self._settings.host, self._settings.port)
        # The probes are plain: no source is asked for anything.
        await self._probes.start(cast("Any", None), lambda: self.is_ready)
        try:
            files = await self._files(stop)
            if files is not None:
                await self._answer(files, stop)
        finally:
            self.is_ready = False
            await self._probes.stop()
            self._socket.close()

    async def _files(self, stop: asyncio.Event) -> Files | None:
        """Wait until all files can be used; None: told to stop before."""
        complaint = ""
        while not stop.is_set():
            try:
                return await asyncio.to_thread(Files.read, self._settings)
            except ConfigurationError as err:
                if str(err) != complaint:
                    _log.warning("waiting for a usable configuration: %s", err)
                complaint = str(err)
            await _wait(stop, self._settings.poll_seconds)
        return None

    async def _answer(self, files: Files, stop: asyncio.Event) -> None:
        excluded = self._settings.excluded
        app = InjectorApp(
            lambda: Platform(files.config.current, files.capabilities.current, excluded)
        )
        names = self._settings.client_names
        listener = Listener(app, files.certificate, client_names=names)
        await listener.start(cast("socket.socket", self._socket))
        self.is_ready = True
        _log.info("answering admission reviews on port %d", self.port)
        while not stop.is_set():
            await _wait(stop, self._settings.poll_seconds)
            await asyncio.to_thread(files.look)
        self.is_ready, app.is_draining = False, True
        await asyncio.sleep(self._settings.drain_seconds)
        await listener.stop()


async def run(settings: InjectorSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: A port is in use.
    """
    gc.collect()
    gc.freeze()  # modules stay: to look at them in each full collection would stall reviews
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for each in signals:
        loop.add_signal_handler(each, stop.set)
    try:
        await Injector(settings).serve(stop)
    finally:
        for each in signals:
            loop.remove_signal_handler(each)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
