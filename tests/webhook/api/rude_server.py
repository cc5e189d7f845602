# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on a real socket that answers, or misbehaves, as it is told.

    server.answer(refusal(429, "TooManyRequests", retry_after=1), OBJECT)
    server.requests      # what came

Answers are used up in order; the last one stays.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Came:
    """One request that the server got."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class RudeServer:
    requests: list[Came] = field(default_factory=list)
    answers: list = field(default_factory=list)
    url: str = ""
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, *answers):
        """Set what is answered: a JSON object, or an async function of the request."""
        self.answers = list(answers)

    async def __aenter__(self):
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(
            application, shutdown_timeout=0.1, access_log=None, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _serve(self, request):
        body = await request.read()
        query, headers = dict(request.query), dict(request.headers)
        self.requests.append(Came(request.method, request.raw_path, query, headers, body))
        self.came.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(answer) if isinstance(answer, dict) else await answer(request)


def refusal(status, reason="", *, message="", retry_after=None, details=None):
    """Refuse, as the API server does, with a Status object."""
    body = {"kind": "Status", "code": status, "reason": reason, "message": message}
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}

    async def answer(_request):
        return web.json_response(
            body | ({"details": details} if details else {}), status=status, headers=headers
        )

    return answer


def stream(*chunks, then="end"):
    """Send chunks of a watch, then end, break off (`break`), or say nothing more (`hang`)."""

    async def answer(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk if isinstance(chunk, bytes) else line(chunk))
        if then == "break":
            request.transport.abort()
        if then == "hang":
            await hang(request)
        return response

    return answer


async def hang(_request):
    """Answer nothing until the client goes, which ends the task."""
    await asyncio.Event().wait()


async def break_off(request):
    """Close the connection instead of an answer."""
    request.transport.abort()
    return web.Response()


def line(event):
    """One event as one line."""
    return json.dumps(event).encode() + b"\n"


def event(type_, name="web", version="5", **more):
    """A watch's event about an object in the namespace `shop`."""
    metadata = {"name": name, "namespace": "shop", "resourceVersion": version}
    return {"type": type_, "object": {"metadata": metadata, **more}}


def listing(*names, version="4", token=None):
    """A list, or a page of one."""
    metadata = {"resourceVersion": version, **({"continue": token} if token else {})}
    items = [{"metadata": {"name": name, "namespace": "shop"}} for name in names]
    return {"metadata": metadata, "items": items}
