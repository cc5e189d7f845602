# SPDX-License-Identifier: Apache-2.0
"""The xDS resources of a channel, read with the official definitions."""

from __future__ import annotations

import json
import re

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401 - for Any
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext

from kubetls_sdk import ConfigurationError
from kubetls_sdk.client.xds.requirement import Requirement
from kubetls_sdk.client.xds.resources import (
    Endpoint,
    channel_resources,
    endpoint_resources,
    takes_addresses,
)
from kubetls_sdk.client.xds.service_config import ServiceConfig
from kubetls_sdk.client.xds.target import Target
from kubetls_sdk.expectation import ServiceName

ORDERS = "spiffe://example.org/ns/shop/sa/orders"
ONE = (Endpoint("orders.shop.svc", 8443),)
TYPES = {
    f"type.googleapis.com/{kind.DESCRIPTOR.full_name}": kind
    for kind in (Listener, Cluster, ClusterLoadAssignment)
}


def resources(*, endpoints=ONE, server_id=ORDERS, options=()):
    requirement = Requirement.of(server_id)
    made = channel_resources("c1", endpoints, requirement.matchers, ServiceConfig.of(options))
    return [TYPES[kind].FromString(content) for (kind, _), content in made.items()]


def config(**fields):
    return [("grpc.service_config", json.dumps(fields))]


def routes(listener):
    manager = hcm.HttpConnectionManager.FromString(listener.api_listener.api_listener.value)
    [host] = manager.route_config.virtual_hosts
    assert list(host.domains) == ["*"]
    return list(host.routes)


def tls(cluster):
    assert cluster.transport_socket.name == "envoy.transport_sockets.tls"
    return UpstreamTlsContext.FromString(cluster.transport_socket.typed_config.value)


class TestCluster:
    def test_name(self):
        """A DNS name is resolved by gRPC."""
        _, cluster = resources()
        assert cluster.type == Cluster.LOGICAL_DNS
        [locality] = cluster.load_assignment.endpoints
        address = locality.lb_endpoints[0].endpoint.address.socket_address
        assert (address.address, address.port_value) == ("orders.shop.svc", 8443)

    @pytest.mark.parametrize(
        ("server_id", "matching", "others"),
        [
            (ORDERS, [ORDERS], [ORDERS.upper(), ORDERS + "x", "x" + ORDERS, ORDERS[:-1]]),
            (
                "spiffe://a.b/c.d",
                ["spiffe://a.b/c.d"],
                ["spiffe://axb/c.d", "spiffe://a.b/cxd", "spiffe://a.b/c.d\n"],
            ),
            (
                ServiceName("orders.shop.svc"),
                ["orders.shop.svc", "ORDERS.shop.svc"],
                ["*.shop.svc", "orders.shop.svc.", "ordersxshop.svc"],
            ),
        ],
        ids=["spiffe-id", "dots", "dns-name"],
    )
    def test_matchers(self, server_id, matching, others):
        """The certificate has to carry a name that fits as a whole."""
        _, cluster = resources(server_id=server_id)
        [matcher] = tls(cluster).common_tls_context.validation_context.match_subject_alt_names
        assert matcher.WhichOneof("match_pattern") == "safe_regex"
        fits = re.compile(matcher.safe_regex.regex).fullmatch
        assert all(fits(name) for name in matching)
        assert not any(fits(name) for name in others)

    def test_certificates(self):
        """Certificate and roots come from the channel's own provider, and from nowhere else."""
        _, cluster = resources()
        context = tls(cluster).common_tls_context
        validation = context.validation_context
        assert context.tls_certificate_provider_instance.instance_name == "kubetls"
        assert validation.ca_certificate_provider_instance.instance_name == "kubetls"
        assert len(validation.match_subject_alt_names) == 1
        assert {field.name for field, _ in validation.ListFields()} == {
            "match_subject_alt_names",
            "ca_certificate_provider_instance",
        }

    def test_addresses(self):
        """Several addresses, or round robin, are told as addresses."""
        endpoints = (Endpoint("10.0.0.1", 1), Endpoint("::1", 2))
        _, cluster = resources(endpoints=endpoints)
        assert cluster.type == Cluster.EDS
        [policy] = cluster.load_balancing_policy.policies
        assert policy.typed_extension_config.name == "pick_first"
        _, cluster = resources(
            endpoints=endpoints, options=[("grpc.lb_policy_name", "round_robin")]
        )
        assert not cluster.load_balancing_policy.policies
        assert cluster.lb_policy == Cluster.ROUND_ROBIN
        [content] = endpoint_resources("c1", endpoints).values()
        [locality] = ClusterLoadAssignment.FromString(content).endpoints
        found = [each.endpoint.address.socket_address for each in locality.lb_endpoints]
        assert [(each.address, each.port_value) for each in found] == [("10.0.0.1", 1), ("::1", 2)]
        assert takes_addresses(endpoints, ServiceConfig.of([]))


