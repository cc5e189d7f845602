# SPDX-License-Identifier: Apache-2.0
"""Say in the library's own errors who refused whom.

Rules:
    1. A server that we refuse is a `ConnectError` whose `__cause__` is our `PeerError`.
    2. A server that refuses us shows only after the handshake (RFC 8446 §4.4.2), as whatever broke:
       the library's error keeps its type and gains an explanation.
    3. Only the error's own chain counts, not what was being handled when the request was made.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, TypeVar

from kubetls_sdk.exceptions import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("explained",)

_LONGEST_CHAIN = 20  # a chain can be made circular
_E = TypeVar("_E", bound=BaseException)


def explained(
    err: BaseException,
    library: ModuleType,
    *,
    own: SpiffeId,
    has_answered: bool,
    handled: BaseException | None = None,
) -> BaseException:
    """Return the error to raise instead of a library's transport error, or the error itself.

    Args:
        err: What a request ended with before there was a response.
        library: `httpx` or `httpx2`.
        own: The SPIFFE ID that we presented.
        has_answered: Whether the origin has answered an earlier request under this generation; if
            so, it has accepted us.
        handled: What was being handled when the request was made; no part of its story.
    """
    refused = _first(PeerError, err, handled)
    if refused is not None:
        to_raise: BaseException = library.ConnectError(str(refused))
        return _because(to_raise, refused)
    broken: tuple[type[BaseException], ...] = (library.RemoteProtocolError, library.NetworkError)
    if not isinstance(err, broken) or isinstance(err, library.ConnectError):
        return err
    alert = _first(ssl.SSLError, err, handled)
    if alert is not None and "ALERT" in (alert.reason or ""):
        reason = f"the server refused our SPIFFE ID {str(own)!r} with a TLS alert: {alert.reason}"
        return _because(type(err)(reason), err)
    if has_answered:
        return err
    reason = (
        "the server closed the connection right after the handshake; it probably refused our"
        f" SPIFFE ID {str(own)!r}, its log says why: {err}"
    )
    return _because(type(err)(reason), err)


def _because(err: BaseException, cause: BaseException) -> BaseException:
    err.__cause__ = cause
    return err


def _first(kind: type[_E], err: BaseException, handled: BaseException | None) -> _E | None:
    return next((each for each in _chain(err, handled) if isinstance(each, kind)), None)


def _chain(err: BaseException | None, handled: BaseException | None) -> Iterator[BaseException]:
    """Walk from an error to what caused it.

    The pools of httpcore write `raise err from None` for an error that they pass on, which hides
    its cause but keeps it as the context.
    """
    seen = 0
    while err is not None and err is not handled and seen < _LONGEST_CHAIN:
        yield err
        hidden = err.__context__ if err.__suppress_context__ else None
        err = err.__cause__ if err.__cause__ is not None else hidden
        seen += 1
