# SPDX-License-Identifier: Apache-2.0
"""Which tokens are accepted: of issuers, and of the trust domains that issue JWT-SVIDs.

Rules:
    1. An audience is always required: a token for somebody else is not for us.
    2. Only asymmetric algorithms can be allowed.
    3. A token of type `at+jwt` is expected unless something else is said: an ID token is no access
       token.
    4. JWT-SVIDs are accepted of our own trust domain, and of others only by name.

Spec: RFC 9068 §4; RFC 8725 §3; JWT-SVID §2, §3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.users.key_set import ALGORITHMS
from kubetls_sdk.users.token import is_clean

if TYPE_CHECKING:
    from kubetls_sdk.spiffe_id import TrustDomain
    from kubetls_sdk.users.keys import Keys

__all__ = (
    "JWT_SVID_ALGORITHMS",
    "MAX_LEEWAY_SECONDS",
    "CertificateBound",
    "Issuer",
    "JwtSvids",
    "TokenRules",
)

JWT_SVID_ALGORITHMS: Final = tuple(each for each in ALGORITHMS if each != "EdDSA")
"""Of JWT-SVID §2.1."""

MAX_LEEWAY_SECONDS: Final = 300.0


class CertificateBound(StrEnum):
    """Whether a token has to belong to the certificate of the connection (RFC 8705)."""

    REQUIRED = "required"
    IF_PRESENT = "if_present"
    """A token with a confirmation has to fit it; one without is a bearer token."""

    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class TokenRules:
    """What every accepted token has to fulfil; see `Issuer` and `JwtSvids`.

    Attributes:
        audiences: Our own names, of which `aud` has to hold one.
        algorithms: Allowed `alg`.
        types: Allowed `typ` in lower case without `application/`; `absent` for none at all.
        required_claims: Claims that have to be there, besides those that are always required.
        leeway_seconds: Allowed clock skew, up to 300.
        certificate_bound: Whether tokens have to belong to the connection's certificate.

    Raises:
        ConfigurationError: A setting is missing or out of range.
    """

    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ALGORITHMS
    types: tuple[str, ...] = ("at+jwt",)
    required_claims: tuple[str, ...] = ()
    leeway_seconds: float = 30.0
    certificate_bound: CertificateBound = CertificateBound.IF_PRESENT

    def __post_init__(self) -> None:
        for name in ("audiences", "algorithms", "types", "required_claims"):
            value = getattr(self, name)
            values = (value,) if isinstance(value, str) else tuple(value)
            if not all(map(is_clean, values)) or not (values or name == "required_claims"):
                raise ConfigurationError(f"expected texts as {name}, got {value!r}")
            object.__setattr__(self, name, values)
        unknown = sorted(set(self.algorithms) - set(self._known_algorithms()))
        if unknown:
            expected = ", ".join(self._known_algorithms())
            raise ConfigurationError(f"expected algorithms of {expected}, got {unknown[0]!r}")
        if not 0 <= self.leeway_seconds <= MAX_LEEWAY_SECONDS:
            raise ConfigurationError(
                f"expected a leeway from 0 to 300 seconds, got {self.leeway_seconds!r}"
            )
        object.__setattr__(self, "types", tuple(each.lower() for each in self.types))
        bound = CertificateBound(self.certificate_bound)
        object.__setattr__(self, "certificate_bound", bound)

    def _known_algorithms(self) -> tuple[str, ...]:
        return ALGORITHMS


@dataclass(frozen=True, kw_only=True)
class Issuer(TokenRules):
    """An issuer of access tokens.

    Attributes:
        name: Exactly `iss`.
        keys: Where its keys are; they verify tokens of no other issuer.
    """

    name: str
    keys: Keys

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_clean(self.name) or self.name.startswith("spiffe:"):
            raise ConfigurationError(f"expected the name of an issuer, got {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class JwtSvids(TokenRules):
    """JWT-SVIDs as user tokens; the keys are those of the trust bundles.

    Attributes:
        trust_domains: Whose tokens are accepted; empty for our own only.
    """

    algorithms: tuple[str, ...] = JWT_SVID_ALGORITHMS
    types: tuple[str, ...] = ("jwt", "jose", "absent")
    trust_domains: tuple[TrustDomain, ...] = ()

    def _known_algorithms(self) -> tuple[str, ...]:
        return JWT_SVID_ALGORITHMS
