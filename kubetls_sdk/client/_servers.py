# SPDX-License-Identifier: Apache-2.0
"""Which identity a client requires of the server at a URL.

Rules:
    1. Only `https` and `wss`; every other scheme is refused.
    2. A URL without an expected identity is refused. There is no default.
    3. The URL alone decides: neither a Host header nor an SNI override has a say.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Protocol

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.expectation import ServiceName, expected_peer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kubetls_sdk.expectation import ExpectedPeer

__all__ = ("Servers", "Url", "expected_servers")

_SCHEMES = ("https", "wss")
_HTTPS_PORT = 443
_MAX_PORT = 65535
_host_and_port = re.compile(
    r"(?:([\w.-]+)|\[([0-9a-f:.]+)\])(?::(\d{1,5}))?", re.A | re.I
).fullmatch


class Url(Protocol):
    """The parts of a library's URL that decide."""

    @property
    def scheme(self) -> str:
        """Lower case."""
        ...

    @property
    def raw_host(self) -> bytes:
        """ASCII, an IPv6 address without brackets."""
        ...

    @property
    def port(self) -> int | None:
        """None for the default one."""
        ...


class Servers(Protocol):
    """Says who is expected at an origin."""

    def expected(self, url: Url) -> ExpectedPeer:
        """Return whom to require at a URL.

        Raises:
            ConfigurationError: The scheme is not TLS, or nobody is expected there.
        """
        ...


def expected_servers(
    *,
    server: object = None,
    servers: Mapping[str, object] | None = None,
    service_names: bool = False,
) -> Servers:
    """Turn a client's arguments into `Servers`; exactly one of the three must be given.

    Args:
        server: Who every server must be: SPIFFE ID, pattern, several, or an `ExpectedPeer`.
        servers: The same for each `host`, `host:port` or `https://host:port`.
        service_names: Whether a server must carry the DNS name of its URL, vouched for by our own
            trust domain.

    Raises:
        ConfigurationError: None or more than one given, or a key is not a host or origin.
        SpiffeIdError: A text is not a SPIFFE ID or pattern.
    """
    given = [server is not None, servers is not None, bool(service_names)]
    if sum(given) != 1:
        raise ConfigurationError(
            f"expected exactly one of server=, servers= and service_names=True, got {sum(given)}"
        )
    if server is not None:
        return _OneServer(_hashable(expected_peer(server)))
    return _ByOrigin(servers) if servers is not None else _ByServiceName()


class _OneServer:
    def __init__(self, expected: ExpectedPeer) -> None:
        self._expected = expected

    def expected(self, url: Url) -> ExpectedPeer:
        _require_tls(url.scheme)
        return self._expected


class _ByOrigin:
    def __init__(self, servers: Mapping[str, object]) -> None:
        if not servers:
            raise ConfigurationError("expected at least one server, got none")
        pairs = [(_origin(key), _hashable(expected_peer(servers[key]))) for key in servers]
        self._expected = dict(pairs)
        if len(self._expected) != len(pairs):
            raise ConfigurationError(f"expected each server once, got {sorted(servers)!r}")

    def expected(self, url: Url) -> ExpectedPeer:
        _require_tls(url.scheme)
        host, port = url.raw_host.decode("ascii"), url.port
        name = _canonical(host)
        by_port = self._expected.get((name, port or _HTTPS_PORT))
        expected = by_port if by_port is not None else self._expected.get((name, None))
        if expected is None:
            raise ConfigurationError(
                f"expected a server of {_names(self._expected)}, got {host!r} port"
                f" {port or _HTTPS_PORT}: no identity is expected there"
            )
        return expected


class _ByServiceName:
    def expected(self, url: Url) -> ExpectedPeer:
        _require_tls(url.scheme)
        host = url.raw_host.decode("ascii")
        if _is_address(host):
            raise ConfigurationError(f"expected a DNS name of a service in the URL, got {host!r}")
        return ServiceName(_canonical(host))


def _require_tls(scheme: str) -> None:
    if scheme not in _SCHEMES:
        raise ConfigurationError(f"expected an https URL, got {scheme!r}")


def _origin(key: str) -> tuple[str, int | None]:
    """Parse `host`, `host:port`, `[v6]:port` or `https://host[:port]`; port None means any."""
    scheme, separator, rest = key.rpartition("://")
    refusal = ConfigurationError(f"expected host, host:port or https://host:port, got {key!r}")
    matched = _host_and_port(rest)
    if matched is None:
        raise refusal
    host, bracketed, port_text = matched.groups()
    port = int(port_text) if port_text else None
    if (bracketed and not _is_address(bracketed)) or (port is not None and port > _MAX_PORT):
        raise refusal
    host = host or bracketed
    if separator:
        _require_tls(scheme.lower())
        port = port or _HTTPS_PORT
    return _canonical(host), port


def _canonical(host: str) -> str:
    return host.lower().removesuffix(".")


def _names(origins: Iterable[tuple[str, int | None]]) -> str:
    return ", ".join(repr(f"{host}:{port}" if port else host) for host, port in origins)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _hashable(expected: ExpectedPeer) -> ExpectedPeer:
    try:
        hash(expected)
    except TypeError:
        raise ConfigurationError(
            f"expected a hashable ExpectedPeer, since it is part of a pool's key: {expected!r}"
        ) from None
    return expected
