# SPDX-License-Identifier: Apache-2.0
"""Response bodies that tell their pool when they have been read or given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import ModuleType

__all__ = ("stream_types",)


class _SyncStream:
    """A response body that tells when it has been read."""

    def __init__(self, stream: Any, finish: Callable[[], None]) -> None:
        self._stream = stream
        self._finish: Callable[[], None] | None = finish

    def __iter__(self) -> Iterator[bytes]:
        iterator: Iterator[bytes] = iter(self._stream)
        return iterator

    def close(self) -> None:
        finish, self._finish = self._finish, None
        try:
            self._stream.close()
        finally:
            if finish is not None:
                finish()


class _AsyncStream:
    """A response body that tells when it has been read."""

    def __init__(self, stream: Any, finish: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._finish: Callable[[], Awaitable[None]] | None = finish

    def __aiter__(self) -> AsyncIterator[bytes]:
        iterator: AsyncIterator[bytes] = self._stream.__aiter__()
        return iterator

    async def aclose(self) -> None:
        finish, self._finish = self._finish, None
        try:
            await self._stream.aclose()
        finally:
            if finish is not None:
                await finish()


_stream_types: dict[str, tuple[Any, Any]] = {}


def stream_types(library: ModuleType) -> tuple[Any, Any]:
    """Our streams as subclasses of the library's, which it insists on."""
    found = _stream_types.get(library.__name__)
    if found is None:
        found = (
            type("SyncStream", (_SyncStream, library.SyncByteStream), {}),
            type("AsyncStream", (_AsyncStream, library.AsyncByteStream), {}),
        )
        _stream_types[library.__name__] = found
    return found
