# SPDX-License-Identifier: Apache-2.0
"""The way of the usual request: its peer still is who it was, an equal one was allowed before.

It takes most of the time that identity and authorization cost, so it is written for speed: one
function, bound to one connection, without a coroutine and without calls of ours. It can only say
yes; whatever is not plainly so goes to the middleware, which judges from the start.

Rules:
    1. The same questions as the middleware: generation and expiry of the peer, policy in force,
       canonical request (as it was found when the equal one was allowed), one `Host`, no header
       that claims an identity.
    2. Only methods in upper case: no request line can spell the pseudo-methods of the policy.
    3. Never for anonymous peers, nor where end users are authenticated.
    4. Only on servers that know what is under way on a connection, since nothing is written down
       here: see `open_requests`.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from kubetls_sdk import audit, metrics
from kubetls_sdk.exceptions import CredentialError
from kubetls_sdk.server._quick_record import record_quickly
from kubetls_sdk.server.authorize import POLICY_KEY
from kubetls_sdk.server.caller import SCOPE_KEY
from kubetls_sdk.server.connection import EXTENSION
from kubetls_sdk.server.identity_headers import HARMLESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.server.connection import PeerConnection
    from kubetls_sdk.server.verdicts import Verdicts

__all__ = ("quick_way",)

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def quick_way(  # noqa: C901 - counts the function inside
    middleware: Callable[..., Any],
    app: Callable[..., Any],
    verdicts: Verdicts,
    *,
    tls: dict[str, Any],
    peer: PeerConnection,
) -> Callable[..., Any]:
    """Make the ASGI application of one connection.

    Args:
        middleware: Judges what is not plainly allowed.
        app: What the middleware protects.
        verdicts: Its memory.
        tls: The connection's `tls` extension.
        peer: The connection, of a peer that proved an identity.
    """
    source, identity, caller = peer.source, peer.identity, peer.caller

    def serve(  # noqa: C901 - one function on purpose, see above
        scope: dict[str, Any], receive: Any, send: Any, *rest: Any
    ) -> Any:
        extensions = scope.get("extensions")
        if extensions is None:
            scope["extensions"] = {"tls": tls, EXTENSION: peer}
        else:
            scope["extensions"] = {**extensions, "tls": tls, EXTENSION: peer}
        method = scope.get("method")
        try:
            is_current = source.snapshot is peer.snapshot
        except CredentialError:
            is_current = False
        if (
            is_current
            and method in _METHODS
            and scope["type"] == "http"
            and (now := time()) <= peer.expires_at
            and peer.refused is None
        ):
            policy, known = verdicts.remembered
            request = (identity, method, scope["path"], scope.get("raw_path"))
            admission = known.get(request) if verdicts.current is policy else None
            if admission is not None:
                hosts = 0
                for name, _ in scope["headers"]:
                    if name not in HARMLESS:
                        hosts += 1 if name == b"host" else 2
                if hosts == 1:
                    scope[SCOPE_KEY] = scope.setdefault("state", {})["caller"] = caller
                    scope[POLICY_KEY] = admission
                    if metrics._recorder is not None or audit._recorder is not None:  # noqa: SLF001
                        record_quickly(peer, admission, scope, now)
                    return app(scope, receive, send, *rest)
        return middleware(scope, receive, send, *rest)

    return serve
