# SPDX-License-Identifier: Apache-2.0
"""All our clients through one synchronous face, so that each promise is tested on every flavour."""

from __future__ import annotations

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from kubetls_sdk.client import _inner_transport

FLAVOURS = (
    "httpx-sync",
    "httpx-async",
    "httpx-async-library",
    "httpx2-sync",
    "httpx2-async",
    "httpx2-async-library",
)


class Flavour:
    """One library, sync or async, and for async ones our transport or the library's.

    Attributes:
        library: `httpx` or `httpx2`.
    """

    def __init__(self, name, monkeypatch):
        library, kind, *transport = name.split("-")
        self.library = importlib.import_module(library)
        self._clients = importlib.import_module(f"kubetls_sdk.client.{library}")
        self.is_async = kind == "async"
        monkeypatch.setattr(_inner_transport, "_HAS_HTTPTOOLS", not transport)

    @contextmanager
    def client(self, **options):
        """Open a client; its methods block."""
        if not self.is_async:
            with self._clients.Client(**options) as client:
                yield client
            return
        with asyncio.Runner() as runner:
            client = _Blocking(runner, self._clients.AsyncClient(**options))
            try:
                yield client
            finally:
                client.close()

    def start(self, client, *request):
        """Start a request of an open client; calling what is returned waits for the response."""
        if self.is_async:
            return client.start(*request)
        thread = ThreadPoolExecutor(1)
        response = thread.submit(client.request, *request)
        thread.shutdown(wait=False)
        return response.result

    def make(self, **options):
        """Make a client and leave it unopened."""
        kind = self._clients.AsyncClient if self.is_async else self._clients.Client
        return kind(**options)


class _Blocking:
    """An async client whose calls block."""

    def __init__(self, runner, client):
        self._runner = runner
        self.client = client

    def get(self, url, **options):
        return self.request("GET", url, **options)

    def post(self, url, **options):
        return self.request("POST", url, **options)

    def request(self, method, url, **options):
        return self._runner.run(self.client.request(method, url, **options))

    def start(self, method, url):
        task = self._runner.get_loop().create_task(self.client.request(method, url))

        async def response():
            return await task

        return lambda: self._runner.run(response())

    @contextmanager
    def stream(self, method, url):
        response = self._runner.run(
            self.client.send(self.client.build_request(method, url), stream=True)
        )
        try:
            yield _BlockingResponse(self._runner, response)
        finally:
            self._runner.run(response.aclose())

    def tick(self):
        """Let the event loop do what waits for it."""
        self._runner.run(asyncio.sleep(0))

    def close(self):
        self._runner.run(self.client.aclose())


class _BlockingResponse:
    def __init__(self, runner, response):
        self._runner = runner
        self._parts = response.aiter_raw()

    def iter_raw(self):
        while True:
            try:
                yield self._runner.run(anext(self._parts))
            except StopAsyncIteration:
                return
