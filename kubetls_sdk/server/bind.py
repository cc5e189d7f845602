# SPDX-License-Identifier: Apache-2.0
"""Takes a port before anything is served, so that one in use ends the start."""

from __future__ import annotations

import socket

from kubetls_sdk.exceptions import ConfigurationError

__all__ = ("bind",)


def bind(host: str, port: int) -> socket.socket:
    """Bind a TCP port.

    Raises:
        ConfigurationError: It is in use, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, since asyncio sets TCP_NODELAY only where it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as err:
        bound.close()
        raise ConfigurationError(
            f"expected a free port, got {host}:{port}: {err.strerror}"
        ) from err
    bound.set_inheritable(True)
    return bound
