# SPDX-License-Identifier: Apache-2.0
"""Serves the methods of a threaded gRPC server, and the threaded methods of an asyncio one.

Rules:
    1. Every method is served as one that takes a stream of bytes, so that a call is refused before
       its first message is read, whether or not one ever comes.
    2. Deserializing is done here, after the admission; serializing stays with gRPC.
    3. A stream is checked at each message and looked after in between; a single answer is checked
       before it is sent.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from kubetls_sdk.server._grpc_admission import Admission
from kubetls_sdk.server._grpc_details import harmless
from kubetls_sdk.server._grpc_entry import RefusedCallError
from kubetls_sdk.server._grpc_gate import Door
from kubetls_sdk.server._grpc_message import (
    behavior_of,
    deserialize,
    missing_message,
    unknown_method,
)
from kubetls_sdk.server._grpc_peer import presented_by, presented_to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubetls_sdk.server._grpc_entry import Entry
    from kubetls_sdk.server._grpc_gate import Gate
    from kubetls_sdk.server._grpc_streams import StreamWatch

__all__ = ("ThreadedCalls", "watched")

_KEPT = ("experimental_non_blocking", "experimental_thread_pool")


class ThreadedCalls:
    """Wraps the handlers of one server.

    Args:
        gate: Decides.
        watch: Looks after streams.
        calls_back: Whether the server knows gRPC's experimental methods that answer by a callback;
            only threaded servers do.
    """

    def __init__(self, gate: Gate, watch: StreamWatch, *, calls_back: bool = True) -> None:
        self._gate = gate
        self._watch = watch
        self._calls_back = calls_back

    def wrap(self, handler: Any, method: str) -> Any:
        """Make the handler that serves a method; None stands for one that does not exist."""
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(self._unknown(method))
        behavior = behavior_of(handler)
        if not handler.response_streaming:
            serve, make = self._unary(handler, method), grpc.stream_unary_rpc_method_handler
        elif self._calls_back and getattr(behavior, "experimental_non_blocking", False):
            serve, make = self._calling_back(handler, method), grpc.stream_stream_rpc_method_handler
        else:
            serve, make = self._streaming(handler, method), grpc.stream_stream_rpc_method_handler
        for name in _KEPT:  # gRPC asks the function how to run it.
            if hasattr(behavior, name):
                setattr(serve, name, getattr(behavior, name))
        return make(serve, None, handler.response_serializer)

    def _door(self, method: str) -> Callable[[Any], Entry]:
        reader = presented_to_thread if self._calls_back else presented_by
        return Door(self._gate, method, reader).admit

    def _unary(self, handler: Any, method: str) -> Callable[..., Any]:
        if handler.request_streaming:
            return self._collecting(handler, method)
        behavior, admit, check = (
            behavior_of(handler),
            self._door(method),
            self._gate.check,
        )
        deserializer = handler.request_deserializer

        def serve(requests: Iterator[bytes], context: Any) -> Any:
            try:
                entry = admit(context)
                raw = next(requests, None)
                if raw is None:
                    raise missing_message(method)
                request = deserialize(raw, deserializer)
                response = behavior(request, _with_entry(context, entry))
                check(entry, context)
            except RefusedCallError as refused:
                return _abort(context, refused)
            return response

        return serve

    def _collecting(self, handler: Any, method: str) -> Callable[..., Any]:
        behavior, admit = behavior_of(handler), self._door(method)

        def serve(requests: Iterator[bytes], context: Any) -> Any:
            with _answering(context):
                entry = admit(context)
                admission = Admission(entry, context)
                argument = _argument(handler, requests, admission, method)
                with watched(self._watch, _ThreadedStream(admission, context)):
                    response = behavior(argument, _with_entry(context, entry))
                admission.check()
                return response

        return serve

    def _streaming(self, handler: Any, method: str) -> Callable[..., Any]:
        behavior, admit = behavior_of(handler), self._door(method)

        # A generator, since an asyncio server calls this in its event loop and iterates elsewhere.
        def serve(requests: Iterator[bytes], context: Any) -> Iterator[Any]:
            with _answering(context):
                entry = admit(context)
                admission = Admission(entry, context)
                argument = _argument(handler, requests, admission, method)
                with watched(self._watch, _ThreadedStream(admission, context)):
                    for response in behavior(argument, _with_entry(context, entry)):
                        admission.check()
                        yield response

        return serve

    def _calling_back(self, handler: Any, method: str) -> Callable[..., Any]:
        """Serve gRPC's experimental kind of method, which returns before it has answered."""
        behavior, admit = behavior_of(handler), self._door(method)

        def serve(requests: Iterator[bytes], context: Any, send: Callable[[Any], None]) -> None:
            with _answering(context):
                entry = admit(context)
                admission = Admission(entry, context)
                argument = _argument(handler, requests, admission, method)
                stream = _ThreadedStream(admission, context)
                self._watch.add(stream)
                if not context.add_callback(lambda: self._watch.discard(stream)):
                    self._watch.discard(stream)
                behavior(argument, _with_entry(context, entry), send)

        return serve

    def _unknown(self, method: str) -> Callable[..., Any]:
        admit = self._door(method)

        def serve(requests: Iterator[bytes], context: Any) -> None:
            del requests
            with _answering(context):
                admit(context)
                raise unknown_method()

        return serve


