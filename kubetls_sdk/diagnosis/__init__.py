# SPDX-License-Identifier: Apache-2.0
"""What is mounted and what is wrong with it: `kubetls inspect` and `doctor` without the commands.

Rules:
    1. `gather` reads the disk once; everything after it is a pure function of its `Evidence`.
    2. Names of findings and keys of the JSON documents are stable: scripts and alerts rely on them.
    3. Nothing here ever holds or shows a private key's content.
"""

from __future__ import annotations

from .diagnosis import diagnose
from .evidence import Evidence, FileFacts, gather
from .finding import FAULTS, Fault, Finding
from .image_checks import check_image, mounted_authorities
from .inventory import describe

__all__ = (
    "FAULTS",
    "Evidence",
    "Fault",
    "FileFacts",
    "Finding",
    "check_image",
    "describe",
    "diagnose",
    "gather",
    "mounted_authorities",
)
