# SPDX-License-Identifier: Apache-2.0
"""The injector: mutating admission of pods.

`review` reads what the API server sends, `admission` decides, `mutation` makes the patch, all pure;
`app`, `listener` and `serve` are the server around them. `policy` writes the same injection as a
MutatingAdmissionPolicy.
"""

__all__ = ()
