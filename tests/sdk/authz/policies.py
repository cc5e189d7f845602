# SPDX-License-Identifier: Apache-2.0
"""Policy sets and callers for the tests of the engine."""

from __future__ import annotations

import textwrap

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

OWN = TrustDomain("example.org")


def workload(namespace: str, account: str, domain: str = "example.org") -> SpiffeId:
    return SpiffeId.parse(f"spiffe://{domain}/ns/{namespace}/sa/{account}")


WEB = workload("shop", "web")
BILLING = workload("finance", "billing")
PARTNER = workload("shop", "web", "partner.example")
ODD = SpiffeId.parse("spiffe://example.org/batch/nightly")


def parse(text: str) -> PolicySet:
    """Parse one file named `policy.yaml`."""
    return PolicySet.parse({"policy.yaml": textwrap.dedent(text)}, trust_domain=OWN)


def rules(*, allow: str = "", deny: str = "", mode: str = "enforce", name: str = "p") -> str:
    """A file with one policy; `allow` and `deny` are YAML lists of flow mappings."""
    lines = ["version: 1", "policies:", f"  - name: {name}", f"    mode: {mode}"]
    for effect, items in (("allow", allow), ("deny", deny)):
        if items:
            lines.append(f"    {effect}:")
            dedented = textwrap.dedent(items).strip()
            lines.append(textwrap.indent(dedented, "      "))
    return "\n".join(lines) + "\n"
