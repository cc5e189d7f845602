# SPDX-License-Identifier: Apache-2.0
"""The two kinds of gRPC server, with ports that are mutual TLS and nothing else.

Rules:
    1. A port without mutual TLS is refused: a call on it could not be authenticated.
    2. What the server opened, volume and policy files, is closed after its last call.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc import aio

from kubetls_sdk._breather import Breather
from kubetls_sdk.authz.issuers import check_issuers
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server._grpc_credentials import port_credentials
from kubetls_sdk.server._grpc_interceptor import GuardedHandlers
from kubetls_sdk.server.policy_choice import PolicyChoice
from kubetls_sdk.server.user_choice import UserChoice
from kubetls_sdk.volume_source import VolumeSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kubetls_sdk.authz import PolicySet
    from kubetls_sdk.server._grpc_interceptor import AsyncAuthInterceptor, AuthInterceptor
    from kubetls_sdk.source import Source

__all__ = ("AsyncServer", "Opened", "Server")

_NOT_TCP = ("unix:", "unix-abstract:", "vsock:")


class Opened:
    """The source, the users and the policy of one server; closes what it opened.

    Args:
        source: Ours, or None for the mounted volume.
        policy: See `PolicyChoice`.
        users: See `UserChoice`; or `Users`, which its maker starts and closes.

    Attributes:
        ports: That were opened; None for one that is no TCP port.

    Raises:
        ConfigurationError: The users file or a key file cannot be used, or PyJWT is missing.
        NotReadyError: The volume has nothing usable in time.
        PolicyError: A policy file is missing or not a policy.
    """

    def __init__(self, source: Source | None, policy: Any, users: Any = None) -> None:
        self._choice = PolicyChoice(policy)
        self.ports: list[int | None] = []
        is_started = hasattr(users, "resolve_blocking")
        self._user_choice = UserChoice(None if is_started else users)
        self._volume = VolumeSource().start() if source is None else None
        self.source: Source = source if self._volume is None else self._volume  # type: ignore[assignment]
        try:
            self.users: Any = users if is_started else self._user_choice.open(self.source)
            check = None if self.users is None else self._check
            self.policy = self._choice.open(self.source.snapshot.trust_domain, check=check)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Close the files; may be called twice."""
        self._choice.close()
        self._user_choice.close()
        if self._volume is not None:
            self._volume.close()

    def _check(self, policies: PolicySet) -> None:
        """Refuse policies whose rules leave open whose users they mean."""
        check_issuers(policies, self.users.issuers, pause=Breather())


class _Guarding:
    """Registers handlers, guarded.

    Args:
        inner: A server of gRPC.
        opened: Source, users and policy.
        guard: Guards handlers where they are registered; None when it is an interceptor of the
            inner server, in front of others.
    """

    def __init__(
        self, inner: Any, opened: Opened, guard: AuthInterceptor | AsyncAuthInterceptor | None
    ) -> None:
        self._inner = inner
        self._opened = opened
        self._guard = guard

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]
    ) -> None:
        """As of gRPC."""
        handlers = tuple(generic_rpc_handlers)
        if self._guard is not None:
            handlers = tuple(GuardedHandlers(self._guard, each) for each in handlers)
        self._inner.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """As of gRPC."""
        handlers = dict(method_handlers)
        if self._guard is not None:
            for name, handler in method_handlers.items():
                handlers[name] = self._guard.wrap(handler, f"/{service_name}/{name}")
        self._inner.add_registered_method_handlers(service_name, handlers)

    def _open_port(self, address: str) -> int:
        port: int = self._inner.add_secure_port(address, port_credentials(self._opened.source))
        self._opened.ports.append(None if address.startswith(_NOT_TCP) else port)
        return port

    def _guard_the_rest(self) -> None:
        if self._guard is not None:
            self._inner.add_generic_rpc_handlers((GuardedHandlers(self._guard),))


class Server(_Guarding, grpc.Server):
    """A `grpc.Server` whose ports are mutual TLS; made by `kubetls_sdk.server.grpc.server`."""

    def add_secure_port(
        self, address: str, server_credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Open a mutual TLS port.

        Args:
            address: As of `grpc.Server`.
            server_credentials: None: the source has them.

        Returns:
            The port.

        Raises:
            ConfigurationError: Credentials were given.
            SvidError: gRPC cannot use our SVID.
        """
        _require_ours(server_credentials)
        return self._open_port(address)

    def add_insecure_port(self, address: str) -> NoReturn:
        """Not possible.

        Raises:
            ConfigurationError: Always.
        """
        raise _insecure(address)

    def start(self) -> None:
        """As of `grpc.Server`."""
        self._guard_the_rest()
        self._inner.start()

    def stop(self, grace: float | None) -> threading.Event:
        """As of `grpc.Server`; volume and policy files are closed after the last call."""
        stopped: threading.Event = self._inner.stop(grace)
        threading.Thread(target=self._close_after, args=(stopped,), daemon=True).start()
        return stopped

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """As of `grpc.Server`."""
        return bool(self._inner.wait_for_termination(timeout))

    def _close_after(self, stopped: threading.Event) -> None:
        stopped.wait()
        self._opened.close()


class AsyncServer(_Guarding, aio.Server):
    """A `grpc.aio.Server` whose ports are mutual TLS; made by `aio_server`."""

    def add_secure_port(
        self, address: str, server_credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Open a mutual TLS port; arguments, result and errors are those of `Server`."""
        _require_ours(server_credentials)
        return self._open_port(address)

    def add_insecure_port(self, address: str) -> NoReturn:
        """Not possible.

        Raises:
            ConfigurationError: Always.
        """
        raise _insecure(address)

    async def start(self) -> None:
        """As of `grpc.aio.Server`."""
        self._guard_the_rest()
        await self._inner.start()

    async def stop(self, grace: float | None) -> None:
        """As of `grpc.aio.Server`; closes volume and policy files after the last call."""
        await self._inner.stop(grace)
        self._opened.close()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - gRPC's
        """As of `grpc.aio.Server`."""
        return bool(await self._inner.wait_for_termination(timeout))


def _require_ours(server_credentials: object) -> None:
    if server_credentials is not None:
        raise ConfigurationError("expected no server credentials: the source has them")


def _insecure(address: str) -> ConfigurationError:
    return ConfigurationError(
        f"expected only ports with mutual TLS, got an insecure one at {address!r}"
    )
