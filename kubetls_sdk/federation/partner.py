# SPDX-License-Identifier: Apache-2.0
"""A partner as it is configured: its trust domain, and where its bundle comes from.

Rules:
    1. The trust domain is always written down; nothing that is fetched can name or change it.
    2. The profile of an endpoint is written down too, with what it authenticates by: there is no
       weaker one to fall back to.
    3. A bundle is fetched again within bounds of ours, whatever the partner hints.

Spec: SPIFFE Federation §5.1, §5.2, §7.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography import x509

from kubetls_sdk._document_request import check_url
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    import os

__all__ = ("Endpoint", "Partner", "Profile")

_MAX_TIMEOUT_SECONDS = 60
_POLLS_BEFORE_STALE = 3


class Profile(StrEnum):
    """How the server of a bundle endpoint is authenticated."""

    WEB = "https_web"
    SPIFFE = "https_spiffe"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A bundle endpoint of a partner.

    Attributes:
        url: https, as configured; redirects are followed each time anew, never remembered.
        profile: `https_web` or `https_spiffe`.
        spiffe_id: Of its server; for `https_spiffe`.
        ca_file: PEM file of the roots to trust in place of the web's; only for `https_web`. It is
            read at each fetch.
        roots: The same as PEM text.

    Raises:
        ConfigurationError: The parts do not fit the profile.

    Spec: SPIFFE Federation §5.2.1.1, §5.2.2.1, §5.2.2.2.
    """

    url: str
    profile: Profile
    spiffe_id: SpiffeId | None = None
    ca_file: str | os.PathLike[str] | None = None
    roots: str | None = None

    def __post_init__(self) -> None:
        check_url(self.url, what="a bundle endpoint")
        object.__setattr__(self, "profile", _profile(self.profile))
        if self.profile is Profile.SPIFFE and (self.spiffe_id is None or not self.spiffe_id.path):
            raise ConfigurationError("expected the SPIFFE ID of the server with https_spiffe")
        if self.profile is Profile.SPIFFE and (self.ca_file or self.roots) is not None:
            raise ConfigurationError("expected no CA file with https_spiffe: a bundle decides")
        if self.ca_file is not None and self.roots is not None:
            raise ConfigurationError("expected roots from a file or as text, got both")
        if self.roots is not None:
            _check_roots(self.roots)
        if self.profile is Profile.WEB and self.spiffe_id is not None:
            raise ConfigurationError("expected no SPIFFE ID with https_web: web roots decide")


@dataclass(frozen=True, kw_only=True)
class Partner:
    """One partner.

    Attributes:
        trust_domain: Whose bundle it is.
        endpoint: Where it is fetched; None when it is a file.
        bundle: PEM or JWKS file, or a bundle. Without an endpoint it is the partner's; with an
            `https_spiffe` endpoint of the same trust domain it verifies the first fetch, and trusts
            nobody else.
        min_refresh_seconds: Fetch at most this often.
        max_refresh_seconds: And at least this often.
        max_stale_seconds: How long a bundle that cannot be renewed stays in force.
        timeout_seconds: For a whole fetch.

    Raises:
        ConfigurationError: Neither endpoint nor bundle, a bundle that the endpoint has no use for
            or needs, or times out of range.
    """

    trust_domain: TrustDomain
    endpoint: Endpoint | None = None
    bundle: str | os.PathLike[str] | TrustBundle | None = None
    min_refresh_seconds: float = 60.0
    max_refresh_seconds: float = 3600.0
    max_stale_seconds: float = 86400.0
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.trust_domain, TrustDomain):
            raise ConfigurationError(f"expected a TrustDomain, got {self.trust_domain!r}")
        if self.endpoint is None and self.bundle is None:
            raise ConfigurationError("expected an endpoint or a bundle of the partner, got none")
        if self.endpoint is not None and self.is_self_serving != (self.bundle is not None):
            raise ConfigurationError(
                "expected a bundle beside an https_spiffe endpoint of the same trust domain, to"
                " verify the first fetch, and none beside any other"
            )
        if isinstance(self.bundle, TrustBundle) and self.bundle.trust_domain != self.trust_domain:
            raise ConfigurationError(
                f"expected a bundle of {str(self.trust_domain)!r}, got one of"
                f" {str(self.bundle.trust_domain)!r}"
            )
        if not 0 < self.min_refresh_seconds <= self.max_refresh_seconds:
            raise ConfigurationError("expected 0 < min_refresh_seconds <= max_refresh_seconds")
        if self.max_stale_seconds < _POLLS_BEFORE_STALE * self.min_refresh_seconds:
            raise ConfigurationError(
                f"expected max_stale_seconds of {_POLLS_BEFORE_STALE} min_refresh_seconds or more"
            )
        if not 0 < self.timeout_seconds <= _MAX_TIMEOUT_SECONDS:
            raise ConfigurationError(f"expected a timeout of at most {_MAX_TIMEOUT_SECONDS} s")

    @property
    def is_self_serving(self) -> bool:
        """Whether the endpoint's server is of the trust domain whose bundle it serves."""
        server = self.endpoint.spiffe_id if self.endpoint is not None else None
        return server is not None and server.trust_domain == self.trust_domain

    def refresh_seconds(self, hint: int | None) -> float:
        """When to fetch again, by the hint of the bundle in force, within our bounds.

        Several fetches may fail before a bundle is too old to be used.

        Spec: SPIFFE Federation §4.1; SPIFFE Trust Domain and Bundle §4.1.2.
        """
        longest = min(self.max_refresh_seconds, self.max_stale_seconds / _POLLS_BEFORE_STALE)
        return max(self.min_refresh_seconds, min(300 if hint is None else hint, longest))


def _check_roots(text: str) -> None:
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError as err:
        raise ConfigurationError("expected roots to be PEM certificates") from err


def _profile(value: str) -> Profile:
    try:
        return Profile(value)
    except ValueError:
        known = " or ".join(Profile)
        raise ConfigurationError(f"expected the profile {known}, got {value!r}") from None
