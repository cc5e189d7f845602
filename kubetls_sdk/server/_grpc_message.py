# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a request to the message that the application gets, and what can be wrong.

The statuses and their texts are gRPC's own, so that clients see no difference.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import grpc

from kubetls_sdk.server._grpc_entry import RefusedCallError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("behavior_of", "deserialize", "missing_message", "unknown_method")

_log = logging.getLogger(__name__)


def deserialize(raw: bytes, deserializer: Callable[[bytes], Any] | None) -> Any:
    """Make the message of a request.

    Raises:
        RefusedCallError: The bytes are not one.
    """
    if deserializer is None:
        return raw
    try:
        return deserializer(raw)
    except Exception as err:  # a deserializer is foreign code, fed by the peer
        _log.warning("a request could not be deserialized: %s", type(err).__name__)
        raise RefusedCallError(
            grpc.StatusCode.INTERNAL, "Exception deserializing request!"
        ) from err


def missing_message(method: str) -> RefusedCallError:
    """The answer to a call that ended without the one request that it needs."""
    return RefusedCallError(
        grpc.StatusCode.UNIMPLEMENTED, f'"{method}" requires exactly one request message.'
    )


def unknown_method() -> RefusedCallError:
    """The answer to an admitted call of a method that does not exist."""
    return RefusedCallError(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def behavior_of(handler: Any) -> Callable[..., Any]:
    """The application's function behind a handler."""
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    behavior: Callable[..., Any] = getattr(handler, f"{request}_{response}")
    return behavior
