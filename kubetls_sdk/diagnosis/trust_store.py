# SPDX-License-Identifier: Apache-2.0
"""The internal trust store of a container: is it there, and do the libraries find it?

The platform puts it where libraries look for the web's roots, when a pod asks for it by the
annotation `trust-store: internal`, and says so in a variable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.diagnosis.finding import Finding
from kubetls_sdk.exceptions import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kubetls_sdk.diagnosis.evidence import Evidence
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("ANNOTATION", "MARKER", "TrustStore", "check_trust_store", "find_trust_store")

ANNOTATION = "kubetls.gauntletwizard.net/trust-store: internal"
MARKER = "KUBETLS_TRUST_STORE"
_MAX_BYTES = 1024 * 1024
_FILE = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "AWS_CA_BUNDLE",
    "HTTPLIB2_CA_CERTS",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)
_OTHER = MappingProxyType({"NODE_OPTIONS": "--use-openssl-ca", "DENO_TLS_CA_STORE": "system"})


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The internal trust store that a process was told of.

    Attributes:
        path: Of the bundle.
        content: Its bytes, or None when it cannot be read.
        overridden: Variables that have another value than the platform gave them.
    """

    path: str
    content: bytes | None
    overridden: tuple[str, ...]

    def bundle(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """Its authorities; None when it cannot be used."""
        try:
            return (
                None if self.content is None else TrustBundle.from_pem(trust_domain, self.content)
            )
        except BundleError:
            return None


def find_trust_store(environment: Mapping[str, str]) -> TrustStore | None:
    """The internal trust store that an environment tells of; None: it tells of none."""
    path = environment.get(MARKER)
    if not path:
        return None
    expected = {**dict.fromkeys(_FILE, path), "SSL_CERT_DIR": os.path.dirname(path), **_OTHER}
    overridden = (
        name
        for name, value in expected.items()
        if value not in _values(name, environment.get(name, ""))
    )
    return TrustStore(path, _content(path), tuple(overridden))


def check_trust_store(evidence: Evidence) -> Iterator[Finding]:
    """Is the internal trust store that of our trust domain, and is it the one that is used?"""
    store, own = evidence.trust_store, evidence.trust_domain
    if store is None:
        return
    if store.overridden:
        found = f"other values than the platform's: {', '.join(store.overridden)}"
        yield Finding.of("overridden-trust-store", found, store.path)
    mounted = evidence.bundles.get(own) if own is not None else None
    if own is not None and mounted is not None:
        bundle = store.bundle(own)
        if bundle is None:
            yield Finding.of("wrong-trust-store", "it cannot be read", store.path)
        elif set(bundle.authorities) != set(mounted.authorities):
            found = f"it does not have exactly the authorities of {str(own)!r}"
            yield Finding.of("wrong-trust-store", found, store.path)


def _values(name: str, value: str) -> list[str]:
    return value.split(" ") if name == "NODE_OPTIONS" else [value]


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return None
