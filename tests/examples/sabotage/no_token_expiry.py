# SPDX-License-Identifier: Apache-2.0
"""`kubetls` that takes users' tokens for ever."""

from __future__ import annotations

from typing import Any

from kubetls_sdk.cli import main
from kubetls_sdk.users import claims


def unchecked(*request: Any) -> None:
    del request


if __name__ == "__main__":
    vars(claims)["_check_times"] = unchecked
    main()
