# SPDX-License-Identifier: Apache-2.0
"""What the decisions depend on: nothing that reads a clock, a socket or the Kubernetes API."""

import ast
from pathlib import Path

import pytest

import webhook.issuance

FOLDER = Path(webhook.issuance.__file__).parent
FORBIDDEN = {
    "asyncio",
    "aiohttp",
    "http",
    "kubernetes",
    "logging",
    "os",
    "pathlib",
    "random",
    "socket",
    "threading",
    "time",
}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_pure(file):
    """No module has the means for it, and none asks for the present time."""
    tree = ast.parse(file.read_text())
    assert not FORBIDDEN & set(imported(tree))
    calls = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {"now", "utcnow", "today", "open"} & calls
