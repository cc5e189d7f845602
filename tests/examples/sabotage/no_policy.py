# SPDX-License-Identifier: Apache-2.0
"""`kubetls` whose policies allow everything to everybody."""

from __future__ import annotations

from typing import Any

from kubetls_sdk.authz import Decision, Kind, PolicySet
from kubetls_sdk.cli import main


def allow(self: PolicySet, *request: Any) -> Decision:
    del self, request
    return Decision(True, Kind.ALLOWED, "sabotage")


if __name__ == "__main__":
    PolicySet.decide = allow  # type: ignore[method-assign,assignment]
    main()
