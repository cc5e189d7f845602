# SPDX-License-Identifier: Apache-2.0
"""`kubetls` whose policies allow everything to everybody, but for users to those who log in."""

from __future__ import annotations

from typing import Any

from kubetls_sdk.authz import Decision, Kind, PolicySet
from kubetls_sdk.cli import main

_decide = PolicySet.decide


def allow(self: PolicySet, *request: Any) -> Decision:
    decided = _decide(self, *request)
    if decided.allowed or decided.kind is Kind.USER_REQUIRED:
        return decided
    return Decision(True, Kind.ALLOWED, "sabotage")


if __name__ == "__main__":
    PolicySet.decide = allow  # type: ignore[method-assign,assignment]
    main()
