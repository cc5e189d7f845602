# SPDX-License-Identifier: Apache-2.0
"""The entry point of `make demo-edge`; see `examples.edge.command`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this is where it is said
    sys.exit("The demo needs Python 3.11 or newer: run `make demo-edge`.")

try:
    from examples.edge.command import main
except ModuleNotFoundError as err:
    sys.exit(f"The demo needs {err.name!r}, which is not installed here: run `make demo-edge`.")

if __name__ == "__main__":
    sys.exit(main())
