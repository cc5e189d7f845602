# SPDX-License-Identifier: Apache-2.0
"""The policy alone: no server, no certificate, microseconds.

`kubetls policy test cases.yaml policy.yaml --trust-domain example.org` runs the same table, and
tells with `--min-coverage 100` which rules no case needs.
"""
# ruff: noqa: S101 - pytest's assert

import subprocess
from pathlib import Path

import pytest

from kubetls_sdk import SpiffeId, TrustDomain
from kubetls_sdk.authz import PolicySet

HERE = Path(__file__).parent
POLICY = PolicySet.parse(
    {"policy.yaml": (HERE / "policy.yaml").read_text()}, trust_domain=TrustDomain("example.org")
)


def test_table() -> None:
    """Every case of the table is decided as it says, and every rule is needed."""
    files = ["cases.yaml", "policy.yaml", "--trust-domain", "example.org", "--min-coverage", "100"]
    done = subprocess.run(
        ["kubetls", "policy", "test", *files],
        cwd=HERE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_web_only_reads(method: str) -> None:
    """Whatever web tries with an order, it does not change it."""
    web = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
    assert not POLICY.decide(web, method, "/orders/42").allowed


def test_the_reason_is_named() -> None:
    """An allowed request names the rule that allows it; a test that asserts it cannot be fooled."""
    web = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
    assert POLICY.decide(web, "GET", "/orders/42").rule == "web-reads"
