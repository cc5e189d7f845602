# SPDX-License-Identifier: Apache-2.0
"""Which status the kubelet gets for an error, and what it reads.

Rules:
    1. A status says whether it is worth trying again: the kubelet unpublishes later what was
       UNAVAILABLE, ABORTED, RESOURCE_EXHAUSTED or late, and forgets what failed otherwise.
    2. The text names the cause, for it becomes an Event of the pod; no mistake of ours is quoted.

Spec: CSI 1.13, "Error Scheme", NodePublishVolume Errors.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from typing import TYPE_CHECKING, Final

from grpc import StatusCode

from kubetls_sdk.exceptions import KubeTLSError
from webhook.api.errors import ApiError, ForbiddenError
from webhook.exceptions import IssuanceError
from webhook.node.operations import ConflictingPublication, InterruptedOperation
from webhook.node.publication import InvalidPublication
from webhook.node.target import TargetError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from grpc.aio import ServicerContext

__all__ = ("refusals", "status_of")

_log = logging.getLogger(__name__)

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_STATUSES: Final[tuple[tuple[type[Exception], StatusCode], ...]] = (
    (InvalidPublication, StatusCode.INVALID_ARGUMENT),
    (InterruptedOperation, StatusCode.ABORTED),
    (TargetError, StatusCode.FAILED_PRECONDITION),
    (ForbiddenError, StatusCode.PERMISSION_DENIED),
    (ApiError, StatusCode.UNAVAILABLE),
    (TimeoutError, StatusCode.DEADLINE_EXCEEDED),
)


def status_of(error: Exception) -> StatusCode:
    """The status of an error."""
    if isinstance(error, ConflictingPublication):
        elsewhere = error.is_elsewhere
        return StatusCode.FAILED_PRECONDITION if elsewhere else StatusCode.ALREADY_EXISTS
    if isinstance(error, IssuanceError):
        return StatusCode.UNAVAILABLE if error.is_retryable else StatusCode.FAILED_PRECONDITION
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    if isinstance(error, OSError) and error.errno in _FULL:
        return StatusCode.RESOURCE_EXHAUSTED
    return StatusCode.INTERNAL


@contextlib.asynccontextmanager
async def refusals(context: ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """End a call with the status of what the block raises."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the outermost loop of a call
        await context.abort(status_of(error), _text(error))


def _text(error: Exception) -> str:
    if isinstance(error, (KubeTLSError, OSError)):
        return str(error) or "it took too long: the driver's log names what it waited for"
    _log.exception("a call of the kubelet fails by a mistake of ours", exc_info=error)
    return "a mistake of the driver, see its log"
