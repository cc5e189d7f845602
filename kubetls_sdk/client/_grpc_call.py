# SPDX-License-Identifier: Apache-2.0
"""The callables of a threaded channel: each call goes to the core channel of its moment.

Rules:
    1. A call ends on the core channel that it began on, across rotations.
    2. gRPC's own callables do the work; these count who uses which core channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.client._grpc_channel import Channel
    from kubetls_sdk.client._grpc_threaded_core import ThreadedCore

__all__ = ("StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary")


class _Callable:
    """A method of a service on a channel of ours.

    Args:
        channel: Ours.
        arity: The name of gRPC's maker of such callables.
        arguments: For that maker.
    """

    def __init__(self, channel: Channel, arity: str, arguments: tuple[Any, ...]) -> None:
        self._channel = channel
        self._arity = arity
        self._arguments = arguments
        self._made: tuple[ThreadedCore | None, Any] = (None, None)

    def _enter(self, token: object) -> tuple[ThreadedCore, Any]:
        """Begin a call: the core channel, which the call has to leave, and gRPC's callable."""
        core = self._channel.enter(token)
        made = self._made
        if made[0] is core:
            return core, made[1]
        try:
            make: Callable[..., Any] = getattr(core.channel, self._arity)
            self._made = (core, make(*self._arguments))
        except BaseException:
            core.leave(token)
            raise
        return core, self._made[1]

    def _await(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        token = object()
        core, call = self._enter(token)
        try:
            answer = getattr(call, method)(*args, **kwargs)
            core.works = True
        except grpc.RpcError as err:
            core.note(err)
            raise
        finally:
            core.leave(token)
        return answer

    def _start(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        token = object()
        core, call = self._enter(token)
        try:
            running = getattr(call, method)(*args, **kwargs)
        except BaseException:
            core.leave(token)
            raise

        def leave() -> None:
            core.note(running)
            core.leave(token)

        if not running.add_callback(leave):
            leave()
        return running


class UnaryUnary(_Callable, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """As of gRPC."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call and wait."""
        token = object()
        core, call = self._enter(token)
        try:
            answer = call(*args, **kwargs)
            core.works = True
        except grpc.RpcError as err:
            core.note(err)
            raise
        finally:
            core.leave(token)
        return answer

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call and wait, also for the call itself."""
        return self._await("with_call", args, kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        """Call without waiting."""
        return self._start("future", args, kwargs)


class StreamUnary(_Callable, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """As of gRPC."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call and wait."""
        return self._await("__call__", args, kwargs)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call and wait, also for the call itself."""
        return self._await("with_call", args, kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        """Call without waiting."""
        return self._start("future", args, kwargs)


class UnaryStream(_Callable, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """As of gRPC."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start the call."""
        return self._start("__call__", args, kwargs)


class StreamStream(_Callable, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """As of gRPC."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start the call."""
        return self._start("__call__", args, kwargs)
