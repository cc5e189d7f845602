# SPDX-License-Identifier: Apache-2.0
"""The common name of a pod's certificate: for people, never an identity.

Spec: RFC 5280 appendix A.1 (ub-common-name is 64); pods' names have up to 253 characters.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ("MAX_COMMON_NAME", "common_name")

MAX_COMMON_NAME: Final = 64
_DIGITS: Final = 20


def common_name(pod_name: str) -> str:
    """The pod's name; of one with more than 64 characters its start, a dash and a fingerprint.

    The fingerprint is the first 20 hexadecimal digits of the SHA-256 of the whole name, so that two
    pods whose names start alike differ.
    """
    if len(pod_name) <= MAX_COMMON_NAME:
        return pod_name
    fingerprint = hashlib.sha256(pod_name.encode()).hexdigest()[:_DIGITS]
    start = pod_name[: MAX_COMMON_NAME - _DIGITS - 1].rstrip("-.")
    return f"{start}-{fingerprint}"
