# SPDX-License-Identifier: Apache-2.0
"""`python -m kubetls_sdk` is the `kubetls` command."""

from __future__ import annotations

from kubetls_sdk.cli import main

if __name__ == "__main__":
    main()