class TestRoutes:
    def test_default(self):
        """Without a service config everything goes to the server as it is."""
        listener, _ = resources()
        [route] = routes(listener)
        assert route.match.prefix == ""
        assert route.route.cluster == "c1"
        assert not route.route.HasField("retry_policy")

    def test_retries_and_timeouts(self):
        """Methods, services and the rest get their own settings, most specific first."""
        retry = {
            "maxAttempts": 3,
            "initialBackoff": "0.1s",
            "maxBackoff": "1.5s",
            "retryableStatusCodes": ["UNAVAILABLE", 8],
        }
        listener, _ = resources(
            options=config(
                methodConfig=[
                    {"name": [{}], "timeout": "5s"},
                    {"name": [{"service": "a.B"}], "timeout": "2s"},
                    {"name": [{"service": "a.B", "method": "C"}], "retryPolicy": retry},
                ]
            )
        )
        method, service, rest, _ = routes(listener)
        assert method.match.path == "/a.B/C"
        policy = method.route.retry_policy
        assert policy.retry_on == "unavailable,resource-exhausted"
        assert policy.num_retries.value == 2
        assert policy.retry_back_off.base_interval.nanos == 100_000_000
        assert policy.retry_back_off.max_interval.seconds == 1
        assert service.match.prefix == "/a.B/"
        assert service.route.max_stream_duration.max_stream_duration.seconds == 2
        assert rest.route.max_stream_duration.max_stream_duration.seconds == 5

    @pytest.mark.parametrize(
        "fields",
        [
            {"retryThrottling": {}},
            {"healthCheckConfig": {}},
            {"loadBalancingConfig": [{"weighted_target": {}}]},
            {"methodConfig": [{"name": [{}], "waitForReady": True}]},
            {"methodConfig": [{"name": [{}], "timeout": "5"}]},
            {"methodConfig": [{"name": [{}], "timeout": "-1s"}]},
            {"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 1}}]},
            {"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2, "x": 1}}]},
            {
                "methodConfig": [
                    {"name": [{}], "retryPolicy": {"maxAttempts": 2, "backoffMultiplier": 3}}
                ]
            },
            {
                "methodConfig": [
                    {
                        "name": [{}],
                        "retryPolicy": {"maxAttempts": 2, "retryableStatusCodes": ["ABORTED"]},
                    }
                ]
            },
        ],
    )
    def test_what_xds_does_not_know(self, fields):
        """Settings that would be lost are refused."""
        with pytest.raises(ConfigurationError):
            ServiceConfig.of(config(**fields))

    @pytest.mark.parametrize("text", ["{", "[]", "1"])
    def test_no_object(self, text):
        """A service config is a JSON object."""
        with pytest.raises(ConfigurationError):
            ServiceConfig.of([("grpc.service_config", text)])


class TestTarget:
    @pytest.mark.parametrize(
        ("text", "endpoints", "authority"),
        [
            ("orders:8443", [("orders", 8443)], "orders:8443"),
            ("orders", [("orders", 443)], "orders"),
            ("dns:orders:1", [("orders", 1)], "orders:1"),
            ("dns:///orders:1", [("orders", 1)], "orders:1"),
            ("dns:8443", [("dns", 8443)], "dns:8443"),
            ("[::1]:80", [("::1", 80)], "[::1]:80"),
            ("ipv4:10.0.0.1:1,10.0.0.2:2", [("10.0.0.1", 1), ("10.0.0.2", 2)], "10.0.0.1:1"),
            ("ipv6:[::1]:1,[::2]:2", [("::1", 1), ("::2", 2)], "[::1]:1"),
        ],
    )
    def test_target(self, text, endpoints, authority):
        """GRPC's spellings are understood."""
        parsed = Target.parse(text)
        assert [(each.host, each.port) for each in parsed.endpoints] == endpoints
        assert parsed.authority == authority

    @pytest.mark.parametrize(
        "text",
        [
            "", "unix:/x", "unix-abstract:x", "xds:///x", "dns://8.8.8.8/x:1", "https://x", "x:0",
            "x:65536", "x:y", "x/y", "a b:1", "ipv4:", "ipv4:1.2.3.4:1,", "::1", "[::1",
            "vsock:1:2",
        ],
    )  # fmt: skip
    def test_refused(self, text):
        """Everything else is refused."""
        with pytest.raises(ConfigurationError):
            Target.parse(text)
