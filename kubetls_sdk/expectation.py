# SPDX-License-Identifier: Apache-2.0
"""Whom a connection is meant for: the identity that is *required*, as opposed to the presented one.

Rules:
    1. A client always has an expectation; there is no default.
    2. "Anyone of a trust domain" exists, but has to be written out.
    3. A DNS name is believed only from a leaf of our own trust domain: a partner's authority may
       not vouch for our service names.

Spec: SPIFFE-ID §2; RFC 9525 §6.3 (DNS-ID comparison, without wildcards).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cryptography import x509

from kubetls_sdk.exceptions import ConfigurationError, PeerUnauthorizedError
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
from kubetls_sdk.spiffe_id_pattern import SpiffeIdPattern

if TYPE_CHECKING:
    from kubetls_sdk.verification import VerifiedPeer

__all__ = (
    "AnyMember",
    "AnyTrusted",
    "ExpectedPeer",
    "OneOf",
    "ServiceName",
    "expected_peer",
)


@runtime_checkable
class ExpectedPeer(Protocol):
    """Decides in the handshake whether a verified peer is the one that was asked for."""

    def is_met_by(self, peer: VerifiedPeer, *, own: TrustDomain) -> bool:
        """Tell whether `peer` is expected; `own` is the trust domain of our own SVID."""
        ...

    def __str__(self) -> str:
        """Say in words who is expected, for errors: `expected <this>, got ...`."""
        ...


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several identities or identity patterns.

    Attributes:
        patterns: At least one.
    """

    patterns: frozenset[SpiffeIdPattern]

    def __post_init__(self) -> None:
        if not self.patterns:
            raise ConfigurationError("expected at least one SPIFFE ID of the peer, got none")

    def is_met_by(self, peer: VerifiedPeer, *, own: TrustDomain) -> bool:
        """Tell whether the proven identity fits one of the patterns."""
        return any(pattern.matches(peer.spiffe_id) for pattern in self.patterns)

    def __str__(self) -> str:
        return " or ".join(sorted(repr(str(pattern)) for pattern in self.patterns))


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A DNS name that the signer of our own trust domain put into the peer's certificate.

    Attributes:
        dns_name: ASCII; compared without case, its trailing dot dropped. Wildcards and trailing
            dots in the certificate are never honoured: name constraints read them differently.
    """

    dns_name: str

    def __post_init__(self) -> None:
        if not _canonical(self.dns_name).strip(".") or "*" in self.dns_name:
            raise ConfigurationError(f"expected a DNS name, got {self.dns_name!r}")
        if not self.dns_name.isascii():
            raise ConfigurationError(f"expected a DNS name in ASCII, got {self.dns_name!r}")

    def is_met_by(self, peer: VerifiedPeer, *, own: TrustDomain) -> bool:
        """Tell whether the peer is of our own trust domain and its leaf carries the name."""
        if peer.spiffe_id.trust_domain != own:
            return False
        names = peer.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wanted = _canonical(self.dns_name)
        return any(n.lower() == wanted for n in names.get_values_for_type(x509.DNSName))

    def __str__(self) -> str:
        return f"a certificate of our own trust domain for {self.dns_name!r}"


@dataclass(frozen=True, slots=True)
class AnyMember:
    """Any workload of one trust domain.

    Attributes:
        trust_domain: The domain that is trusted as a whole.
    """

    trust_domain: TrustDomain

    def is_met_by(self, peer: VerifiedPeer, *, own: TrustDomain) -> bool:
        """Tell whether the peer belongs to the trust domain."""
        return peer.spiffe_id.trust_domain == self.trust_domain

    def __str__(self) -> str:
        return f"any workload of {str(self.trust_domain)!r}"


@dataclass(frozen=True, slots=True)
class AnyTrusted:
    """Any workload of any trust domain in our bundles: for servers, where a policy decides next."""

    def is_met_by(self, peer: VerifiedPeer, *, own: TrustDomain) -> bool:
        """Every verified peer is expected."""
        return True

    def __str__(self) -> str:
        return "any verified workload"


def expected_peer(value: object) -> ExpectedPeer:
    """Turn what a user writes into an expectation.

    Args:
        value: A SPIFFE ID or pattern (`str`, `SpiffeId`, `SpiffeIdPattern`), several of them, or
            an `ExpectedPeer` as it is.

    Raises:
        ConfigurationError: Nothing is expected, or the value is of another kind.
        SpiffeIdError: A text is not a SPIFFE ID or pattern.
    """
    if isinstance(value, str | SpiffeId | SpiffeIdPattern):
        return OneOf(frozenset({_pattern(value)}))
    if isinstance(value, ExpectedPeer):
        return value
    if isinstance(value, Iterable):
        return OneOf(frozenset(_pattern(item) for item in value))
    raise ConfigurationError(f"expected the SPIFFE ID of the peer, got {value!r}")


def require(expected: ExpectedPeer, peer: VerifiedPeer, *, own: TrustDomain) -> None:
    """Refuse a verified peer that is not the expected one.

    Raises:
        PeerUnauthorizedError: The peer is another one.
    """
    if not expected.is_met_by(peer, own=own):
        raise PeerUnauthorizedError(expected=str(expected), spiffe_id=peer.spiffe_id)


def _pattern(value: object) -> SpiffeIdPattern:
    if isinstance(value, SpiffeIdPattern):
        return value
    if isinstance(value, str | SpiffeId):
        return SpiffeIdPattern.parse(str(value))
    raise ConfigurationError(f"expected a SPIFFE ID, got {value!r}")


def _canonical(dns_name: str) -> str:
    return dns_name.removesuffix(".").lower()
