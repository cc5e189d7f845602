# SPDX-License-Identifier: Apache-2.0
"""`kubetls serve`: uvicorn's familiar command, over mutual TLS and with a policy."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from kubetls_sdk.cli.implementation import check_implementations
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.edge import Edge
from kubetls_sdk.server.forwarded import ForwardedFrom
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.server.probes import Probes
from kubetls_sdk.server.uvicorn import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("serve",)

_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")
_PORT = click.IntRange(0, 65535)


def _option(
    name: str, default: Any = None, **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    shown = default is not None and default is not False and default != ()
    return click.option(name, default=default, show_default=shown, **settings)


@click.command(context_settings={"auto_envvar_prefix": "KUBETLS_SERVE"})
@click.argument("app")
@_option("--host", "127.0.0.1", help="Listen on this address.")
@_option("--port", 8443, type=_PORT, help="Listen on this port; 0 takes a free one.")
@_option("--uds", help="Listen on a unix socket instead.")
@_option("--fd", type=int, help="Listen on an open socket instead.")
@_option("--volume", metavar="DIR", help="Where the credentials are mounted.")
@_option("--ready-timeout", 30.0, help="Seconds that the start waits for the credentials.")
@_option("--federation", metavar="PATH", help="A federation file: trust its partners as well.")
@_option("--policy", (), multiple=True, metavar="PATH", help="A policy file; repeatable.")
@_option("--users", metavar="PATH", help="A users file: authenticate end users as well.")
@_option("--no-policy", False, is_flag=True, help="Let every verified workload do everything.")
@_option(
    "--client-cert", "required", type=click.Choice(["required", "optional"]),
    help="'optional' also lets anonymous callers reach the policy, for a migration.",
)  # fmt: skip
@_option(
    "--anonymous-path", (), multiple=True, metavar="PATH",
    help="With --client-cert optional: everybody may GET this exact path; repeatable.",
)  # fmt: skip
@_option("--health-port", type=_PORT, help="A port of its own for probes.")
@_option("--health-host", "0.0.0.0", help="Its address.")  # noqa: S104 - kubelets are outside
@_option("--health-path", ("/readyz", "/healthz"), multiple=True, help="Ready; repeatable.")
@_option("--live-path", ("/livez",), multiple=True, help="Alive; repeatable.")
@_option("--metrics-path", metavar="PATH", help="Metrics for Prometheus, on the health port.")
@_option("--audit-log", metavar="PATH", help="Append a line for each decision; - is stdout.")
@_option(
    "--audit-sample", 1.0, type=click.FloatRange(0, 1),
    help="Share of allowed requests in it; what is refused is always there.",
)  # fmt: skip
@_option("--health-tls", False, is_flag=True, help="Probes over TLS with our certificate.")
@_option("--edge-port", type=_PORT, help="A public port, with an ordinary certificate.")
@_option("--edge-host", "0.0.0.0", help="Its address.")  # noqa: S104 - it is public
@_option("--edge-certificate", metavar="PATH", help="Its PEM chain; followed.")
@_option("--edge-key", metavar="PATH", help="Its PEM key; followed.")
@_option(
    "--forwarded-from", (), multiple=True, metavar="ID",
    help="Believe the proxy with this SPIFFE ID about its clients; repeatable.",
)  # fmt: skip
@_option(
    "--forwarded-header", type=click.Choice(["client-cert", "x-forwarded-client-cert"]),
    help="How it tells: by RFC 9440 (the default), or as Envoy does.",
)  # fmt: skip
@_option("--allow-tls12", False, is_flag=True, help="Also TLS 1.2; costs and protects less.")
@_option("--handshake-timeout", 10.0, help="Seconds for a TLS handshake.")
@_option("--max-handshakes", 1024, help="Unfinished handshakes at once, per process.")
@_option("--stream-recheck", 5.0, help="Seconds until a stream of a refused peer has ended.")
@_option("--workers", type=int, help="Worker processes.")
@_option("--reload", False, is_flag=True, help="Restart when the code changes.")
@_option("--reload-dir", (), multiple=True, help="Watch this directory; repeatable.")
@_option("--loop", "auto", help="auto, asyncio, uvloop, or module:attribute.")
@_option("--http", "auto", help="auto, h11, httptools, zttp, or module:attribute.")
@_option("--http2", False, is_flag=True, help="HTTP/2 as well; needs --http zttp.")
@_option("--ws", "auto", help="auto, none, websockets, websockets-sansio, wsproto.")
@_option("--ws-max-size", 16 * 1024 * 1024, help="Bytes of a WebSocket message.")
@_option("--ws-ping-interval", 20.0, help="Seconds between pings.")
@_option("--ws-ping-timeout", 20.0, help="Seconds to wait for a pong.")
@_option("--lifespan", "auto", type=click.Choice(["auto", "on", "off"]), help="Lifespan events.")
@_option("--root-path", "", help="The path that the application is mounted on.")
@_option("--log-config", type=click.Path(exists=True), help="Logging configuration file.")
@_option("--log-level", type=click.Choice(_LEVELS), help="Of uvicorn's lines.")
@_option("--access-log/--no-access-log", True, help="A line for each request.")
@_option("--proxy-headers/--no-proxy-headers", False, help="Believe X-Forwarded-*.")
@_option("--forwarded-allow-ips", help="Whose X-Forwarded-* to believe.")
@_option("--server-header/--no-server-header", True, help="Send 'server: uvicorn'.")
@_option("--date-header/--no-date-header", True, help="Send 'date'.")
@_option("--limit-concurrency", type=int, help="Connections before 503 is answered.")
@_option("--limit-max-requests", type=int, help="Requests before the process ends.")
@_option("--backlog", 2048, help="Connections that may wait to be accepted.")
@_option("--timeout-keep-alive", 5, help="Seconds that an idle connection is kept.")
@_option("--timeout-graceful-shutdown", type=int, help="Seconds for requests to finish.")
@_option("--factory", False, is_flag=True, help="APP makes the application.")
@_option("--app-dir", "", help="Look for APP here; the current directory by default.")
def serve(app: str, **options: Any) -> None:
    """Serve the ASGI application APP, given as module:attribute, over mutual TLS.

    Clients have to present a certificate of a trusted trust domain, and the policy has to allow
    each request. Certificates, trust bundles and policies are followed while the server runs. With
    --federation so are the partners that it declares, by each worker process for itself.
    """
    if ":" not in app:
        raise ConfigurationError(f"expected the application as 'module:attribute', got {app!r}")
    sys.path.insert(0, options.pop("app_dir") or ".")
    check_implementations(options)
    arguments = {
        "tls": _tls(options),
        "policy": _policy(options),
        "probes": _probes(options),
        "edge": _edge(options),
        "forwarded": _forwarded(options),
        "anonymous_paths": options.pop("anonymous_path"),
        "reload_dirs": list(options.pop("reload_dir")) or None,
    }
    if options["log_config"] is None:
        del options["log_config"]
    run(app, **arguments, **options)


def _tls(options: dict[str, Any]) -> MutualTls:
    names = (
        "client_cert", "http", "http2", "allow_tls12", "handshake_timeout", "max_handshakes",
        "stream_recheck", "ready_timeout",
    )  # fmt: skip
    settings = {name: options.pop(name) for name in names}
    settings["directory"] = options.pop("volume")
    federation = options.pop("federation")
    if federation is None:
        return MutualTls(**settings)
    from kubetls_sdk.federation.served import FederatedTls

    return FederatedTls(federation=federation, **settings)


def _policy(options: dict[str, Any]) -> AnyVerified | Sequence[str]:
    paths: Sequence[str] = options.pop("policy")
    is_without = options.pop("no_policy")
    if is_without and paths:
        raise ConfigurationError("expected --policy or --no-policy, got both")
    if not is_without and not paths:
        raise ConfigurationError(
            "expected --policy PATH: nobody may do anything without one (--no-policy lets every"
            " verified workload do everything)"
        )
    return AnyVerified() if is_without else paths


def _probes(options: dict[str, Any]) -> Probes | None:
    port = options.pop("health_port")
    settings = {
        "host": options.pop("health_host"),
        "ready_paths": tuple(options.pop("health_path")),
        "live_paths": tuple(options.pop("live_path")),
        "tls": options.pop("health_tls"),
        "metrics_path": options.pop("metrics_path"),
    }
    if port is None and settings["metrics_path"] is not None:
        raise ConfigurationError("expected --health-port with --metrics-path")
    return Probes(port=port, **settings) if port is not None else None


def _edge(options: dict[str, Any]) -> Edge | None:
    names = ("port", "host", "certificate", "key")
    settings = {name: options.pop(f"edge_{name}") for name in names}
    if settings["port"] is None:
        return None
    if settings["certificate"] is None or settings["key"] is None:
        raise ConfigurationError("expected --edge-certificate and --edge-key with --edge-port")
    return Edge(**settings)


def _forwarded(options: dict[str, Any]) -> ForwardedFrom | None:
    proxies, header = options.pop("forwarded_from"), options.pop("forwarded_header")
    if not proxies:
        if header is not None:
            raise ConfigurationError("expected --forwarded-from with --forwarded-header")
        return None
    return ForwardedFrom(proxies=proxies, header=header or "client-cert")
