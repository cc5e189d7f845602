# SPDX-License-Identifier: Apache-2.0
"""A gRPC server on a UNIX socket that only we, and the kubelet as root, may open.

Rules:
    1. A socket that an earlier process left is removed; anything else of that name is not.
    2. There is no moment at which others may open it.
    3. Another socket of its name is not ours: whoever made it gets what the kubelet sends.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc.aio

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("BoundSocket", "SocketServer", "grpc_server", "listen")

_MOST_PATH_BYTES: Final = 107
_MOST_MESSAGE_BYTES: Final = 1024 * 1024
_MOST_CALLS: Final = 4096


@dataclass(frozen=True, slots=True)
class BoundSocket:
    """A socket that we have bound.

    Attributes:
        path: Where.
        identity: Device and inode.
    """

    path: Path
    identity: tuple[int, int]

    @property
    def is_there(self) -> bool:
        """Whether it is still the one at its path."""
        return _identity(self.path) == self.identity


def grpc_server() -> grpc.aio.Server:
    """A server with bounds: of a message, and of calls at once.

    These are more than a node has volumes. Where many wait, and one that a pod has is published
    again, that call must not be turned away: a kubelet before 1.37 would take the volume down.
    """
    return grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", _MOST_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", _MOST_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", _MOST_CALLS),
        ),
        maximum_concurrent_rpcs=_MOST_CALLS,
    )


def listen(server: grpc.aio.Server, path: Path) -> BoundSocket:
    """Bind a server to a socket, whose folder is made when it is missing.

    Raises:
        ConfigurationError: The path is too long for a socket, or of something else.
        OSError: The folder cannot be made, or the socket not be bound.
    """
    if len(os.fsencode(path)) > _MOST_PATH_BYTES or not path.is_absolute():
        raise ConfigurationError(
            f"expected an absolute path of at most {_MOST_PATH_BYTES} bytes, got {str(path)!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    _remove_stale(path)
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix://{path}")
    except RuntimeError as error:
        raise OSError(f"{path}: {error}") from error
    finally:
        os.umask(before)
    return BoundSocket(path, _identity(path))


class SocketServer:
    """A server and its socket; one start for each object.

    Args:
        path: Of the socket.

    Attributes:
        server: Takes the services, before the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bound: BoundSocket | None = None
        self.server = grpc_server()

    @property
    def is_lost(self) -> bool:
        """Whether somebody has removed or replaced the socket while we serve."""
        return self._bound is not None and not self._bound.is_there

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            ConfigurationError: The socket's path cannot be one.
            OSError: It cannot be bound.
        """
        bound = listen(self.server, self._path)
        await self.server.start()
        self._bound = bound

    def forget(self) -> BoundSocket | None:
        """Give the socket up, before the end: what becomes of it is no loss any more."""
        bound, self._bound = self._bound, None
        return bound


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode of what is at a path; zeros when nothing is."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _remove_stale(path: Path) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigurationError(f"{path}: expected a socket or nothing, to listen there")
    path.unlink()
