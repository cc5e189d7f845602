# SPDX-License-Identifier: Apache-2.0
"""The five checks on every request, as the audit log tells them.

Rules:
    1. Each check has a result; the evidence is in the other fields of its record.
    2. A check that came to no answer, because an earlier one failed, is not one that passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

__all__ = ("Check", "Checks", "decided", "not_decided")


_NAMES = (
    "encryption",
    "service_authentication",
    "service_authorization",
    "user_authentication",
    "user_authorization",
)


class Check(StrEnum):
    """The result of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_ASKED = "not-asked"
    """Nobody asked for it: an anonymous caller where those are let in, a rule without users."""

    NOT_REACHED = "not-reached"
    """An earlier check failed."""


@dataclass(frozen=True, slots=True)
class Checks:
    """The results of all five, with where the evidence is.

    Attributes:
        encryption: Of the connection; evidence: `tls`.
        service_authentication: Who the peer is; evidence: `spiffe_id` and `generation`.
        service_authorization: Whether that peer may do it; evidence: `rule` and `reason`.
        user_authentication: Who the end user is; evidence: `user`.
        user_authorization: Whether that user may do it to this resource; evidence: `rule` and
            `reason`.
        text: All of them as a JSON object.
    """

    encryption: Check
    service_authentication: Check
    service_authorization: Check
    user_authentication: Check
    user_authorization: Check
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pairs = (f'"{name}":"{getattr(self, name).value}"' for name in _NAMES)
        object.__setattr__(self, "text", "{" + ",".join(pairs) + "}")


@lru_cache(maxsize=256)
def decided(allowed: bool, is_known: bool, has_user: bool, is_user_asked: bool) -> Checks:
    """The checks of a request that a policy decided about.

    Args:
        allowed: What it said.
        is_known: Whether the peer proved an identity.
        has_user: Whether an end user was authenticated.
        is_user_asked: Whether the policy looked at the user.
    """
    decides_user = has_user and is_user_asked
    if allowed:
        service, user = Check.PASSED, Check.PASSED if decides_user else Check.NOT_ASKED
    elif decides_user:
        service, user = Check.PASSED, Check.FAILED
    else:
        service, user = Check.FAILED, Check.NOT_REACHED
    return Checks(
        Check.PASSED,
        Check.PASSED if is_known else Check.NOT_ASKED,
        service,
        Check.PASSED if has_user else Check.NOT_ASKED,
        user,
    )


@lru_cache(maxsize=256)
def not_decided(
    *, is_known: bool | None, is_user_refused: bool = False, is_service_allowed: bool = False
) -> Checks:
    """The checks of a request that was refused before or after the policy.

    Args:
        is_known: Whether the peer proved an identity; None when its proof failed.
        is_user_refused: Whether it was for want of an end user.
        is_service_allowed: Whether the policy had allowed it.
    """
    service = {None: Check.FAILED, True: Check.PASSED, False: Check.NOT_ASKED}[is_known]
    return Checks(
        Check.PASSED,
        service,
        Check.PASSED if is_service_allowed else Check.NOT_REACHED,
        Check.FAILED if is_user_refused else Check.NOT_REACHED,
        Check.NOT_REACHED,
    )
