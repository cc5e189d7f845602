# SPDX-License-Identifier: Apache-2.0
"""Header fields by which proxies tell an identity: never believed, removed on the way in.

The one exception is a proxy that was named: see `kubetls_sdk.server.forwarded`.

Rules:
    1. Names are compared as frameworks do that make `HTTP_X_...` names of headers: `_` is `-`, and
       in upper case, where one Latin letter becomes two.
    2. What was removed is counted, and logged now and then: it is no error.

Spec: Envoy `x-forwarded-client-cert`; RFC 9440 (`client-cert`); GHSA advisories of Dapr 1.17.16.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kubetls_sdk import metrics
from kubetls_sdk.server.refusal_log import LogQuota, log

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("HARMLESS", "claims_identity", "inspect_headers", "spelled_alike", "without_identity")

_MAX_HARMLESS = 1024

HARMLESS: set[bytes] = {b"accept", b"accept-encoding", b"connection", b"user-agent"}
"""Names that were found to claim nothing: the quick look of each request. Grows up to a bound."""

_ALWAYS_LOOKED_AT = frozenset({b"host", b"transfer-encoding"})
"""Never among them: whoever looks has to count hosts, and to keep trailers apart (below)."""

_IDENTITY = re.compile(
    r"(?:X-)?(?:"
    r"FORWARDED-CLIENT-CERT.*|FORWARDED-TLS-CLIENT-CERT.*|FORWARDED-SSL-CLIENT.*"
    r"|SPIFFE(?:-.*)?|CLIENT-CERT.*|CLIENT-CERTIFICATE.*|CLIENTCERT.*"
    r"|SSL-CLIENT.*|SSL-CERT.*|TLS-CLIENT-CERT.*|ARR-CLIENTCERT|AMZN-MTLS-.*"
    r"|DAPR-CALLER.*|CALLER-(?:ID|APP-ID|NAMESPACE|TRUST-DOMAIN)"
    r")",
    re.DOTALL,
)
_quota = LogQuota(burst=1, per_second=1 / 60)


def inspect_headers(scope: Any) -> int:
    """Remove the header fields that claim an identity; return how many `Host` fields there are.

    The list is a new one wherever a body comes in chunks: some servers append its trailers, which
    nobody has looked at, to the list that they gave us.
    """
    hosts = 0
    is_suspicious = False
    for name, _ in scope["headers"]:
        if name not in HARMLESS:
            if name == b"host":
                hosts += 1
            else:
                is_suspicious = True
    if is_suspicious:
        found = scope["headers"]
        kept = scope["headers"] = without_identity(found)
        if len(kept) != len(found):
            _note([name for name, _ in found if claims_identity(name)], scope)
    return hosts


def without_identity(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the header fields without those that claim an identity, in any spelling.

    Frameworks that make `HTTP_X_...` names of headers, as WSGI does, cannot tell `x_client_cert`
    from `x-client-cert`, so neither can this.
    """
    return [(name, value) for name, value in headers if not claims_identity(name)]


def claims_identity(name: bytes) -> bool:
    """Whether a header field of this name claims an identity."""
    if name in HARMLESS:
        return False
    if _IDENTITY.fullmatch(spelled_alike(name)):
        return True
    if len(HARMLESS) < _MAX_HARMLESS and len(name) <= 64 and name not in _ALWAYS_LOOKED_AT:
        HARMLESS.add(bytes(name))
    return False


def spelled_alike(name: bytes) -> str:
    """The one spelling of all names that some framework takes for the same."""
    return bytes(name).decode("latin-1").upper().replace("_", "-")


def _note(names: list[bytes], scope: Any) -> None:
    metrics.increment(metrics.IDENTITY_HEADERS, len(names))
    if _quota.take():
        client = scope.get("client")
        shown = ", ".join(repr(name[:64].decode("latin-1")) for name in names[:3])
        log.warning(
            "removed header fields that claim an identity, from %r: %s (%d more removals were not"
            " logged)",
            client[0] if client else "unix socket",
            shown,
            _quota.suppressed,
        )
        _quota.suppressed = 0
