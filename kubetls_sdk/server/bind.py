# SPDX-License-Identifier: Apache-2.0
"""Takes a port before anything is served, so that one in use ends the start."""

from __future__ import annotations

import errno
import socket

from kubetls_sdk.exceptions import ConfigurationError

__all__ = ("bind",)

_EXPECTED = {
    errno.EADDRINUSE: "a free port",
    errno.EACCES: "a port that this process may take (from 1024 without privileges)",
}


def bind(host: str, port: int) -> socket.socket:
    """Bind a TCP port.

    Raises:
        ConfigurationError: It is in use or none, or the address is not ours.
    """
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"expected a port from 0 to 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, since asyncio sets TCP_NODELAY only where it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as err:
        bound.close()
        raise ConfigurationError(
            f"expected {_EXPECTED.get(err.errno or 0, 'an address of this machine')},"
            f" got {host}:{port}: {err.strerror}"
        ) from err
    bound.set_inheritable(True)
    return bound
