# SPDX-License-Identifier: Apache-2.0
"""gRPC's spelling of where a server is.

Spec: gRPC Name Resolution.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubetls_sdk.client.xds.resources import Endpoint
from kubetls_sdk.exceptions import ConfigurationError

__all__ = ("Target",)

_HTTPS_PORT = 443
_MAX_PORT = 65535
_host_port = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?").fullmatch


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is.

    Attributes:
        endpoints: One DNS name, or one or more addresses.
        authority: What calls name as `:authority` by default.
    """

    endpoints: tuple[Endpoint, ...]
    authority: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse `host:port`, `dns:///host:port`, or `ipv4:` and `ipv6:` with several addresses.

        Raises:
            ConfigurationError: Another scheme, or none of these.
        """
        scheme, rest = _split(text)
        if scheme == "dns":
            return cls((_endpoint(rest, text),), rest)
        return cls(tuple(_endpoint(part, text) for part in rest.split(",")), rest.split(",")[0])


def _split(text: str) -> tuple[str, str]:
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("dns", "ipv4", "ipv6") and not rest.isdecimal():
        if rest.startswith("//") and not rest.startswith("///"):
            raise ConfigurationError(f"expected no DNS server of its own in a target, got {text!r}")
        return scheme, rest.removeprefix("///").removeprefix("/")
    if "/" in text or (scheme in ("unix", "unix-abstract", "xds", "vsock") and colon):
        raise ConfigurationError(f"expected a host and port, dns:, ipv4: or ipv6:, got {text!r}")
    return "dns", text


def _endpoint(text: str, target: str) -> Endpoint:
    matched = _host_port(text)
    port = int(matched[3]) if matched and matched[3] else _HTTPS_PORT
    if matched is None or not 0 < port <= _MAX_PORT:
        raise ConfigurationError(f"expected a host and port, got {target!r}")
    return Endpoint(matched[1] or matched[2], port)
