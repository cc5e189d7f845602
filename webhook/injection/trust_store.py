# SPDX-License-Identifier: Apache-2.0
"""The pod's own trust store: the zone's bundle where programs look for the web's roots.

Libraries find their roots by a variable, or at a place that was fixed when they were built. Both
are led to one volume with nothing but the zone's bundle, under each name that it is looked for.

Rules:
    1. Every variable that could lead a library back to the image's roots is written, those too
       that only add to them.
    2. Partners are not in it: whoever signs for a partner's identities has no say in DNS names.
    3. The places are whole folders, so that the kubelet can renew what is in them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from webhook.names import TRUST_STORE_PLACES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("BUNDLE", "FILES", "OPTION_LISTS", "VARIABLES")

FILES: Final = (
    "ca-certificates.crt",
    "ca-bundle.crt",
    "tls-ca-bundle.pem",
    "directory-hash/ca-certificates.crt",
    "directory-hash/ca-bundle.crt",
)
"""Names of the bundle: Debian's and Alpine's, and Red Hat's, whose `/etc/ssl/certs` may be a link
to `directory-hash` in the second place."""

BUNDLE: Final = f"{TRUST_STORE_PLACES[0]}/{FILES[0]}"
"""Where a container finds the bundle, whatever its image."""

VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "KUBETLS_TRUST_STORE": BUNDLE,
        "SSL_CERT_FILE": BUNDLE,
        "SSL_CERT_DIR": TRUST_STORE_PLACES[0],
        "REQUESTS_CA_BUNDLE": BUNDLE,
        "CURL_CA_BUNDLE": BUNDLE,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": BUNDLE,
        "AWS_CA_BUNDLE": BUNDLE,
        "HTTPLIB2_CA_CERTS": BUNDLE,
        "PIP_CERT": BUNDLE,
        "GIT_SSL_CAINFO": BUNDLE,
        "NODE_EXTRA_CA_CERTS": BUNDLE,
        "NODE_OPTIONS": "--use-openssl-ca",
        "DENO_TLS_CA_STORE": "system",
    }
)
"""What every container gets; the first says that it was done."""

OPTION_LISTS: Final = frozenset({"NODE_OPTIONS"})
"""Variables in which the author may have more than what is wanted, separated by spaces."""
