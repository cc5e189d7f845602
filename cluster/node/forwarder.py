# SPDX-License-Identifier: Apache-2.0
"""Carries connections out of a node's network to the API server.

`python forwarder.py PID ADDRESS PORT TARGET_PORT` listens in the network namespace
of process PID and connects to 127.0.0.1:TARGET_PORT of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

_CHUNK = 65536
_IP_FREEBIND = 15  # linux/in.h: the address may not be there yet.
_CLONE_NEWNET = 0x40000000


def socket_in(namespace: Path) -> socket.socket:
    """A socket of another network namespace; the caller's thread stays in its own.

    A socket belongs to the namespace in which it was made.
    """
    with Path("/proc/thread-self/ns/net").open() as own, namespace.open() as other:
        _enter(other.fileno())
        try:
            return socket.socket()
        finally:
            _enter(own.fileno())


def listen_in(namespace: Path, address: str, port: int) -> socket.socket:
    """A listening socket in another network namespace."""
    listener = socket_in(namespace)
    listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.bind((address, port))
    listener.listen()
    return listener


async def serve(listener: socket.socket, target_port: int) -> None:
    """Carry each connection of the listener to the target, until cancelled."""
    server = await asyncio.start_server(partial(_carry, target_port), sock=listener)
    async with server:
        await server.serve_forever()


async def _carry(
    target_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target_port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(pid: str, address: str, port: str, target_port: str) -> None:
    """Run until killed."""
    listener = listen_in(Path(f"/proc/{pid}/ns/net"), address, int(port))
    asyncio.run(serve(listener, int(target_port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
