# SPDX-License-Identifier: Apache-2.0
"""The control plane: injector, signer, trust publisher and secret issuer, one image.

It uses the SDK's values, sources and server; the SDK never imports it.
"""

__all__ = ()
