# SPDX-License-Identifier: Apache-2.0
"""What a call to the API server can end in.

    WebhookError
    └── ApiError                  .status .reason .retry_after .is_retryable
        ├── ForbiddenError        403: RBAC or an admission policy
        ├── NotFoundError         404
        ├── ConflictError         409: the object has changed since it was read
        ├── AlreadyExistsError    409: the name is taken
        ├── GoneError             410: the resource version or continue token is too old
        ├── InvalidError          422, or a name that is none (never sent)
        └── UnreachableError      no answer: refused, timed out, broken off (status 0)

Rules:
    1. What the API server said about a Secret is never repeated: its validation quotes values.
    2. Text of the API server is cut and stripped of control characters before it is a message.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from webhook.exceptions import WebhookError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "AlreadyExistsError",
    "ApiError",
    "ConflictError",
    "ForbiddenError",
    "GoneError",
    "InvalidError",
    "NotFoundError",
    "UnreachableError",
    "error_of",
)

_MAX_MESSAGE: Final = 600
_REFUSED_BEFORE_WORK: Final = 429
_TRANSIENT: Final = frozenset({0, 408, 429, 500, 502, 503, 504})


class ApiError(WebhookError):
    """The API server refused a request, or did not answer it.

    Attributes:
        status: HTTP status; 0 without an answer.
        reason: Kubernetes' reason in CamelCase, such as `Forbidden`; may be empty.
        retry_after: Seconds that the API server asks to wait, if it did.
    """

    default_status = 0
    default_reason = ""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = self.default_status if status is None else status
        self.reason = self.default_reason if reason is None else reason
        self.retry_after = retry_after

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later, without a change by anybody."""
        return self.status in _TRANSIENT

    @property
    def was_refused_unread(self) -> bool:
        """Whether the API server did nothing but ask to come again, so any request may be repeated.

        Spec: client-go's retry rule: 429, or a 5xx with Retry-After.
        """
        asked = self.retry_after is not None and self.status >= 500
        return self.status == _REFUSED_BEFORE_WORK or asked


class ForbiddenError(ApiError):
    """RBAC or an admission policy forbids it."""

    default_status, default_reason = 403, "Forbidden"


class NotFoundError(ApiError):
    """There is no such object, or the API server does not serve its kind."""

    default_status, default_reason = 404, "NotFound"


class ConflictError(ApiError):
    """The object has changed since it was read, or is not the one that was meant (UID)."""

    default_status, default_reason = 409, "Conflict"


class AlreadyExistsError(ApiError):
    """An object of this name exists."""

    default_status, default_reason = 409, "AlreadyExists"


class GoneError(ApiError):
    """The resource version or continue token is too old: list again."""

    default_status, default_reason = 410, "Expired"


class InvalidError(ApiError):
    """The object breaks the API's rules; it will do so again."""

    default_status, default_reason = 422, "Invalid"


class UnreachableError(ApiError):
    """No answer, or half of one; whether the request was carried out is not known."""


_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


def error_of(
    status: int,
    answer: Mapping[str, Any] | bytes,
    *,
    what: str,
    quiet: bool = False,
    retry_after: float | None = None,
) -> ApiError:
    """Make the error of an API server's answer.

    Args:
        status: HTTP status, or the code in a watch's ERROR event.
        answer: A `Status` object, as bytes or parsed; anything else counts as without a reason.
        what: The request, such as `get pods shop/web`.
        quiet: Leave out the server's words, which may quote the object (Secrets).
        retry_after: Seconds, from the header.
    """
    said = _status_object(answer)
    reason = str(said.get("reason") or "")[:100]
    details = said.get("details")
    asked = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    if retry_after is None and isinstance(asked, int) and asked > 0:
        retry_after = float(asked)
    words = _fields(details) if quiet else _printable(str(said.get("message") or ""))
    message = f"{what}: {status} {reason}".rstrip() + (f": {words}" if words else "")
    kind = AlreadyExistsError if reason == "AlreadyExists" else _BY_STATUS.get(status, ApiError)
    return kind(message, status=status, reason=reason, retry_after=retry_after)


def _status_object(answer: Mapping[str, Any] | bytes) -> Mapping[str, Any]:
    if isinstance(answer, bytes):
        try:
            answer = json.loads(answer)
        except ValueError:
            return {}
    if isinstance(answer, dict) and answer.get("kind") == "Status":
        return answer
    return {}


def _fields(details: Any) -> str:
    """Name the fields that were refused, without their values."""
    causes = details.get("causes") if isinstance(details, dict) else None
    fields = (str(cause.get("field") or "") for cause in causes or () if isinstance(cause, dict))
    return _printable(", ".join(filter(None, fields)))


def _printable(text: str) -> str:
    shown = text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "…"
    return "".join(character if character.isprintable() else " " for character in shown)
