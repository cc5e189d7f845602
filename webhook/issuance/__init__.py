# SPDX-License-Identifier: Apache-2.0
"""What is certified, and how: pure decisions and the certificate profile.

Nothing here reads a clock, a file or a socket, and nothing knows the Kubernetes client: objects are
arguments, and so is `now`.
"""

__all__ = ()
