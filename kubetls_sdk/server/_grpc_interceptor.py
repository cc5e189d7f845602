# SPDX-License-Identifier: Apache-2.0
"""The interceptors that put authentication and authorization in front of every handler.

Rules:
    1. They come first among a server's interceptors: what later ones wrap is inside.
    2. A handler is wrapped once for each method and handler object, not for each call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server._grpc_aio_call import AsyncCalls
from kubetls_sdk.server._grpc_call import ThreadedCalls
from kubetls_sdk.server._grpc_gate import Gate
from kubetls_sdk.server._grpc_streams import StreamWatch
from kubetls_sdk.server.authorizer import Authorizer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from cryptography.x509 import Certificate

    from kubetls_sdk.source import Source
    from kubetls_sdk.users.authentication import Users

__all__ = ("STREAM_RECHECK_SECONDS", "AsyncAuthInterceptor", "AuthInterceptor", "GuardedHandlers")

STREAM_RECHECK_SECONDS = 5.0
_REMEMBERED = 2048


class _Interceptor:
    """What both interceptors share: the gate, and the handlers that were wrapped before."""

    _kind: type[ThreadedCalls | AsyncCalls]

    def __init__(
        self,
        source: Source,
        policy: Any,
        *,
        open_methods: Iterable[str] = (),
        intermediates: Sequence[Certificate] = (),
        stream_recheck: float = STREAM_RECHECK_SECONDS,
        users: Users | None = None,
        ports: Collection[int | None] = (),
        allow_tls12: bool = False,
    ) -> None:
        if not hasattr(policy, "current") and not isinstance(policy, Authorizer):
            raise ConfigurationError(
                f"expected a policy such as PolicyFile(...) or AnyVerified(), got {policy!r}"
            )
        gate = Gate(
            source,
            policy,
            open_methods=open_methods,
            intermediates=intermediates,
            users=users,
            ports=ports,
            allow_tls12=allow_tls12,
        )
        self._calls = self._kind(gate, StreamWatch(source, stream_recheck))
        self.wrapped: dict[str, tuple[Any, Any]] = {}

    def wrap(self, handler: Any, method: str) -> Any:
        """Make the handler that serves a method; None stands for one that does not exist."""
        if handler is None:  # whoever asks for methods that do not exist fills no memory
            return self._calls.wrap(None, method)
        known = self.wrapped.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        wrapped = self._calls.wrap(handler, method)
        if len(self.wrapped) >= _REMEMBERED:
            self.wrapped = {}
        self.wrapped[method] = (handler, wrapped)
        return wrapped


class GuardedHandlers(grpc.GenericRpcHandler):
    """The same without an interceptor, which costs each call some microseconds.

    Args:
        interceptor: Wraps.
        inner: What is served; None for the end of the list, where nothing else was found.
    """

    def __init__(self, interceptor: _Interceptor, inner: Any = None) -> None:
        self._interceptor = interceptor
        self._inner = inner

    def service(self, handler_call_details: Any) -> Any:
        """Find the handler of a method, and wrap it."""
        method = handler_call_details.method
        handler = None if self._inner is None else self._inner.service(handler_call_details)
        known = self._interceptor.wrapped.get(method)
        if known is not None and known[0] is handler:  # the usual call, made short
            return known[1]
        if handler is None and self._inner is not None:
            return None
        return self._interceptor.wrap(handler, method)


class AuthInterceptor(_Interceptor, grpc.ServerInterceptor):
    """Authenticates and authorizes each call of a `grpc.Server`; has to be its first interceptor.

    Args:
        source: Whom we trust.
        policy: Decides; an authorizer, or a holder of one as `.current`.
        open_methods: Exact paths that every verified workload may call without asking the policy,
            such as those of `HEALTH`.
        intermediates: Completes chains of peers where gRPC does not hand them over.
        stream_recheck: Seconds after which a stream has ended once its peer's certificate expired
            or its root was removed.
        users: Authenticates end users as well; its maker starts and closes it. Then each call needs
            a user whose token is valid, unless the rule that allows it says `user: optional`.
        ports: All ports of its server, for rules with `ports`; gRPC does not tell which one a call
            came to, so it is known only where there is one.
        allow_tls12: Also serve callers over TLS 1.2.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    _kind = ThreadedCalls

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """Wrap the handler of a call."""
        handler = continuation(handler_call_details)
        return self.wrap(handler, handler_call_details.method)


class AsyncAuthInterceptor(_Interceptor, aio.ServerInterceptor):
    """The same for a `grpc.aio.Server`; arguments and errors are those of `AuthInterceptor`."""

    _kind = AsyncCalls

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        return self.wrap(handler, handler_call_details.method)
