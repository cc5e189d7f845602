# SPDX-License-Identifier: Apache-2.0
"""Whom gRPC's core can require in its handshake: names of one trust domain, compared whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetls_sdk.client.xds.resources import dns_name, exact
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.expectation import OneOf, ServiceName, expected_peer

if TYPE_CHECKING:
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("Requirement",)


@dataclass(frozen=True, slots=True)
class Requirement:
    """Who a server has to prove to be.

    Attributes:
        matchers: xDS matchers; the certificate has to carry a name that one of them fits.
        trust_domain: Whose bundle decides; None for our own.
    """

    matchers: tuple[bytes, ...]
    trust_domain: TrustDomain | None

    @classmethod
    def of(cls, server_id: object) -> Requirement:
        """Translate what a user wrote.

        Args:
            server_id: A SPIFFE ID, several of one trust domain, or a `ServiceName`.

        Raises:
            ConfigurationError: Something that gRPC's core cannot verify in the handshake.
            SpiffeIdError: A text is not a SPIFFE ID.
        """
        expected = expected_peer(server_id)
        if isinstance(expected, ServiceName):
            return cls((dns_name(expected.dns_name.removesuffix(".")),), None)
        if not isinstance(expected, OneOf) or not all(p.is_exact for p in expected.patterns):
            raise ConfigurationError(
                f"expected exact SPIFFE IDs or a ServiceName for gRPC, got {expected!s}"
            )
        domains = {pattern.trust_domain for pattern in expected.patterns}
        if len(domains) != 1:
            raise ConfigurationError(
                f"expected SPIFFE IDs of one trust domain for a channel, got {expected!s}:"
                " gRPC verifies a channel against one bundle"
            )
        names = sorted(map(str, expected.patterns))
        return cls(tuple(exact(name) for name in names), domains.pop())
