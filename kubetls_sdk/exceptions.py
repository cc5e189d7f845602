# SPDX-License-Identifier: Apache-2.0
"""Every error that KubeTLS raises, under one root.

The branch says who is at fault::

    KubeTLSError
    ├── ConfigurationError (ValueError)     you: contradictory or missing settings, at construction
    │   └── PolicyError                     you: a policy file, with file, line and rule
    ├── SpiffeIdError (ValueError)          a text is not a SPIFFE ID or trust domain
    ├── CredentialError                     us: our own SVID, bundle or volume cannot be used
    │   ├── SvidError
    │   ├── BundleError
    │   ├── VolumeError
    │   ├── NotReadyError                   waiting is not failing
    │   └── SourceClosedError
    └── PeerError                           them
        ├── PeerVerificationError           not authenticated
        └── PeerUnauthorizedError           authenticated, but not who was asked for

The two peer errors are also `ssl.SSLCertVerificationError`, so code that handles a failed handshake
handles them.

Rules:
    1. A message is one clause, `expected ... got ...`, values through `repr`.
    2. No message or attribute ever holds a private key, a token or a PEM body.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from kubetls_sdk.spiffe_id import SpiffeId

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
    "SourceClosedError",
    "SpiffeIdError",
    "SvidError",
    "VolumeError",
)

_APPLICATION_VERIFICATION = 50  # OpenSSL's X509_V_ERR_APPLICATION_VERIFICATION


class KubeTLSError(Exception):
    """The root of all errors of this package; instances can be copied and pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        # The default calls the constructor with `args`, which are not its parameters.
        return _restored, (type(self), self.args, vars(self))


class ConfigurationError(KubeTLSError, ValueError):
    """A setting is missing, contradictory or out of range."""


class PolicyError(ConfigurationError):
    """A policy cannot be used; `.file`, `.line` (from 1), `.rule` say where; each may be None."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        rule: str | None = None,
    ) -> None:
        where = ":".join(str(part) for part in (file, line) if part is not None)
        named = f"rule {rule!r}: " if rule is not None else ""
        super().__init__(f"{where}: {named}{message}" if where else f"{named}{message}")
        self.file = file
        self.line = line
        self.rule = rule


class SpiffeIdError(KubeTLSError, ValueError):
    """A text is not a SPIFFE ID or trust domain name.

    Attributes:
        value: The text as it was given.
        rule: The rule of the SPIFFE ID standard that it breaks.
    """

    def __init__(self, value: object, rule: str) -> None:
        shown = repr(value)
        if len(shown) > 120:
            shown = f"{shown[:100]}... ({len(shown)} characters)"
        super().__init__(f"{rule}, got {shown}")
        self.value = value
        self.rule = rule


class CredentialError(KubeTLSError):
    """Our own credential cannot be used; `.path` names the file or directory when there is one."""

    def __init__(self, message: str, *, path: str | os.PathLike[str] | None = None) -> None:
        super().__init__(f"{path}: {message}" if path is not None else message)
        self.message = message
        self.path = path


class SvidError(CredentialError):
    """Our certificate or key is malformed, expired, mismatched or breaks the X.509-SVID profile."""


class BundleError(CredentialError):
    """A trust bundle is malformed or belongs to another trust domain."""


class VolumeError(CredentialError):
    """The mounted directory is missing, unreadable or of no known layout."""


class NotReadyError(CredentialError):
    """The source has nothing to hand out yet."""


class SourceClosedError(CredentialError):
    """The source was closed."""


class PeerError(KubeTLSError):
    """The other end of a connection is refused."""


class PeerVerificationError(PeerError, ssl.SSLCertVerificationError):
    """The peer did not authenticate.

    Attributes:
        reason: The check that failed, in one clause.
        spiffe_id: The identity that the peer *claimed*, unproven, when one could be read.
    """

    def __init__(self, reason: str, *, spiffe_id: SpiffeId | None = None) -> None:
        claim = f"peer that claims {str(spiffe_id)!r}" if spiffe_id is not None else "peer"
        super().__init__(1, f"{claim} is not verified: {reason}")
        # The handshake codes of ssl.SSLError are kept; OpenSSL's own reason stays in __cause__.
        self.reason = reason
        self.spiffe_id = spiffe_id
        self.verify_message = reason
        self.verify_code = _APPLICATION_VERIFICATION

    def __str__(self) -> str:
        return str(self.args[1])


class PeerUnauthorizedError(PeerError, ssl.SSLCertVerificationError):
    """The peer proved an identity, which is not one that was asked for.

    Attributes:
        expected: What was asked for, in words.
        spiffe_id: The identity that the peer proved.
        reason: Why it is refused, in one clause.
    """

    def __init__(self, *, expected: str, spiffe_id: SpiffeId) -> None:
        self.reason = f"expected {expected}, got {str(spiffe_id)!r}"
        super().__init__(1, f"peer is refused: {self.reason}")
        self.expected = expected
        self.spiffe_id = spiffe_id
        self.verify_message = self.reason
        self.verify_code = _APPLICATION_VERIFICATION

    def __str__(self) -> str:
        return str(self.args[1])


def _restored(
    kind: type[KubeTLSError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> KubeTLSError:
    error = kind.__new__(kind)
    (OSError if isinstance(error, OSError) else Exception).__init__(error, *arguments)
    vars(error).update(attributes)
    return error
