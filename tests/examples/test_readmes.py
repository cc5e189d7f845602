# SPDX-License-Identifier: Apache-2.0
"""Each example has a README of one screen: what it shows, a command, and where to read on."""

from __future__ import annotations

import re

import pytest

from tests.examples.demo_run import ROOT

EXAMPLES = ROOT / "examples"
SCREEN = 50
SHARED = "demonstration"  # what examples have in common, no example
FOLDERS = sorted(
    path.name for path in EXAMPLES.iterdir() if any(path.glob("*.py")) and path.name != SHARED
)
INDEX = (EXAMPLES / "README.md").read_text()


def links(text):
    return re.findall(r"\]\(([^)#]+)", text)


class TestReadmes:
    @pytest.mark.parametrize("folder", FOLDERS)
    def test_readme(self, folder):
        """It fits on a screen, has a title, a command to run, and links that lead somewhere."""
        text = (EXAMPLES / folder / "README.md").read_text()
        assert text.startswith("# ")
        assert len(text.splitlines()) <= SCREEN
        assert re.search(r"```(sh|console)\n", text)
        found = links(text.partition("Read on: ")[2])
        assert found, "where to read on"
        assert [link for link in links(text) if not (EXAMPLES / folder / link).exists()] == []

    @pytest.mark.parametrize("folder", FOLDERS)
    def test_files(self, folder):
        """Each file of its own that it names is there."""
        text = (EXAMPLES / folder / "README.md").read_text()
        tables = [line for line in text.splitlines() if line.startswith("| `")]
        named = re.findall(r"`([\w-]+\.(?:py|ya?ml|proto))`", "\n".join(tables))
        missing = [name for name in named if not list((EXAMPLES / folder).rglob(name))]
        assert missing == []

    def test_index(self):
        """The index lists them all, and leads to each."""
        named = {link.partition("/")[0] for link in links(INDEX)}
        assert named == {*FOLDERS}
        assert [link for link in links(INDEX) if not (EXAMPLES / link).exists()] == []

    @pytest.mark.parametrize("folder", FOLDERS)
    def test_is_run(self, folder):
        """A test of its own runs it, or the task of the Makefile that CI runs."""
        own = (ROOT / "tests" / "examples" / f"test_{folder}.py").exists()
        tasks = (ROOT / ".ci" / "run").read_text()
        assert own or f"demo-{folder.removeprefix('demo_')}" in tasks
