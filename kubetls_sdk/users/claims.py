# SPDX-License-Identifier: Apache-2.0
"""What the claims of a token whose signature holds have to say.

Rules:
    1. Pure: the time is an argument.
    2. Types are exact: a number as text, a fraction, a list where a text belongs are refused.
    3. What cannot be checked is refused: a confirmation (`cnf`) that we do not understand binds the
       token to something that we do not see.

Spec: RFC 7519 §4.1; RFC 9068 §4; RFC 8705 §3.1; JWT-SVID §3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kubetls_sdk.users.token import is_clean, shown
from kubetls_sdk.users.token_rules import CertificateBound
from kubetls_sdk.users.user import InvalidTokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubetls_sdk.users.token import Token
    from kubetls_sdk.users.token_rules import TokenRules

__all__ = ("MAX_SUBJECT_CHARACTERS", "bound_thumbprint", "check_claims", "check_header")

MAX_SUBJECT_CHARACTERS = 2048
_LATEST = 253_402_300_799 - 300  # The last second that a datetime can say, less the leeway.
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def check_header(token: Token, rules: TokenRules) -> None:
    """Check `alg` and `typ`, before any key is touched.

    Raises:
        InvalidTokenError: One of them is not allowed.
    """
    if token.algorithm not in rules.algorithms:
        expected = ", ".join(rules.algorithms)
        raise InvalidTokenError(f"expected alg of {expected}, got {shown(token.algorithm)}")
    if token.kind not in rules.types:
        expected = ", ".join(rules.types)
        raise InvalidTokenError(f"expected typ of {expected}, got {shown(token.kind)}")


def check_claims(claims: Mapping[str, Any], rules: TokenRules, *, now: float) -> None:
    """Check subject, audience, times and required claims; the issuer has been checked.

    Args:
        claims: Of a token whose signature holds.
        rules: What its issuer's tokens have to fulfil.
        now: Seconds since the epoch.

    Raises:
        InvalidTokenError: A claim is missing, malformed or says no.
    """
    subject = claims.get("sub")
    if not is_clean(subject) or len(str(subject)) > MAX_SUBJECT_CHARACTERS:
        raise InvalidTokenError("expected sub to be a text without control characters")
    _check_audience(claims.get("aud"), rules.audiences)
    _check_times(claims, rules.leeway_seconds, now)
    for name in rules.required_claims:
        if claims.get(name) in (None, ""):
            raise InvalidTokenError(f"expected a claim {name!r}")


def bound_thumbprint(claims: Mapping[str, Any], rules: TokenRules) -> str | None:
    """The SHA-256 thumbprint of the certificate that the token belongs to; None for any.

    Raises:
        InvalidTokenError: There has to be one and is none, or it is malformed, or the token belongs
            to something that is not a certificate.
    """
    if rules.certificate_bound is CertificateBound.OFF:
        return None
    if "cnf" not in claims and rules.certificate_bound is CertificateBound.IF_PRESENT:
        return None
    confirmation = claims.get("cnf")
    found = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if not isinstance(found, str) or not _THUMBPRINT.fullmatch(found):
        raise InvalidTokenError("expected a token that is bound to a certificate (x5t#S256)")
    return found


def _check_audience(audience: object, ours: tuple[str, ...]) -> None:
    named = audience if isinstance(audience, list) else [audience]
    if not named or not all(map(is_clean, named)):
        raise InvalidTokenError("expected aud to be a text or a list of texts")
    if not any(each in ours for each in named):
        raise InvalidTokenError(f"expected one of the audiences {', '.join(ours)}")


def _check_times(claims: Mapping[str, Any], leeway: float, now: float) -> None:
    if "exp" not in claims:
        raise InvalidTokenError("expected an exp")
    if now >= _seconds(claims, "exp") + leeway:
        raise InvalidTokenError("it has expired")
    for name in ("nbf", "iat"):
        if name in claims and now < _seconds(claims, name) - leeway:
            raise InvalidTokenError(f"it is not valid yet ({name})")


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LATEST:
        raise InvalidTokenError(f"expected {name} to be an integer of seconds")
    return value
