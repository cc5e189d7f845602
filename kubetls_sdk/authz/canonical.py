# SPDX-License-Identifier: Apache-2.0
r"""Refuses requests that two parsers could understand differently, before any policy is asked.

Rules:
    1. Pure: the answer is a reason for the server's log, or None. The request gets 400.
    2. What the policy decides on (`path`) is exactly the decoded form of what was sent
       (`raw_path`); without `raw_path` nothing is certain, so the request is refused.
    3. Percent-encoding is fine for ordinary characters; never for `/`, `\`, dots that make a dot
       segment, `;`, `?`, `#`, `%` or control characters.

Spec: RFC 9112 §3.2 (request target), RFC 3986 §6.2.2; the CVEs are listed in its tests.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

__all__ = ("refusal",)

MAX_PATH_BYTES = 8192

_ORDINARY = b"/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~@:!$&'()*+,=.-"
_METHOD = re.compile(r"[A-Z]{1,32}", re.ASCII)
_WIRE = re.compile(rb"[A-Za-z0-9._~!$&'()*+,=:@/%-]+")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_FORBIDDEN_ESCAPE = re.compile(rb"%(?:2[fF]|5[cC]|3[bBfF]|2[35]|[01][0-9a-fA-F]|7[fF])")
_COMMON_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "websocket", "grpc"}
)


def refusal(
    method: str, path: str, raw_path: bytes | None, host_count: int = 1, *, parameters: bool = False
) -> str | None:
    """Say why a request is not canonical.

    Args:
        method: As sent; pseudo-methods of `kubetls_sdk.authz.details` are fine.
        path: The decoded path that the application routes on.
        raw_path: The path as sent, without the query; None when the server does not tell.
        host_count: How many `Host` header fields (or `:authority`) the request has.
        parameters: Whether `;` is an ordinary character in this application's paths.

    Returns:
        The reason to refuse, None for a canonical request.
    """
    if raw_path is None:
        return "the server does not tell the raw path"
    if (  # The quick way of most requests: nothing is encoded, and no segment starts with a dot.
        raw_path
        and host_count == 1
        and method in _COMMON_METHODS
        and not raw_path.translate(None, _ORDINARY)
        and raw_path[0] == 0x2F
        and raw_path.decode() == path
        and "//" not in path
        and "/." not in path
        and len(path) <= MAX_PATH_BYTES
    ):
        return None
    return (
        _about_method(method, host_count)
        or _about_wire(raw_path, parameters=parameters)
        or _about_path(path, raw_path)
    )


def _about_method(method: str, host_count: int) -> str | None:
    if host_count > 1:
        return "more than one Host"
    if method not in _COMMON_METHODS and not _METHOD.fullmatch(method):
        return "the method is not upper-case letters"
    return "CONNECT has no path" if method == "CONNECT" else None


def _about_wire(raw_path: bytes, *, parameters: bool) -> str | None:
    if len(raw_path) > MAX_PATH_BYTES:
        return "the path is too long"
    if not raw_path.startswith(b"/"):
        return "the path does not start with '/'"
    if parameters:
        raw_path = raw_path.replace(b";", b"")
    if not _WIRE.fullmatch(raw_path):
        return "a character in the path that has to be encoded, or a fragment, parameter or query"
    if len(_ESCAPE.findall(raw_path)) != raw_path.count(b"%"):
        return "a broken percent-encoding in the path"
    if _FORBIDDEN_ESCAPE.search(raw_path):
        return "an encoded slash, backslash, delimiter or control character in the path"
    return None


def _about_path(path: str, raw_path: bytes) -> str | None:
    try:
        decoded = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        return "the path is not UTF-8"
    if decoded != path:
        return "the path is not the decoded raw path"
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in path) or "\ufffd" in path:
        return "a control or replacement character in the path"
    segments = path.split("/")[1:]
    if "" in segments[:-1]:
        return "an empty segment in the path"
    if "." in segments or ".." in segments:
        return "a dot segment in the path"
    return None
