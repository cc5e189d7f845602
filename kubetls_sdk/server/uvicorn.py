# SPDX-License-Identifier: Apache-2.0
"""Serve an ASGI application with uvicorn over mutual TLS.

`run` does what `uvicorn.run` does, with identities, a policy, and everything reloading. To keep
your own start of uvicorn, give it `http=MutualTls()` and wrap the application with
`KubeTLSMiddleware`.

Rules:
    1. The server starts completely or not at all: volume, policy, application and ports are
       checked first, and what is missing is one clear error.
    2. Worker processes open their own source and policy; only settings are passed to them.
"""

from __future__ import annotations

import copy
import logging
import sys
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.config import LOGGING_CONFIG, STARTUP_FAILURE

from kubetls_sdk import audit
from kubetls_sdk.exceptions import ConfigurationError, KubeTLSError
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.bind import bind
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.server.policy_choice import PolicyChoice
from kubetls_sdk.server.refusal_log import log
from kubetls_sdk.server.service import Service
from kubetls_sdk.server.start import start
from kubetls_sdk.server.user_choice import UserChoice

if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import Callable, Sequence

    from kubetls_sdk.server.authorizer import Authorizer, AuthorizerHolder
    from kubetls_sdk.server.edge import Edge
    from kubetls_sdk.server.forwarded import ForwardedFrom
    from kubetls_sdk.server.probes import Probes
    from kubetls_sdk.users.settings import UserSettings

__all__ = ("Config", "MutualTls", "log_config", "run")


class Config(uvicorn.Config):
    """uvicorn's configuration, for an application that is protected completely.

    Args:
        app: As for `uvicorn.Config`.
        tls: How to speak TLS; `kubetls_sdk.federation.served.FederatedTls` trusts partners as well.
        policy: An authorizer, or the paths of policy files.
        probes: A listener for health probes.
        edge: A second, public listener.
        anonymous_paths: See `KubeTLSMiddleware`.
        audit_log: A file to append the audit log to; `-` for standard output.
        audit_sample: The share of allowed requests in it, from 0 to 1; what is refused is always
            there.
        users: End users to authenticate: `kubetls_sdk.users.UserSettings`, or the path of a users
            file, which several processes need.
        forwarded: The proxies that are believed about their clients, on the inner listener.
        options: Of `uvicorn.Config`, without those about TLS and `http`.

    Raises:
        ConfigurationError: No policy, an option about TLS, or a share that is none.
    """

    def __init__(
        self,
        app: Callable[..., Any] | str,
        *,
        tls: MutualTls,
        policy: Authorizer | AuthorizerHolder | Sequence[str | os.PathLike[str]],
        probes: Probes | None = None,
        edge: Edge | None = None,
        anonymous_paths: Sequence[str] = (),
        audit_log: str | None = None,
        audit_sample: float = 1.0,
        users: UserSettings | str | os.PathLike[str] | None = None,
        forwarded: ForwardedFrom | None = None,
        **options: Any,
    ) -> None:
        for name in options:
            if name.startswith("ssl_") or name in ("http", "http2", "interface"):
                raise ConfigurationError(f"expected no option {name!r}: MutualTls decides it")
        if not 0.0 <= audit_sample <= 1.0 or (audit_sample < 1.0 and audit_log is None):
            raise ConfigurationError(
                f"expected audit_sample from 0 to 1, with an audit log, got {audit_sample!r}"
            )
        options.setdefault("proxy_headers", False)
        options.setdefault("log_config", log_config())
        super().__init__(app, http=cast("Any", tls), **options)
        self.tls = tls
        self.policy = PolicyChoice(policy)
        self.probes = probes
        self.edge = edge
        self.anonymous_paths = tuple(anonymous_paths)
        self.audit_log = audit_log
        self.audit_sample = audit_sample
        self.users = UserChoice(users)
        self.forwarded = forwarded
        self.service: Service | None = None

    def configure_logging(self) -> None:
        """Set up logging; uvicorn calls this.

        Raises:
            ConfigurationError: `log_config` cannot be used.
        """
        try:
            super().configure_logging()
        except Exception as err:
            shown = self.log_config if isinstance(self.log_config, str) else "a mapping"
            raise ConfigurationError(
                f"expected a logging configuration, got {shown}: {' '.join(str(err).split())}"
            ) from err

    def bind_socket(self) -> socket.socket:
        """Take the port; uvicorn would say that it is plain HTTP.

        Raises:
            ConfigurationError: The port is in use.
        """
        if self.uds is not None or self.fd is not None:
            return super().bind_socket()
        bound = bind(self.host, self.port)
        host = f"[{self.host}]" if ":" in self.host else self.host
        message = "Uvicorn running on https://%s:%d (Press CTRL+C to quit)"
        logging.getLogger("uvicorn.error").info(message, host, bound.getsockname()[1])
        return bound

    def load(self) -> None:
        """Do `prepare` in a worker process; ends it with one line in the log when that fails."""
        try:
            self.prepare()
        except KubeTLSError as err:
            log.error("cannot start: %s", err)
            sys.exit(STARTUP_FAILURE)

    def prepare(self) -> None:
        """Open the volume, the policy and the application.

        Raises:
            KubeTLSError: The volume or the policy cannot be used.
            SystemExit: The application cannot be imported.
        """
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        super().load()
        if self.audit_log is not None:
            audit.enable(audit_handler(self.audit_log), sample_allowed=self.audit_sample)
        source = self.tls.open().source
        users = self.users.open(source)
        policy = self.policy.open(source.snapshot.trust_domain, check=self.users.check)
        optional = self.tls.client_cert == "optional"
        inside = self.loaded_app
        self.loaded_app = KubeTLSMiddleware(
            inside,
            policy=policy,
            optional=optional,
            anonymous_paths=self.anonymous_paths,
            users=users,
            forwarded=self.forwarded,
        )
        self.service = Service(self, source, inside, policy)
        self.lifespan_class = self.service.lifespan_class(self.lifespan_class)

    def open_once(self) -> None:
        """Read all files and close them again, to find what is wrong before workers do.

        Raises:
            KubeTLSError: One of them cannot be used.
        """
        try:
            source = self.tls.open().source
            self.users.open(source)
            self.policy.open(source.snapshot.trust_domain, check=self.users.check)
        finally:
            self.close()

    def close(self) -> None:
        """Close what `load` opened in this process."""
        self.policy.close()
        self.users.close()
        self.tls.close()


