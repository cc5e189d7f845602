# SPDX-License-Identifier: Apache-2.0
"""Two injectors behind one address, as behind a Service: connections go to them in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from typing import TYPE_CHECKING

from tests.integration.injecting import Folder, running
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

CONFIG = """\
version: 1
zones: [{name: default, trustDomain: example.org}]
namespaces: [{names: ["*"]}]
"""


class TwoReplicas:
    """The injectors, started when there is a certificate to serve.

    Attributes:
        port: Of the address before them.
        served: The certificates that they serve.
    """

    def __init__(self, root: Path) -> None:
        self._folders = [Folder(root / name) for name in ("first", "second")]
        self._stack = contextlib.ExitStack()
        self._ports: list[int] = []
        self._turn = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="two replicas")
        self.port = 0
        self.served: set[bytes] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def serve(self, content: dict[str, bytes], *, both: bool) -> None:
        """Mount a Secret's content into the second replica, or both."""
        for folder in self._folders if both else self._folders[1:]:
            folder.write_serving(content)
        self.served.add(content["tls.crt"])
        if not self._ports:
            self._start()

    def disconnect(self) -> None:
        """Close all connections, so that the next request makes a new one."""
        asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(10)

    def _start(self) -> None:
        for folder in self._folders:
            folder.write_config(CONFIG)
            run = self._stack.enter_context(running(folder.settings()))
            run.wait_ready()
            self._ports.append(until(lambda run=run: run.injector.port))

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._ports[next(self._turn) % len(self._ports)]
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.add(writer)
        await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))
        self._writers.discard(writer)

    async def _drop(self) -> None:
        """Say that nothing more comes, and wait until the API server has closed its side."""
        for writer in tuple(self._writers):
            writer.write_eof()
        await asyncio.gather(*self._connections)

    async def _close(self) -> None:
        self._server.close()
        await self._drop()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # the latter after our own end of file
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
