# SPDX-License-Identifier: Apache-2.0
"""Attributes: the names that conditions may use, and how their values are read.

Rules:
    1. An attribute yields a tuple of values; the empty tuple is "missing".
    2. Security headers are not attributes: they are forged, hop-by-hop, or checked elsewhere.
    3. A source that is no IP address is missing. A host of the wrong shape is there, but unknown
       (None): nobody can say which host a router takes it for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.details import GRPC, WEBSOCKET
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.authz.request import Request

__all__ = ("ROOTS", "Attribute", "Network", "check_header", "host_only", "values_of")

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WIRE_METHODS = {"HEAD": "GET", WEBSOCKET: "GET", GRPC: "POST"}
"""What is also that other method: a deny rule matches on either, an allow rule needs both."""

_HEADER = re.compile(r"[a-z0-9!#$&'*+.^_`|~-]+", re.ASCII)
_AUTHORITY = re.compile(r"(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]*)?", re.ASCII | re.IGNORECASE)
_REFUSED_HEADERS = frozenset(
    {
        "authorization", "connection", "content-length", "cookie", "forwarded", "host",
        "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "via", "x-real-ip",
        "dpop", "txn-token",
    }
)  # fmt: skip
_REFUSED_PREFIXES = (
    ":", "grpc-", "x-forwarded-", "x-spiffe-", "x-envoy-", "sec-", "ssl-client-", "client-cert",
    "x-client-cert",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Network:
    """A CIDR block; IPv4 addresses mapped into IPv6 count as IPv4."""

    block: ipaddress.IPv4Network | ipaddress.IPv6Network

    def covers(self, value: object) -> bool | None:
        """Tell whether an address is in the block; None when it is no address."""
        if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return value in self.block
        return None

    def __str__(self) -> str:
        return str(self.block)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A dotted name, `root.name.name`.

    Attributes:
        root: One of `ROOTS`.
        names: The rest.
    """

    root: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.root, *self.names))


def check_header(name: str) -> None:
    """Refuse a header that no rule may look at.

    Raises:
        ConfigurationError: A security, hop-by-hop or pseudo header, or not a lower-case name.
    """
    if not _HEADER.fullmatch(name):
        raise ConfigurationError(f"expected a header name in lower case, got {name!r}")
    spelled = name.replace("_", "-")
    if spelled in _REFUSED_HEADERS or spelled.startswith(_REFUSED_PREFIXES):
        raise ConfigurationError(
            f"expected a header that no proxy, browser or protocol sets, got {name!r}"
        )


def host_only(authority: str) -> str:
    """Take the host out of `host:port`, in lower case and without a trailing dot."""
    host = authority
    if authority.startswith("["):
        host = authority.partition("]")[0] + "]"
    elif authority.count(":") == 1:
        host = authority.partition(":")[0]
    return host.lower().removesuffix(".")


def values_of(attribute: Attribute, request: Request) -> tuple[Any, ...]:
    """Read all values of an attribute; an empty tuple when it is missing."""
    return ROOTS[attribute.root](attribute.names, request)


def _nested(value: object, names: tuple[str, ...]) -> tuple[Any, ...]:
    for name in names:
        if not isinstance(value, Mapping) or name not in value:
            return ()
        value = value[name]
    return () if value is None or value == "" else (value,)


def _user(names: tuple[str, ...], request: Request) -> tuple[Any, ...]:
    return _nested(request.details.user, names)


def _resource(names: tuple[str, ...], request: Request) -> tuple[Any, ...]:
    return _nested(request.details.resource, names)


def _path(names: tuple[str, ...], request: Request) -> tuple[Any, ...]:
    return tuple(value for name, value in request.variables if name == names[0] and value)


def _header(names: tuple[str, ...], request: Request) -> tuple[Any, ...]:
    wanted = names[0].encode()
    values = [value for name, value in request.details.headers if name.lower() == wanted]
    return () if b"" in values and len(values) == 1 else tuple(v.decode("latin-1") for v in values)


def _source(names: tuple[str, ...], request: Request) -> tuple[Any, ...]:
    try:
        address = ipaddress.ip_address(request.details.source or "")
    except ValueError:
        return ()
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address,)


def _host(authority: str) -> tuple[str | None, ...]:
    if not authority:
        return ()
    return (host_only(authority) if _AUTHORITY.fullmatch(authority) else None,)


def _request(names: tuple[str, ...], request: Request) -> tuple[Any, ...]:
    if names[0] == "host":
        return _host(request.details.host or "")
    if names[0] == "port":
        return () if request.details.port is None else (request.details.port,)
    if names[0] == "path":
        return (request.path,)
    method = request.method
    return (method, _WIRE_METHODS[method]) if method in _WIRE_METHODS else (method,)


def _time(names: tuple[str, ...], request: Request) -> tuple[Any, ...]:
    now = request.details.now
    if now is None or now.tzinfo is None:
        return ()
    return (_CLOCKS[names[0]](now.astimezone(UTC)),)


def _forwarded(names: tuple[str, ...], request: Request) -> tuple[Any, ...]:
    client = request.details.forwarded
    if client is None:
        return ()
    return (str(client if names[0] == "spiffeId" else client.trust_domain),)


_CLOCKS: Mapping[str, Callable[[datetime], object]] = {
    "now": lambda now: now,
    "clock": lambda now: now.time().replace(tzinfo=None),
    "weekday": lambda now: WEEKDAYS[now.weekday()],
}

ROOTS: Mapping[str, Callable[[tuple[str, ...], Request], tuple[Any, ...]]] = {
    "user": _user,
    "resource": _resource,
    "path": _path,
    "header": _header,
    "source": _source,
    "request": _request,
    "time": _time,
    "forwarded": _forwarded,
}
