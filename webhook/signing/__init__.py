# SPDX-License-Identifier: Apache-2.0
"""The signer: answers pod certificate requests and certificate signing requests."""

__all__ = ()
