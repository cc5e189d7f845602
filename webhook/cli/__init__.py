# SPDX-License-Identifier: Apache-2.0
"""The command line of the control plane.

Rules:
    1. A user sees one clean line for each error, never a traceback; exit status 2.
    2. A command loads what it needs and no more: the injector loads no client of the API.
"""

from .command_line import main

__all__ = ("main",)
