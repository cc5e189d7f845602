# SPDX-License-Identifier: Apache-2.0
"""Shows SECURITY.md, whose links lead from the repository's root, as a page of the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PAGE = "explanation/threat-model.md"
_SECURITY = Path(__file__).parents[2] / "SECURITY.md"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Take the file in, with links from where the page is."""
    if page.file.src_uri != _PAGE:
        return markdown
    return _SECURITY.read_text(encoding="utf-8").replace("](docs/", "](../")
