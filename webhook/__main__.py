# SPDX-License-Identifier: Apache-2.0
"""`python -m webhook`: the parts of the control plane, and commands for its operators."""

from webhook.cli import main

if __name__ == "__main__":
    main()