def audit_handler(path: str) -> logging.Handler:
    """Open the audit log.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    if path == "-":
        return logging.StreamHandler(sys.stdout)
    try:
        return logging.FileHandler(path)
    except OSError as err:
        raise ConfigurationError(
            f"expected an audit log to write, got {path!r}: {err.strerror}"
        ) from err


def log_config() -> dict[str, Any]:
    """Make uvicorn's default logging, with the lines of this package beside its own."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["kubetls_sdk"] = {
        "handlers": ["default"],
        "level": "INFO",
        "propagate": False,
    }
    return config


def run(
    app: Callable[..., Any] | str,
    *,
    policy: Authorizer | AuthorizerHolder | Sequence[str | os.PathLike[str]],
    tls: MutualTls | None = None,
    **options: Any,
) -> None:
    """Serve an application over mutual TLS until a signal ends it.

    Args:
        app: An ASGI application or, as several workers and `reload` need, `module:attribute`.
        policy: An authorizer, or the paths of policy files; `AnyVerified()` leaves the decision
            to the application.
        tls: How to speak TLS; by default with the mounted volume.
        options: `probes`, `edge`, `anonymous_paths`, `audit_log`, `audit_sample`, `users` and
            `forwarded` of `Config`, and uvicorn's own, such as `host`, `port`, `uds`, `workers`,
            `reload`, `loop`, `ws` and `root_path`.

    Raises:
        ConfigurationError: A setting is missing or contradictory.
        SystemExit: The server could not start, with uvicorn's status 3; the log says why.
    """
    start(Config(app, tls=tls if tls is not None else MutualTls(), policy=policy, **options))
