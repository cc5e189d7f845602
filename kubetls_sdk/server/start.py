# SPDX-License-Identifier: Apache-2.0
"""Start uvicorn the way it starts itself: in this process, with workers, or with a reloader.

Rules:
    1. Every port is bound, and volume and policy are read once, before anything is served.
    2. Signals, graceful shutdown and the supervision of workers are uvicorn's own.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import ChangeReload, Multiprocess

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.server.uvicorn import Config

__all__ = ("start",)


def start(config: Config) -> None:
    """Serve until a signal ends it.

    Raises:
        ConfigurationError: Several processes, and something that cannot go to them.
        SystemExit: The server could not start.
    """
    try:
        if config.use_subprocess:
            _start_processes(config)
        else:
            _start_here(config)
    except KeyboardInterrupt:
        pass
    finally:
        config.close()
        if config.uds:
            with contextlib.suppress(FileNotFoundError):
                os.remove(config.uds)


def _start_here(config: Config) -> None:
    config.prepare()
    sockets = _bind(config)
    server = uvicorn.Server(config)
    server.run(sockets=sockets)
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _start_processes(config: Config) -> None:
    if not isinstance(config.app, str):
        raise ConfigurationError(
            "expected the application as 'module:attribute' for workers or reload,"
            f" got {config.app!r}"
        )
    pickle.dumps((config.tls, config.policy))  # what cannot go to another process says so here
    config.open_once()
    sockets = _bind(config) or []
    if config.should_reload:
        server = uvicorn.Server(config)
        ChangeReload(config, target=server.run, sockets=sockets).run()
        return
    supervisor = Multiprocess(config, sockets=sockets)
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


def _bind(config: Config) -> list[Any] | None:
    for listener in (config.probes, config.edge):
        if listener is not None:
            listener.bind()
    _check_place(config)
    if not config.use_subprocess and (config.uds is not None or config.fd is not None):
        return None  # uvicorn makes these itself in the serving process
    return [config.bind_socket()]


def _check_place(config: Config) -> None:
    """Find what uvicorn would report without the name, and among tracebacks of its own."""
    if config.fd is not None:
        try:
            os.fstat(config.fd)
        except OSError as err:
            raise ConfigurationError(
                f"expected an open socket, got file descriptor {config.fd}: {err.strerror}"
            ) from err
    if config.uds is not None:
        parent = os.path.dirname(os.path.abspath(config.uds))
        if not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"expected a writable directory for the unix socket, got {config.uds!r}"
            )
