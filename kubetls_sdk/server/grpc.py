# SPDX-License-Identifier: Apache-2.0
"""gRPC servers that authenticate their callers and authorize each call.

    server = aio_server(policy="policy.yaml")
    orders_pb2_grpc.add_OrdersServicer_to_server(Orders(), server)
    server.add_secure_port("[::]:8443")

    async def Get(self, request, context):
        caller(context).spiffe_id

Rules:
    1. Only mutual TLS ports exist: a server of ours opens no insecure one.
    2. Before a request message is read, the peer is verified, the path is canonical, the end user
       is known where users are wanted, and the policy has allowed the call.
    3. What was trusted stays checked: a stream ends when its peer's certificate or its user's token
       expires, or the peer's root is removed; connections are renewed after
       `MAX_CONNECTION_AGE_SECONDS`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc import aio

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server._grpc_credentials import server_credentials
from kubetls_sdk.server._grpc_entry import ENTRY, Entry
from kubetls_sdk.server._grpc_interceptor import (
    STREAM_RECHECK_SECONDS,
    AsyncAuthInterceptor,
    AuthInterceptor,
)
from kubetls_sdk.server._grpc_server import AsyncServer, Opened, Server

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from cryptography.x509 import Certificate

    from kubetls_sdk.authz import Decision
    from kubetls_sdk.server.caller import Caller
    from kubetls_sdk.source import Source
    from kubetls_sdk.users import User, Users, UserSettings

__all__ = (
    "HEALTH",
    "MAX_CONNECTION_AGE_GRACE_SECONDS",
    "MAX_CONNECTION_AGE_SECONDS",
    "REFLECTION",
    "STREAM_RECHECK_SECONDS",
    "AsyncAuthInterceptor",
    "AsyncServer",
    "AuthInterceptor",
    "Server",
    "aio_server",
    "authorize",
    "caller",
    "end_user",
    "server",
    "server_credentials",
)

HEALTH: Final = tuple(f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch"))
"""The methods of the health service, for `open_methods`."""

REFLECTION: Final = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)
"""The methods of the reflection service, for `open_methods`."""

MAX_CONNECTION_AGE_SECONDS: Final = 3600
"""After this time, give or take a tenth, a connection gets no new calls and clients connect anew:
with their current certificate, to whichever replicas there are now."""

MAX_CONNECTION_AGE_GRACE_SECONDS: Final = 600
"""What is still running this long after a connection reached its age is cut off."""

_DEFAULTS = {
    "grpc.max_connection_age_ms": MAX_CONNECTION_AGE_SECONDS * 1000,
    "grpc.max_connection_age_grace_ms": MAX_CONNECTION_AGE_GRACE_SECONDS * 1000,
}


def server(
    thread_pool: ThreadPoolExecutor | None = None,
    *,
    policy: Any,
    source: Source | None = None,
    open_methods: Iterable[str] = (),
    intermediates: Sequence[Certificate] = (),
    stream_recheck: float = STREAM_RECHECK_SECONDS,
    users: Users | UserSettings | str | os.PathLike[str] | None = None,
    allow_tls12: bool = False,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
    options: Iterable[tuple[str, Any]] = (),
    handlers: Iterable[grpc.GenericRpcHandler] = (),
    **settings: Any,
) -> Server:
    """Make a threaded server.

    Args:
        thread_pool: Runs the methods; gRPC's usual pool size by default.
        policy: Paths of policy files, or an authorizer such as `AnyVerified()`.
        source: Our SVID and whom we trust; None for the mounted volume.
        open_methods: Exact paths that every verified workload may call without asking the policy,
            such as `HEALTH` and `REFLECTION`. Nothing is open by default.
        intermediates: See `AuthInterceptor`.
        stream_recheck: See `AuthInterceptor`.
        users: The path of a users file, settings, or `Users` that the caller starts and closes:
            end users are authenticated as well, by the token in the metadata. Then each call needs
            one, unless the rule that allows it says `user: optional`.
        allow_tls12: Also serve callers over TLS 1.2; otherwise they are refused at each call, since
            gRPC cannot be told to end the handshake.
        interceptors: Yours; they run inside of ours.
        options: Of gRPC; they override our ages of a connection.
        handlers: As of `grpc.server`.
        settings: As of `grpc.server`: `maximum_concurrent_rpcs`, `compression`.

    Raises:
        ConfigurationError: An argument is out of range, or the users cannot be used.
        NotReadyError: The volume has nothing usable in time.
        PolicyError: A policy file is missing or not a policy.
    """
    opened = Opened(source, policy, users)
    try:
        ours = AuthInterceptor(
            opened.source,
            opened.policy,
            open_methods=open_methods,
            intermediates=intermediates,
            stream_recheck=stream_recheck,
            users=opened.users,
            ports=opened.ports,
            allow_tls12=allow_tls12,
        )
        inner = grpc.server(
            thread_pool if thread_pool is not None else ThreadPoolExecutor(),
            interceptors=[ours, *interceptors] if interceptors else None,
            options=_with_defaults(options),
            **settings,
        )
        made = Server(inner, opened, None if interceptors else ours)
        made.add_generic_rpc_handlers(handlers)
    except Exception:
        opened.close()
        raise
    return made


def aio_server(
    *,
    policy: Any,
    source: Source | None = None,
    open_methods: Iterable[str] = (),
    intermediates: Sequence[Certificate] = (),
    stream_recheck: float = STREAM_RECHECK_SECONDS,
    users: Users | UserSettings | str | os.PathLike[str] | None = None,
    allow_tls12: bool = False,
    interceptors: Sequence[aio.ServerInterceptor] = (),
    options: Iterable[tuple[str, Any]] = (),
    handlers: Iterable[grpc.GenericRpcHandler] = (),
    **settings: Any,
) -> AsyncServer:
    """Make an asyncio server; arguments and errors are those of `server`.

    Further settings are those of `grpc.aio.server`: `migration_thread_pool`,
    `maximum_concurrent_rpcs`, `compression`.
    """
    opened = Opened(source, policy, users)
    try:
        ours = AsyncAuthInterceptor(
            opened.source,
            opened.policy,
            open_methods=open_methods,
            intermediates=intermediates,
            stream_recheck=stream_recheck,
            users=opened.users,
            ports=opened.ports,
            allow_tls12=allow_tls12,
        )
        inner = aio.server(
            interceptors=(ours, *interceptors) if interceptors else None,
            options=_with_defaults(options),
            **settings,
        )
        made = AsyncServer(inner, opened, None if interceptors else ours)
        made.add_generic_rpc_handlers(handlers)
    except Exception:
        opened.close()
        raise
    return made


def caller(context: Any) -> Caller:
    """Get the caller of a gRPC call.

    Args:
        context: The servicer context that the method got.

    Raises:
        ConfigurationError: No interceptor of ours has admitted this call.
    """
    entry = getattr(context, ENTRY, None)
    if type(entry) is Entry:  # the usual call, made short
        return entry.verdict.caller
    return _entry(context).verdict.caller


def end_user(context: Any) -> User | None:
    """Get the end user of a gRPC call; None where its rule is fine without one.

    Args:
        context: The servicer context that the method got.

    Raises:
        ConfigurationError: No interceptor of ours with `users` has admitted this call.
    """
    entry = _entry(context)
    if entry.gate.users is None:
        raise ConfigurationError("expected a server that authenticates users: give it users")
    return entry.user


def authorize(context: Any, action: str, resource: str, **attributes: object) -> Decision:
    """Decide about an action of the application on one of its own resources.

    Args:
        context: The servicer context that the method got; caller and user are those of its call.
        action: What is done, as rules name it in `actions`.
        resource: The kind of resource, as rules name it in `resources`.
        attributes: What rules may ask for as `resource.<name>`.

    Returns:
        The decision of the policy in force now; nothing is answered or logged here.

    Raises:
        ConfigurationError: No interceptor of ours has admitted this call, or its policy is no
            `PolicySet`.
    """
    entry = _entry(context)
    policies = entry.gate.current_policy
    if not isinstance(policies, PolicySet):
        raise ConfigurationError(f"expected policy files to ask, got {policies!r}")
    details = entry.gate.details(context, entry)
    return policies.authorize(
        details.user,
        action,
        resource,
        caller=entry.verdict.caller.spiffe_id,
        attributes=attributes,
        details=details,
    )


def _entry(context: Any) -> Entry:
    found = getattr(context, ENTRY, None)
    if type(found) is not Entry:
        raise ConfigurationError(
            "expected a call that AuthInterceptor has admitted: make the server with"
            " kubetls_sdk.server.grpc"
        )
    return found


def _with_defaults(options: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple({**_DEFAULTS, **dict(options)}.items())
