# SPDX-License-Identifier: Apache-2.0
"""Serves the program that draws the diagrams from the site itself, on the pages that have one.

*Rules*

1. No request leaves the reader's browser: the theme would fetch Mermaid from somebody else.
2. It is exactly the file that Mermaid's authors published (MIT licence); the package brings it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

_SHA256 = "74d7c46dabca328c2294733910a8aa1ed0c37451776e8d5295da38a2b758fb9b"  # 11.16.0
_PLACE = "assets/javascripts/mermaid.min.js"
_THEME = '<script src="'


def on_post_page(output: str, *, page: Any, config: Any, **_: Any) -> str:
    """Load it before the theme's own program, which then looks no further."""
    if 'class="mermaid"' not in output:
        return output
    bundle = output.rindex(_THEME, 0, output.rindex("assets/javascripts/bundle."))
    script = f'{_THEME}{"../" * page.url.count("/")}{_PLACE}"></script>'
    return output[:bundle] + script + output[bundle:]


def on_post_build(*, config: Any, **_: Any) -> None:
    """Put the file into the site."""
    package = importlib.util.find_spec("mermaidx")
    if package is None or package.origin is None:
        raise SystemExit("the diagrams need mermaidx: install the group 'docs'")
    program = (Path(package.origin).parent / "assets/mermaid.js").read_bytes()
    if hashlib.sha256(program).hexdigest() != _SHA256:
        raise SystemExit("mermaidx brings another Mermaid than the one that was looked at")
    (Path(config["site_dir"]) / _PLACE).write_bytes(program)
