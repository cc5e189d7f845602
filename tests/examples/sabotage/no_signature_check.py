# SPDX-License-Identifier: Apache-2.0
"""`kubetls` that believes what users' tokens say, whoever signed them."""

from __future__ import annotations

from typing import Any

from kubetls_sdk.cli import main
from kubetls_sdk.users.key_set import KeySet


def unchecked(self: KeySet, *token: Any) -> None:
    del self, token


if __name__ == "__main__":
    KeySet.verify = unchecked  # type: ignore[method-assign]
    main()
