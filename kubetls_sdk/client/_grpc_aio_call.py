# SPDX-License-Identifier: Apache-2.0
"""The callables of an asyncio channel: each call goes to the core channel of its moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc import aio

if TYPE_CHECKING:
    from kubetls_sdk.client._grpc_aio_channel import AsyncChannel, AsyncCore

__all__ = ("StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary")


class _Callable:
    """A method of a service on a channel of ours.

    Args:
        channel: Ours.
        arity: The name of gRPC's maker of such callables.
        args: For that maker.
        kwargs: For that maker.
    """

    def __init__(
        self, channel: AsyncChannel, arity: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._arity = arity
        self._args = args
        self._kwargs = kwargs
        self._made: tuple[AsyncCore | None, Any] = (None, None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start the call."""
        core = self._channel.current()
        made = self._made
        if made[0] is not core:
            make = getattr(core.channel, self._arity)
            made = self._made = (core, make(*self._args, **self._kwargs))
        call = made[1](*args, **kwargs)
        core.calls += 1
        call.add_done_callback(core.leave)
        return call


class UnaryUnary(_Callable, aio.UnaryUnaryMultiCallable[Any, Any]):
    """As of gRPC."""


class UnaryStream(_Callable, aio.UnaryStreamMultiCallable[Any, Any]):
    """As of gRPC."""


class StreamUnary(_Callable, aio.StreamUnaryMultiCallable[Any, Any]):
    """As of gRPC."""


class StreamStream(_Callable, aio.StreamStreamMultiCallable[Any, Any]):
    """As of gRPC."""
