# SPDX-License-Identifier: Apache-2.0
"""KubeTLS: mutual TLS with SPIFFE identities inside the application.

This package exports the core: values, sources and errors. The edges are imported by their full
name, so that no framework is loaded unasked: `kubetls_sdk.server`, `kubetls_sdk.client`,
`kubetls_sdk.authz`, `kubetls_sdk.testing`.
"""

from __future__ import annotations

import logging

from .bundle import TrustBundle, TrustBundleSet
from .exceptions import (
    BundleError,
    ConfigurationError,
    CredentialError,
    KubeTLSError,
    NotReadyError,
    PeerError,
    PeerUnauthorizedError,
    PeerVerificationError,
    PolicyError,
    SourceClosedError,
    SpiffeIdError,
    SvidError,
    VolumeError,
)
from .source import Snapshot, Source, StaticSource
from .source_status import SourceStatus
from .spiffe_id import SpiffeId, TrustDomain
from .svid import X509Svid
from .verification import VerifiedPeer, verify_svid
from .volume import VolumeFiles
from .volume_source import VolumeSource

__version__ = "0.1.0"

__all__ = (
    "BundleError",
    "ConfigurationError",
    "CredentialError",
    "KubeTLSError",
    "NotReadyError",
    "PeerError",
    "PeerUnauthorizedError",
    "PeerVerificationError",
    "PolicyError",
    "Snapshot",
    "Source",
    "SourceClosedError",
    "SourceStatus",
    "SpiffeId",
    "SpiffeIdError",
    "StaticSource",
    "SvidError",
    "TrustBundle",
    "TrustBundleSet",
    "TrustDomain",
    "VerifiedPeer",
    "VolumeError",
    "VolumeFiles",
    "VolumeSource",
    "X509Svid",
    "__version__",
    "verify_svid",
)

logging.getLogger(__name__).addHandler(logging.NullHandler())
