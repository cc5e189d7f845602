# SPDX-License-Identifier: Apache-2.0
"""Header fields by which proxies tell an identity: never believed, removed on the way in.

Spec: Envoy `x-forwarded-client-cert`; RFC 9440 (`client-cert`); GHSA advisories of Dapr 1.17.16.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("HARMLESS", "inspect_headers", "without_identity")

_MAX_HARMLESS = 1024

HARMLESS: set[bytes] = {b"accept", b"accept-encoding", b"connection", b"user-agent"}
"""Names that were found to claim nothing: the quick look of each request. Grows up to a bound.

`host` is not among them: whoever looks has to count those.
"""

_IDENTITY = re.compile(
    rb"(?:x-)?(?:"
    rb"forwarded-client-cert.*|forwarded-tls-client-cert.*|forwarded-ssl-client.*"
    rb"|spiffe(?:-.*)?|client-cert.*|client-certificate.*|clientcert.*"
    rb"|ssl-client.*|ssl-cert.*|tls-client-cert.*|arr-clientcert|amzn-mtls-.*"
    rb"|dapr-caller.*|caller-(?:id|app-id|namespace|trust-domain)"
    rb")"
)


def inspect_headers(scope: Any) -> int:
    """Remove the header fields that claim an identity; return how many `Host` fields there are."""
    hosts = 0
    is_suspicious = False
    for name, _ in scope["headers"]:
        if name not in HARMLESS:
            if name == b"host":
                hosts += 1
            else:
                is_suspicious = True
    if is_suspicious:
        scope["headers"] = without_identity(scope["headers"])
    return hosts


def without_identity(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the header fields without those that claim an identity, in any spelling.

    Frameworks that make `HTTP_X_...` names of headers, as WSGI does, cannot tell `x_client_cert`
    from `x-client-cert`, so neither can this.
    """
    return [(name, value) for name, value in headers if not _claims_identity(name)]


def _claims_identity(name: bytes) -> bool:
    if name in HARMLESS:
        return False
    if _IDENTITY.fullmatch(bytes(name).lower().replace(b"_", b"-")):
        return True
    if len(HARMLESS) < _MAX_HARMLESS and len(name) <= 64 and name != b"host":
        HARMLESS.add(bytes(name))
    return False
