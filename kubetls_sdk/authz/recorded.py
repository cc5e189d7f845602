# SPDX-License-Identifier: Apache-2.0
"""A request written down: in a case table, a recording or on a command line.

Rules:
    1. Unknown fields are errors, since a request that is read half decides something else.
    2. The caller is a SPIFFE ID or the word `anonymous`; it is never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from kubetls_sdk.authz.canonical import refusal
from kubetls_sdk.authz.details import ACTION, GRPC, WEBSOCKET, RequestDetails
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("ANONYMOUS", "RecordedRequest")

ANONYMOUS = "anonymous"
_FIELDS = frozenset(
    {
        "from", "method", "path", "user", "resource", "headers", "host", "port", "source", "now",
        "forwarded",
    }
)  # fmt: skip
_PSEUDO = {"WEBSOCKET": WEBSOCKET, "GRPC": GRPC, "ACTION": ACTION}


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """What `PolicySet.decide` is asked with.

    Attributes:
        caller: None for the anonymous one.
        method: HTTP method or pseudo-method.
        path: The decoded path.
        details: The rest.
    """

    caller: SpiffeId | None
    method: str
    path: str
    details: RequestDetails

    def refusal(self) -> str | None:
        """Why the request gets 400 before any policy; None when it does not."""
        if self.method == ACTION:
            return None
        raw_path = quote(self.path, safe="/~!$&'()*+,=:@").encode()
        return refusal(self.method, self.path, raw_path)

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> RecordedRequest:
        """Read `from`, `method` (or WEBSOCKET, GRPC, ACTION), `path` and the optional rest.

        Raises:
            ConfigurationError: A field is missing, unknown or of the wrong type.
            SpiffeIdError: `from` or `forwarded` is not a SPIFFE ID.
        """
        unknown = fields.keys() - _FIELDS
        if unknown:
            raise ConfigurationError(f"unknown field {min(unknown)!r} of a request")
        caller, path = _text(fields, "from"), _text(fields, "path")
        method = _text(fields, "method")
        return cls(
            None if caller == ANONYMOUS else SpiffeId.parse(caller),
            _PSEUDO.get(method, method),
            path,
            _details(fields),
        )


def _details(fields: Mapping[str, Any]) -> RequestDetails:
    headers = _mapping(fields, "headers") or {}
    now = fields.get("now")
    forwarded = _optional(fields, "forwarded")
    port = fields.get("port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int)):
        raise ConfigurationError(f"expected port to be a number, got {port!r}")
    return RequestDetails(
        host=_optional(fields, "host"),
        port=port,
        source=_optional(fields, "source"),
        headers=tuple(_headers(headers)),
        user=_mapping(fields, "user"),
        resource=_mapping(fields, "resource"),
        now=None if now is None else _instant(now),
        forwarded=None if forwarded is None else SpiffeId.parse(forwarded),
    )


def _headers(fields: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    found = []
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        found += [(name.lower().encode(), str(each).encode("latin-1")) for each in values]
    return found


def _instant(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigurationError(f"expected now like '2026-12-31T18:00:00Z', got {value!r}")
    return moment


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"expected {name} of the request as text, got {value!r}")
    return value


def _optional(fields: Mapping[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)


def _mapping(fields: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(f"expected {name} of the request as a mapping, got {value!r}")
    return value
