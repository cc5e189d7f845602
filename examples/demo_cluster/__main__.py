# SPDX-License-Identifier: Apache-2.0
"""The entry point of `make demo-cluster`; see `examples.demo_cluster.command`."""

import sys

try:
    from examples.demo_cluster.command import main
except ModuleNotFoundError as err:
    sys.exit(f"The demo needs {err.name!r}, which is not installed here: run `make demo-cluster`.")

if __name__ == "__main__":
    sys.exit(main())
