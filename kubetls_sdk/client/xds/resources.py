# SPDX-License-Identifier: Apache-2.0
"""The xDS resources of one channel: where its server is, and who it has to prove to be.

Rules:
    1. A server is verified against one trust domain's bundle, never a union.
    2. Names are compared whole, by regular expressions: what xDS calls an exact match ignores case
       in gRPC, and lets a wildcard in the certificate fit.

Spec: gRFC A27, A29, A44 (retries); Envoy API v3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk.client.xds.protobuf import Value, any_of, message
from kubetls_sdk.client.xds.service_config import PICK_FIRST, ROUND_ROBIN

if TYPE_CHECKING:
    from kubetls_sdk.client.xds.ads import Resource
    from kubetls_sdk.client.xds.service_config import ServiceConfig

__all__ = (
    "PROVIDER",
    "Endpoint",
    "channel_resources",
    "dns_name",
    "endpoint_resources",
    "exact",
    "takes_addresses",
)

PROVIDER = "kubetls"
"""The name of the certificate provider in each channel's own bootstrap."""

_API = "type.googleapis.com/envoy"
_LISTENER = f"{_API}.config.listener.v3.Listener"
_CLUSTER = f"{_API}.config.cluster.v3.Cluster"
_HTTP_MANAGER = (
    f"{_API}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER = f"{_API}.extensions.filters.http.router.v3.Router"
_TLS = f"{_API}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_ENDPOINTS = f"{_API}.config.endpoint.v3.ClusterLoadAssignment"
_PICK_FIRST = f"{_API}.extensions.load_balancing_policies.pick_first.v3.PickFirst"
_LOGICAL_DNS, _EDS = 2, 3
_V3 = 2
_TYPED_PICK_FIRST = message({1: "pick_first", 2: any_of(_PICK_FIRST, {})})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens.

    Attributes:
        host: A DNS name or an IP address without brackets.
        port: The TCP port.
    """

    host: str
    port: int


def exact(name: str) -> bytes:
    """Match a name in the certificate that is exactly this."""
    return _regex(_quoted(name))


def dns_name(name: str) -> bytes:
    """Match a DNS name in the certificate, without case; a wildcard there is no match."""
    return _regex("(?i)" + _quoted(name))


def _regex(pattern: str) -> bytes:
    """Match a whole name by a regular expression of RE2."""
    return message({5: message({1: message({}), 2: pattern})})


def _quoted(name: str) -> str:
    return re.escape(name).replace("\\-", "-").replace("\\/", "/")


def channel_resources(
    name: str,
    endpoints: tuple[Endpoint, ...],
    matchers: tuple[bytes, ...],
    config: ServiceConfig,
) -> dict[Resource, bytes]:
    """Make the resources that a channel with target `xds:///<name>` asks for.

    With one endpoint gRPC resolves its name and takes the first address that answers. With
    several, or with `round_robin`, the endpoints are addresses: see `endpoint_resources`.
    """
    cluster: dict[int, Value] = {1: name, 24: _transport_socket(matchers)}
    if takes_addresses(endpoints, config):
        cluster[2] = _EDS
        cluster[3] = message({1: message({3: b"", 6: _V3})})
        if config.policy == PICK_FIRST:
            cluster[41] = message({1: [message({4: _TYPED_PICK_FIRST})]})
    else:
        cluster[2] = _LOGICAL_DNS
        cluster[33] = _assignment(name, endpoints)
    return {(_LISTENER, name): _listener(name, config), (_CLUSTER, name): message(cluster)}


def takes_addresses(endpoints: tuple[Endpoint, ...], config: ServiceConfig) -> bool:
    """Whether a channel has to be told addresses instead of a name."""
    return len(endpoints) > 1 or config.policy == ROUND_ROBIN


def endpoint_resources(name: str, addresses: tuple[Endpoint, ...]) -> dict[Resource, bytes]:
    """Make the resource that says which addresses a channel's server has now."""
    return {(_ENDPOINTS, name): _assignment(name, addresses)}


def _listener(name: str, config: ServiceConfig) -> bytes:
    routes: list[Value] = [
        message({1: message(match), 2: message({1: name, **action})})
        for match, action in config.routes
    ]
    host = message({1: name, 2: ["*"], 3: routes})
    manager: dict[int, Value] = {
        4: message({1: name, 2: [host]}),
        5: [message({1: "router", 4: any_of(_ROUTER, {})})],
    }
    return message({1: name, 19: message({1: any_of(_HTTP_MANAGER, manager)})})


def _assignment(name: str, endpoints: tuple[Endpoint, ...]) -> bytes:
    found: list[Value] = [
        message({1: message({1: message({1: message({2: each.host, 3: each.port})})})})
        for each in endpoints
    ]
    locality = message({1: message({1: "here"}), 2: found, 3: message({1: 1})})
    return message({1: name, 2: [locality]})


def _transport_socket(matchers: tuple[bytes, ...]) -> bytes:
    provider = message({1: PROVIDER})
    validation = message({13: provider, 9: [*matchers]})
    return message(
        {
            1: "envoy.transport_sockets.tls",
            3: any_of(_TLS, {1: message({3: validation, 14: provider})}),
        }
    )
