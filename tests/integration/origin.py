# SPDX-License-Identifier: Apache-2.0
"""An HTTPS server for client tests: any TLS context, loopback, a thread of its own.

It answers `ok`, and by the first segment of the path: `/redirect?<location>`, `/close` (answers and
closes), `/hangup` (the same without a word), `/drop` (closes without an answer), `/stream` (the
second half of the body comes when `gate` is set), `/never` (no answer), `/big` (a megabyte),
`/echo` (the body that was sent).
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

BIG = b"x" * 1_000_000


class Request(NamedTuple):
    """What arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Origin:
    """The server.

    Attributes:
        requests: What arrived, in order.
        connections: How many TCP connections were accepted, also those whose handshake failed.
        open: How many are open after a complete handshake.
        gate: Lets `/stream` go on.
        server_names: The SNI of each handshake, of a context that a test gives hooks to.
    """

    def __init__(self, context):
        self._context = context
        self.requests = []
        self.connections = 0
        self.open = 0
        self.gate = threading.Event()
        self.port = 0

    @classmethod
    @contextmanager
    def running(cls, context):
        origin = cls(context)
        started = threading.Event()
        thread = threading.Thread(target=origin._run, args=(started,))
        thread.start()
        assert started.wait(10)
        try:
            yield origin
        finally:
            origin.gate.set()
            origin._loop.call_soon_threadsafe(origin._stop.set)
            thread.join(10)
            assert not thread.is_alive()

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def _run(self, started):
        with asyncio.Runner() as runner:
            runner.run(self._main(started))

    async def _main(self, started):
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda loop, context: None)  # handshakes that tests break
        self._stop = asyncio.Event()
        self._tasks = set()
        server = await self._loop.create_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(5):  # let the transports tell their sockets
            await asyncio.sleep(0)

    def _accept(self):
        self.connections += 1
        reader = asyncio.StreamReader()
        return asyncio.StreamReaderProtocol(reader, self._connected)

    async def _connected(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.open += 1
        number = self.connections
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                while await self._exchange(reader, writer, number):
                    pass
        finally:
            writer.transport.abort()
            for _ in range(3):  # until the socket is closed
                await asyncio.sleep(0)
            self.open -= 1
            self._tasks.discard(asyncio.current_task())

    async def _exchange(self, reader, writer, connection):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await _body(reader, headers)
        self.requests.append(Request(method, path, headers, body, connection))
        action, _, argument = path.lstrip("/").partition("?")
        answer = getattr(self, f"_{action}", self._ok)
        return await answer(writer, argument)

    async def _ok(self, writer, _argument):
        return await self._answer(writer, "200 OK", b"ok")

    async def _echo(self, writer, _argument):
        return await self._answer(writer, "200 OK", self.requests[-1].body)

    async def _big(self, writer, _argument):
        return await self._answer(writer, "200 OK", BIG)

    async def _redirect(self, writer, location):
        return await self._answer(writer, "302 Found", b"", f"Location: {location}\r\n")

    async def _close(self, writer, _argument):
        await self._answer(writer, "200 OK", b"ok", "Connection: close\r\n")
        return False

    async def _hangup(self, writer, _argument):
        await self._answer(writer, "200 OK", b"ok")
        return False

    async def _drop(self, _writer, _argument):
        return False

    async def _never(self, _writer, _argument):
        await self._stop.wait()
        return False

    async def _stream(self, writer, _argument):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        await self._loop.run_in_executor(None, self.gate.wait, 20)
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await writer.drain()
        return True

    async def _answer(self, writer, status, body, headers=""):
        head = f"HTTP/1.1 {status}\r\nX-Case: Kept\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        sent = b"" if self.requests[-1].method == "HEAD" else body
        writer.write(head.encode() + sent)
        await writer.drain()
        return True


async def _body(reader, headers):
    if "chunked" in headers.get("transfer-encoding", ""):
        parts = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", 0)))


def stock_server_context(chain, *, roots=None):
    """A server without us: an `IssuedChain` or `X509Svid`, asking clients for nothing by default.

    Args:
        chain: What it presents, right or wrong.
        roots: PEM of the authorities for client certificates, which are then required.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_chain(context, chain)
    if roots is not None:
        context.load_verify_locations(cadata=roots.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_chain(context, chain):
    """Load certificate and key from memory into a stock context."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "chain.pem")
        path.write_bytes(chain.private_key_pem() + chain.certificates_pem())
        context.load_cert_chain(path)
