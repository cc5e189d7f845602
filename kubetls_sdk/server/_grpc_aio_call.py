# SPDX-License-Identifier: Apache-2.0
"""Serves the methods of an asyncio gRPC server; the rules are those of `_grpc_call`.

A call that is not trusted any more is cancelled in its event loop, and answered with a status.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from kubetls_sdk.server._grpc_admission import Admission
from kubetls_sdk.server._grpc_call import ThreadedCalls, watched
from kubetls_sdk.server._grpc_details import harmless
from kubetls_sdk.server._grpc_entry import RefusedCallError
from kubetls_sdk.server._grpc_gate import Door
from kubetls_sdk.server._grpc_message import (
    behavior_of,
    deserialize,
    missing_message,
    unknown_method,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from kubetls_sdk.server._grpc_entry import Entry
    from kubetls_sdk.server._grpc_gate import Gate
    from kubetls_sdk.server._grpc_streams import StreamWatch

__all__ = ("AsyncCalls",)

_EOF = aio.EOF
_NO_MESSAGES: tuple[Any, ...] = ()
_WRITING_SECONDS = 1.0
"""How long a message that the client does not take may delay the end of a call."""


class AsyncCalls:
    """Wraps the handlers of one server.

    Args:
        gate: Decides.
        watch: Looks after streams.
    """

    def __init__(self, gate: Gate, watch: StreamWatch) -> None:
        self._gate = gate
        self._watch = watch
        self._threaded = ThreadedCalls(gate, watch, calls_back=False)

    def wrap(self, handler: Any, method: str) -> Any:
        """Make the handler that serves a method; None stands for one that does not exist."""
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(self._unknown(method))
        if not _is_async(behavior_of(handler)):
            return self._threaded.wrap(handler, method)
        if handler.response_streaming:
            serve, make = self._streaming(handler, method), grpc.stream_stream_rpc_method_handler
        elif handler.request_streaming:
            serve, make = self._collecting(handler, method), grpc.stream_unary_rpc_method_handler
        else:
            serve, make = self._unary(handler, method), grpc.stream_unary_rpc_method_handler
        return make(serve, None, handler.response_serializer)

    def _unary(self, handler: Any, method: str) -> Callable[..., Any]:
        behavior, door, check = behavior_of(handler), Door(self._gate, method), self._gate.check
        deserializer, never_waits = handler.request_deserializer, self._gate.users is None

        async def serve(_: Any, context: Any) -> Any:
            try:
                entry = door.admit(context) if never_waits else await door.admit_soon(context)
                raw = await context.read()
                if raw is _EOF:
                    raise missing_message(method)
                request = deserialize(raw, deserializer)
                response = await behavior(request, _UnaryContext(context, entry))
                check(entry, context)
            except RefusedCallError as refused:
                await _abort(context, refused)
            else:
                return response

        return serve

    def _collecting(self, handler: Any, method: str) -> Callable[..., Any]:
        behavior, admit = behavior_of(handler), Door(self._gate, method).admit_soon

        async def serve(_: Any, context: Any) -> Any:
            try:
                entry = await admit(context)
                admission = Admission(entry, context)
                call = _CallContext(context, entry, admission, handler.request_deserializer)
                with watched(self._watch, _AsyncStream(admission, call)), _ending(admission, call):
                    response = await behavior(call.messages(), call)
                admission.check()
            except RefusedCallError as refused:
                await _abort(context, refused)
            else:
                return response

        return serve

    def _streaming(self, handler: Any, method: str) -> Callable[..., Any]:
        behavior, admit = behavior_of(handler), Door(self._gate, method).admit_soon
        answer = _write_all if inspect.isasyncgenfunction(behavior) else _await

        # A generator, which other people's interceptors expect; it writes by itself, so that it
        # knows when gRPC is writing.
        async def serve(_: Any, context: Any) -> AsyncIterator[Any]:
            try:
                entry = await admit(context)
                admission = Admission(entry, context)
                call = _CallContext(context, entry, admission, handler.request_deserializer)
                argument = await _argument(handler, call, method)
                with watched(self._watch, _AsyncStream(admission, call)), _ending(admission, call):
                    await answer(behavior(argument, call), call)
                admission.check()
            except RefusedCallError as refused:
                await _abort(context, refused)
            for none in _NO_MESSAGES:
                yield none

        return serve

    def _unknown(self, method: str) -> Callable[..., Any]:
        admit = Door(self._gate, method).admit_soon

        async def serve(_: Any, context: Any) -> AsyncIterator[Any]:
            try:
                await admit(context)
                raise unknown_method()
            except RefusedCallError as refused:
                await _abort(context, refused)
            for none in _NO_MESSAGES:
                yield none

        return serve


class _UnaryContext:
    """The servicer context that the application gets, which knows who calls."""

    __slots__ = ("_context", "kubetls_entry")

    def __init__(self, context: Any, entry: Entry) -> None:
        self._context = context
        self.kubetls_entry = entry

    def invocation_metadata(self) -> Any:
        """What came with the call, without claims of identity."""
        return harmless(self._context.invocation_metadata())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class _CallContext(_UnaryContext):
    """The same of a stream: it reads messages, checked ones.

    Attributes:
        is_writing: gRPC has a message to send, and can send nothing else meanwhile.
    """

    __slots__ = ("_admission", "_deserializer", "is_writing")

    def __init__(self, context: Any, entry: Entry, admission: Admission, deserializer: Any) -> None:
        super().__init__(context, entry)
        self._admission = admission
        self._deserializer = deserializer
        self.is_writing = False

    async def read(self) -> Any:
        raw = await self._context.read()
        if raw is aio.EOF:
            return raw
        self._admission.check()
        return deserialize(raw, self._deserializer)

    async def write(self, message: Any) -> None:
        self._admission.check()
        await self._send(self._context.write(message))

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        await self._send(self._context.send_initial_metadata(initial_metadata))

    async def _send(self, sending: Awaitable[None]) -> None:
        self.is_writing = True
        await sending  # a cancellation leaves gRPC writing
        self.is_writing = False
        if self._admission.ended is not None:
            self._admission.check()

    async def messages(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not aio.EOF:
            yield message


class _AsyncStream:
    """Implements `Stream`."""

    ends_at_once = True

    def __init__(self, admission: Admission, call: _CallContext) -> None:
        self.admission = admission
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def end(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._call.is_writing:  # it ends with a status once the message is sent
            self._loop.call_later(_WRITING_SECONDS, self._cancel_now)
        else:
            self._cancel_now()

    def _cancel_now(self) -> None:
        if self._task is not None:
            self._task.cancel()


@contextlib.contextmanager
def _ending(admission: Admission, call: _CallContext) -> Iterator[None]:
    """Turn the cancellation of a call that is not trusted any more into its refusal."""
    try:
        yield
    except asyncio.CancelledError:
        if admission.ended is None or call.is_writing:
            raise
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        admission.check()


async def _argument(handler: Any, call: _CallContext, method: str) -> Any:
    if handler.request_streaming:
        return call.messages()
    message = await call.read()
    if message is aio.EOF:
        raise missing_message(method)
    return message


async def _write_all(responses: Any, call: _CallContext) -> None:
    async with contextlib.aclosing(responses):
        async for response in responses:
            await call.write(response)


async def _await(answering: Any, call: _CallContext) -> None:
    del call
    await answering


async def _abort(context: Any, refused: RefusedCallError) -> None:
    if refused.metadata:
        await context.abort(refused.code, refused.details, refused.metadata)
    await context.abort(refused.code, refused.details)


def _is_async(behavior: Any) -> bool:
    return inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior)
