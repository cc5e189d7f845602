# SPDX-License-Identifier: Apache-2.0
"""The documentation shows exactly what the command makes of the configuration on the page."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.markdown import blocks
from webhook.cli.zones import zones

ROOT = Path(__file__).parents[3]
BLOCKS = blocks(ROOT / "docs/platform/zones.md", ROOT)


def shown(language):
    """The one block of a language on the page."""
    (block,) = [each for each in BLOCKS if each.language == language]
    return block.code


@pytest.fixture
def printed(tmp_path):
    """Runs the command about the page's configuration."""
    (block,) = [each for each in BLOCKS if each.title == "platform.yaml"]
    (tmp_path / "platform.yaml").write_text(block.code)

    def run(*options):
        arguments = ["--config", str(tmp_path / "platform.yaml"), *options]
        return CliRunner().invoke(zones, arguments, catch_exceptions=False).output

    return run


class TestPage:
    def test_diagram(self, printed):
        """The Mermaid diagram is the command's."""
        assert shown("mermaid") == printed("--format", "mermaid")

    def test_words(self, printed):
        """Who reaches whom, in words, is the end of the command's text: nothing is warned of."""
        assert printed().endswith(f"\n\n{shown('text')}")