class _ThreadedStream:
    """Implements `Stream`: one tick of the watch to end by itself, then it is cancelled."""

    ends_at_once = False

    def __init__(self, admission: Admission, context: Any) -> None:
        self.admission = admission
        self._context = context

    def end(self) -> None:
        # A threaded method of an asyncio server cannot be cancelled; it ends at its next message.
        cancel = getattr(self._context, "cancel", None)
        if cancel is not None:
            cancel()


class _Messages:
    """The messages of a streaming request."""

    def __init__(self, requests: Iterator[bytes], deserializer: Any, admission: Admission) -> None:
        self._requests = requests
        self._deserializer = deserializer
        self._admission = admission

    def __iter__(self) -> _Messages:
        return self

    def __next__(self) -> Any:
        raw = next(self._requests)
        self._admission.check()
        return deserialize(raw, self._deserializer)

    next = __next__


class _ContextWithEntry:
    """A servicer context whose type takes no attributes, and the entry beside it."""

    def __init__(self, context: Any, entry: Entry) -> None:
        self._context = context
        self.kubetls_entry = entry

    def invocation_metadata(self) -> Any:
        """What came with the call, without claims of identity."""
        return harmless(self._context.invocation_metadata())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _argument(handler: Any, requests: Iterator[bytes], admission: Admission, method: str) -> Any:
    if handler.request_streaming:
        return _Messages(requests, handler.request_deserializer, admission)
    raw = next(requests, None)
    if raw is None:
        raise missing_message(method)
    return deserialize(raw, handler.request_deserializer)


def _with_entry(context: Any, entry: Entry) -> Any:
    try:
        context.kubetls_entry = entry
        found = context.invocation_metadata()
        kept = harmless(found)
        if len(kept) != len(found or ()):
            context.invocation_metadata = lambda: kept
    except AttributeError:
        return _ContextWithEntry(context, entry)
    return context


def _abort(context: Any, refused: RefusedCallError) -> NoReturn:
    """Answer a call that is refused, by the error that gRPC wants for it."""
    if refused.metadata:
        context.set_trailing_metadata(refused.metadata)
    context.abort(refused.code, refused.details)
    raise refused


@contextlib.contextmanager
def _answering(context: Any) -> Iterator[None]:
    try:
        yield
    except RefusedCallError as refused:
        _abort(context, refused)


@contextlib.contextmanager
def watched(watch: StreamWatch, stream: Any) -> Iterator[None]:
    """Let a stream be looked after while it runs."""
    watch.add(stream)
    try:
        yield
    finally:
        watch.discard(stream)
