# SPDX-License-Identifier: Apache-2.0
"""Certificates for partners: their CA signed by ours under constraints, or single workloads.

Rules:
    1. What cannot be constrained is refused, never signed with a warning.
    2. No private key but that of a partner's root, which is ours, is ever made here: others send a
       CSR and keep theirs.
"""

from __future__ import annotations

from .authority import SigningAuthority
from .constraints import PartnerConstraints
from .cross import cross_sign
from .partner_authority import PartnerAuthority
from .partner_roots import PartnerRoots

__all__ = (
    "PartnerAuthority",
    "PartnerConstraints",
    "PartnerRoots",
    "SigningAuthority",
    "cross_sign",
)
