# SPDX-License-Identifier: Apache-2.0
"""Header fields by which proxies tell an identity: never believed, removed on the way in.

Spec: Envoy `x-forwarded-client-cert`; RFC 9440 (`client-cert`); GHSA advisories of Dapr 1.17.16.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("MARKS", "without_identity")

MARKS = (b"cert", b"spiffe", b"ssl-client", b"caller", b"mtls", b"_")
"""A header name that holds none of these is no identity header: the quick look of each request.

The underscore is among them because frameworks that make `HTTP_X_...` names of headers, as WSGI
does, cannot tell `x_client_cert` from `x-client-cert`."""

_IDENTITY = re.compile(
    rb"(?:x-)?(?:"
    rb"forwarded-client-cert.*|forwarded-tls-client-cert.*|forwarded-ssl-client.*"
    rb"|spiffe(?:-.*)?|client-cert.*|client-certificate.*|clientcert.*"
    rb"|ssl-client.*|ssl-cert.*|tls-client-cert.*|arr-clientcert|amzn-mtls-.*"
    rb"|dapr-caller.*|caller-(?:id|app-id|namespace|trust-domain)"
    rb")"
)


def without_identity(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the header fields without those that claim an identity, in any spelling."""
    return [
        (name, value)
        for name, value in headers
        if not _IDENTITY.fullmatch(bytes(name).lower().replace(b"_", b"-"))
    ]
