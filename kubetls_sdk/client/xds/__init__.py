# SPDX-License-Identifier: Apache-2.0
"""How gRPC's core is told, in this process, which server identity to require.

grpcio for Python verifies no SPIFFE ID, but its core does for clusters of the xDS protocol. So each
of our channels has an xDS configuration of its own, served from memory over a socket that only
this process can use.
"""

from __future__ import annotations

__all__: tuple[str, ...] = ()
