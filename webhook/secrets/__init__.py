# SPDX-License-Identifier: Apache-2.0
"""The secret issuer: for pods without pod certificates, a Secret that their volume mounts."""

__all__ = ()
