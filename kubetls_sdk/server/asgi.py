# SPDX-License-Identifier: Apache-2.0
"""Authentication and authorization of each request, as pure ASGI middleware.

Rules:
    1. Fail closed: without a verified connection, a canonical request and a policy that allows it,
       the application is not called. Only `lifespan` passes unseen.
    2. The policy decides on `scope["path"]` as the application gets it, root path included.
    3. The caller is told a status and nothing more; the log says who, what and why.
    4. With `users`, a request also needs an end user, unless its rule says otherwise; a token that
       proves nothing is refused in any case.
    5. What is under way is decided again when the policy changes.
    6. Identity headers from outside are removed: they prove nothing here, and an application that
       was behind a proxy before may still read them. Of a proxy that `forwarded` names, the
       client's certificate is verified first.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz import WEBSOCKET, refusal
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server import tracing
from kubetls_sdk.server._quick_way import quick_way
from kubetls_sdk.server.authorize import POLICY_KEY
from kubetls_sdk.server.caller import SCOPE_KEY
from kubetls_sdk.server.connection import EXTENSION, PeerConnection, with_connection
from kubetls_sdk.server.ending import end_of_response, end_of_websocket
from kubetls_sdk.server.forwarded import FORWARDED_KEY
from kubetls_sdk.server.granian import is_granian, refuse_start
from kubetls_sdk.server.identity_headers import inspect_headers
from kubetls_sdk.server.open_requests import OpenRequests
from kubetls_sdk.server.presented import PresentedChains
from kubetls_sdk.server.record import is_recorded, record_request
from kubetls_sdk.server.refusal import Refusal
from kubetls_sdk.server.verdicts import PUBLIC, Admission, Verdicts
from kubetls_sdk.server.websocket import WebSocketSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from kubetls_sdk.server._forwarding import Forwarding
    from kubetls_sdk.server._user_check import UserCheck
    from kubetls_sdk.server.authorizer import Authorizer, AuthorizerHolder
    from kubetls_sdk.server.forwarded import ForwardedFrom
    from kubetls_sdk.source import Source
    from kubetls_sdk.users.authentication import Users

__all__ = ("KubeTLSMiddleware",)

_NOTHING: dict[str, Any] = {}


class KubeTLSMiddleware:
    """Lets a request through when its peer is verified and the policy allows it.

    Args:
        app: The application.
        policy: Decides; anything with `decide(caller, method, path, details)`, or a holder of one
            as `.current`. `AnyVerified()` lets every verified workload do everything.
        source: Whom we trust. Needed only under a server that fills the ASGI `tls` extension by
            itself; our servers bring theirs.
        optional: Let anonymous callers reach the policy, as None. The server has to let them in.
        anonymous_paths: Exact paths that everybody may GET and HEAD without asking the policy;
            only with `optional`. Where certificates are required, use a probe listener.
        users: Authenticates end users as well; its maker starts and closes it. Then each request
            needs a user whose token is valid, unless the rule that allows it says `user: optional`.
        user_grace: Seconds that an answer may go on after its user's token has expired.
        forwarded: The proxies that are believed about the certificates of their clients.

    Raises:
        ConfigurationError: Anonymous paths without `optional`, or one that is not a path.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        policy: Authorizer | AuthorizerHolder,
        source: Source | None = None,
        optional: bool = False,
        anonymous_paths: Iterable[str] = (),
        users: Users | None = None,
        user_grace: float = 5.0,
        forwarded: ForwardedFrom | None = None,
    ) -> None:
        self.app = app
        self._user_check = None if users is None else _user_check(users, user_grace)
        self._forwarding = None if forwarded is None else _forwarding(forwarded)
        self._verdicts = Verdicts(policy)
        self._open = OpenRequests(self._verdicts, self._user_check)
        self._optional = optional
        self._anonymous_paths = frozenset(anonymous_paths)
        self._presented = PresentedChains(source)
        if self._anonymous_paths and not optional:
            raise ConfigurationError(
                "expected anonymous paths only with optional certificates: TLS asks for the"
                " certificate before there is a path; use a probe listener"
            )
        for path in self._anonymous_paths:
            if refusal("GET", path, path.encode()) is not None:
                raise ConfigurationError(f"expected an exact path, got {path!r}")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one scope."""
        kind = scope["type"]
        if kind == "http":
            method = scope["method"]
            # No request line spells the pseudo-methods of the policy, which are in lower case.
            method = method if method.isupper() else f"?{method}"
            if self._user_check is not None:
                await self._serve_user(self._user_check, method, scope, receive, send)
                return
            refused = self._refusal(scope, method)
            if refused is None:
                await self._serve(scope, self.app(scope, receive, send))
            else:
                await refused.answer(scope, receive, send)
        elif kind == "websocket":
            await self._serve_websocket(scope, receive, send)
        elif kind != "lifespan":
            raise ConfigurationError(f"expected http, websocket or lifespan, got {kind!r}")
        elif is_granian(receive):
            await refuse_start(receive, send)
        else:
            await self.app(scope, receive, send)

    def for_connection(self, tls: dict[str, Any], peer: PeerConnection) -> Callable[..., Any]:
        """Bind to one connection: the same application, with the usual request made cheap.

        Args:
            tls: The connection's `tls` extension.
            peer: The connection.
        """
        is_usual = peer.spiffe_id is not None and self._user_check is None
        if is_usual and peer.requests is not None and not tracing.is_enabled():
            self._open.watch(peer)
            return quick_way(self, self.app, self._verdicts, tls=tls, peer=peer)
        return with_connection(self.__call__, tls, peer)

    async def _serve(self, scope: Any, serving: Awaitable[None]) -> None:
        """Serve a request that was let in, and know it as long as it is under way."""
        connection: PeerConnection = scope["extensions"][EXTENSION]
        end = end_of_response(connection, scope)
        self._open.add(connection, scope, end)
        if self._forwarding is not None and FORWARDED_KEY in scope:
            serving = self._forwarding.serve(scope, serving, end)
        try:
            await serving
        finally:
            self._open.discard(scope)

    async def _serve_user(
        self, check: UserCheck, method: str, scope: Any, receive: Any, send: Any
    ) -> None:
        refused = await self._refusal_of_user(check, scope, method)
        if refused is None:
            await self._serve(scope, check.serve(scope, self.app(scope, receive, send)))
        else:
            await refused.answer(scope, receive, send)

    async def _serve_websocket(self, scope: Any, receive: Any, send: Any) -> None:
        check = self._user_check
        if check is None:
            refused = self._refusal(scope, WEBSOCKET)
        else:
            refused = await self._refusal_of_user(check, scope, WEBSOCKET)
        if refused is not None:
            await refused.answer(scope, receive, send)
            return
        session = WebSocketSession(send)
        connection: PeerConnection = scope["extensions"][EXTENSION]
        connection.websockets.add(session.end)
        expiry = None if check is None else check.expire(scope, session.end)
        end = end_of_websocket(connection, session)
        self._open.add(connection, scope, end)
        serving = self.app(scope, receive, session.send)
        if self._forwarding is not None and FORWARDED_KEY in scope:
            serving = self._forwarding.serve(scope, serving, end)
        try:
            await serving
        finally:
            self._open.discard(scope)
            connection.websockets.discard(session.end)
            if expiry is not None:
                expiry.cancel()

    async def _refusal_of_user(self, check: UserCheck, scope: Any, method: str) -> Refusal | None:
        """Judge a request where users are authenticated; keys may have to be fetched for it."""
        connection = self._connection(scope)
        if isinstance(connection, Refusal):
            return connection
        hosts = self._inspect(scope, connection)
        if isinstance(hosts, Refusal):
            return hosts
        refused = await check.admit(scope, connection)
        if refused is not None:
            return refused
        # No remembered decision: it does not tell whether its rule is fine without a user.
        return self._ask(connection, method, scope, hosts)

    def _refusal(self, scope: Any, method: str) -> Refusal | None:
        """Judge a request; when nothing is refused, the scope knows the caller."""
        connection = self._connection(scope)
        if isinstance(connection, Refusal):
            return connection
        hosts = self._inspect(scope, connection)
        if isinstance(hosts, Refusal):
            return hosts
        if hosts == 1 and not is_recorded():
            path, raw_path = scope["path"], scope.get("raw_path")
            admission = self._verdicts.allowed_before(connection, method, path, raw_path)
            if admission is not None:
                scope[POLICY_KEY] = admission
                return None
        return self._ask(connection, method, scope, hosts)

    def _connection(self, scope: Any) -> PeerConnection | Refusal:
        """Judge the peer; when it is who it says, the scope knows the caller."""
        connection = (scope.get("extensions") or _NOTHING).get(EXTENSION)
        if type(connection) is not PeerConnection:
            connection = self._presented.connection(scope)
            if isinstance(connection, Refusal):
                return connection
        reason = connection.refusal(time())
        if reason is not None:
            return Refusal.unauthenticated(connection, reason, scope, ends=True)
        if connection.spiffe_id is None and not self._optional:
            return Refusal.unauthenticated(connection, "it presented no certificate", scope)
        scope[SCOPE_KEY] = scope.setdefault("state", {})["caller"] = connection.caller
        return connection

    def _inspect(self, scope: Any, connection: PeerConnection) -> int | Refusal:
        """Remove claims of identity, and count the `Host` fields."""
        if self._forwarding is None:
            return inspect_headers(scope)
        return self._forwarding.inspect(scope, connection)

    def _ask(
        self, connection: PeerConnection, method: str, scope: Any, host_count: int
    ) -> Refusal | None:
        path = scope["path"]
        if path in self._anonymous_paths and method in ("GET", "HEAD"):
            raw_path = scope.get("raw_path")
            malformed = refusal(method, path, raw_path, host_count)
            scope[POLICY_KEY] = Admission(self._verdicts, PUBLIC, method, path)
            return Refusal.malformed(connection, malformed, scope) if malformed else None
        decision = self._verdicts.decide(connection, method, scope, host_count)
        if isinstance(decision, str):
            return Refusal.malformed(connection, decision, scope)
        if self._user_check is not None:
            refused = self._user_check.refusal(decision, connection, scope)
            if refused is not None:
                return refused
        if is_recorded():
            record_request(connection, decision, method, scope)
        if not decision.allowed:
            return Refusal.denied(connection, decision, scope)
        scope[POLICY_KEY] = Admission(self._verdicts, decision, method, path)
        return None


def _forwarding(settings: ForwardedFrom) -> Forwarding:
    from kubetls_sdk.server._forwarding import Forwarding

    return Forwarding(settings)


def _user_check(users: Users, grace: float) -> UserCheck:
    from kubetls_sdk.server._user_check import UserCheck

    return UserCheck(users, grace)
