# SPDX-License-Identifier: Apache-2.0
"""SPIFFE IDs and trust domains as values that cannot be malformed.

Rules:
    1. Strict: only the canonical spelling is an identity. Upper case is refused, never lowered,
       because two parsers that disagree on an identity are an authorization hole.
    2. Lengths are in bytes; the character sets are ASCII, so bytes and characters agree.
    3. Every instance is valid, however it was made: the constructor checks as `parse` does.

Spec: SPIFFE-ID §2, §2.1, §2.2, §2.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubetls_sdk.exceptions import SpiffeIdError

__all__ = ("MAX_SPIFFE_ID_BYTES", "MAX_TRUST_DOMAIN_BYTES", "SpiffeId", "TrustDomain")

MAX_SPIFFE_ID_BYTES = 2048
MAX_TRUST_DOMAIN_BYTES = 255

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_WORKLOAD_PATH = re.compile(r"/ns/([^/]+)/sa/([^/]+)")


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """The name of a trust domain: the root of names and keys.

    Attributes:
        name: Lower-case letters, digits, dots, dashes and underscores; 1 to 255 bytes.

    Raises:
        SpiffeIdError: The name breaks a rule; `.rule` says which.

    Spec: SPIFFE-ID §2.1.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SpiffeIdError(self.name, "expected a non-empty trust domain name")
        if len(self.name) > MAX_TRUST_DOMAIN_BYTES:
            raise SpiffeIdError(self.name, "expected a trust domain name of at most 255 bytes")
        if not _TRUST_DOMAIN.fullmatch(self.name):
            raise SpiffeIdError(
                self.name, "expected only a-z, 0-9, '.', '-' and '_' in a trust domain name"
            )

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """Parse a trust domain name, or the SPIFFE ID of a trust domain (`spiffe://name`).

        Raises:
            SpiffeIdError: The text is neither.
        """
        if isinstance(text, str) and text.startswith(_SCHEME):
            return cls(text.removeprefix(_SCHEME))
        return cls(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """The name of a workload, `spiffe://trust-domain/path`.

    Attributes:
        trust_domain: The domain whose trust bundle decides about this identity.
        path: Empty, or segments that each start with a slash; case-sensitive.

    Raises:
        SpiffeIdError: The path breaks a rule, or the whole exceeds 2,048 bytes.

    Spec: SPIFFE-ID §2, §2.2, §2.3.
    """

    trust_domain: TrustDomain
    path: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.trust_domain, TrustDomain) or not isinstance(self.path, str):
            raise SpiffeIdError(
                (self.trust_domain, self.path), "expected a TrustDomain and a path as text"
            )
        if not self.path:
            return
        if not self.path.startswith("/"):
            raise SpiffeIdError(self.path, "expected a path that starts with '/'")
        for segment in self.path[1:].split("/"):
            _check_segment(segment, self.path)
        size = len(_SCHEME) + len(self.trust_domain.name) + len(self.path)
        if size > MAX_SPIFFE_ID_BYTES:
            raise SpiffeIdError(str(self), "expected a SPIFFE ID of at most 2048 bytes")

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Parse the canonical spelling of a SPIFFE ID.

        Raises:
            SpiffeIdError: The text is not one; `.rule` says which rule it breaks.

        Spec: SPIFFE-ID §2.
        """
        if not isinstance(text, str) or not text.startswith(_SCHEME):
            raise SpiffeIdError(text, "expected a SPIFFE ID that starts with 'spiffe://'")
        if len(text) > MAX_SPIFFE_ID_BYTES:
            raise SpiffeIdError(text, "expected a SPIFFE ID of at most 2048 bytes")
        name, slash, path = text.removeprefix(_SCHEME).partition("/")
        try:
            return cls(TrustDomain(name), slash + path)
        except SpiffeIdError as err:
            raise SpiffeIdError(text, err.rule) from None

    @property
    def namespace(self) -> str | None:
        """The Kubernetes namespace, when the path is exactly `/ns/<namespace>/sa/<account>`."""
        match = _WORKLOAD_PATH.fullmatch(self.path)
        return match[1] if match else None

    @property
    def service_account(self) -> str | None:
        """The service account, when the path is exactly `/ns/<namespace>/sa/<account>`."""
        match = _WORKLOAD_PATH.fullmatch(self.path)
        return match[2] if match else None

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain.name}{self.path}"


def _check_segment(segment: str, path: str) -> None:
    if not segment:
        raise SpiffeIdError(path, "expected no empty path segment and no trailing '/'")
    if segment in (".", ".."):
        raise SpiffeIdError(path, "expected no '.' or '..' path segment")
    if not _SEGMENT.fullmatch(segment):
        raise SpiffeIdError(path, "expected only letters, digits, '.', '-' and '_' in a segment")
