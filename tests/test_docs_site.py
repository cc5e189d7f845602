# SPDX-License-Identifier: Apache-2.0
"""The site builds without a warning, is complete, and asks nobody but itself for anything."""

from __future__ import annotations

import ast
import contextlib
import functools
import http.server
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import click
import pytest

from tests.markdown import blocks
from webhook.cli.command_line import webhook

ROOT = Path(__file__).parent.parent
PACKAGES = ("", ".authz", ".client", ".diagnosis", ".federation", ".testing", ".users")
EXTERNAL = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*rel=["']?(?:canonical|next|prev))[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|(?:@import|url\()\s*["']?(?:https?:)?//"""
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="needs the group docs"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(place)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def documented(site):
    """Every name that the reference explains."""
    lines = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    return {line.split(" ", 1)[0] for line in lines.splitlines()}


def with_diagrams(site):
    pages = [page for page in site.rglob("*.html") if 'class="mermaid"' in page.read_text()]
    assert len(pages) > 3
    return pages


class TestSite:
    def test_asks_nobody_else(self, site):
        """No page or style sheet loads anything from another server."""
        texts = [path for ending in ("html", "css") for path in site.rglob(f"*.{ending}")]
        assert [str(path) for path in texts if EXTERNAL.search(path.read_text())] == []

    def test_diagrams_are_drawn_by_the_site_itself(self, site):
        """Each page with a diagram loads the program for it first, from the site."""
        for page in with_diagrams(site):
            text = page.read_text()
            scripts = re.findall(r'<script src="([^"]+)"', text)
            assert scripts[0].endswith("mermaid.min.js"), page
            assert (page.parent / scripts[0]).resolve().is_file()
        without = (site / "reference/errors/index.html").read_text()
        assert "mermaid.min.js" not in without

    @pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
    def test_diagrams_in_a_browser(self, site):
        """A browser that reaches nobody else draws every diagram."""
        with served(site) as address:
            for page in with_diagrams(site):
                expected = page.read_text().count('class="mermaid"')
                dom = browse(f"{address}/{page.parent.relative_to(site)}/")
                assert dom.count('<div class="mermaid"') == expected, page
                assert '<pre class="mermaid"' not in dom


class TestReference:
    @pytest.mark.parametrize("package", PACKAGES, ids=lambda name: name or "core")
    def test_what_packages_export(self, package, documented):
        """Each class and function that a package exports is in the reference."""
        module = importlib.import_module(f"kubetls_sdk{package}")
        exported = [getattr(module, name) for name in module.__all__]
        wanted = {
            f"{each.__module__}.{each.__qualname__}"
            for each in exported
            if inspect.isclass(each) or inspect.isfunction(each)
        }
        # The page says that httpx2 has the same classes as httpx.
        wanted = {name.replace(".client.httpx2.", ".client.httpx.") for name in wanted}
        assert wanted - documented == set()

    def test_what_the_documentation_uses(self, documented):
        """Each name that a page or example imports from us is in the reference."""
        used = {name for text in _code() for name in _imported(text)}
        assert len(used) > 50
        assert {name for name in used if not _is_documented(name, documented)} == set()

    def test_the_control_planes_commands(self, site):
        """Each command of the control plane has its section, with each option."""
        page = (site / "reference/control-plane/index.html").read_text()
        for path, command in _commands(webhook, "python3 -m webhook"):
            assert f">{path}<" in page
            for option in (o for p in command.params for o in p.opts if o.startswith("-")):
                assert f"<code>{option}</code>" in page, f"{path} {option}"


@contextlib.contextmanager
def served(directory):
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    factory = functools.partial(quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), factory) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def browse(url: str) -> str:
    """What a page is when its scripts have run, in a browser that finds no other host."""
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--dump-dom"),
            *("--virtual-time-budget=10000", url),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _code():
    """The Python of the documentation and of the examples that users copy."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        yield from (each.code for each in blocks(page, ROOT) if each.language == "python")
    for name in ("quickstart", "grpc"):
        yield from (path.read_text() for path in sorted((ROOT / "examples" / name).glob("*.py")))


def _imported(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kubetls_sdk"):
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _is_documented(name, documented):
    """As itself, as what it is an alias of, or, of a constant or module, with its module."""
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute, None)
    own = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    own = own.replace(".client.httpx2.", ".client.httpx.")
    return bool({name, own, module} & documented)


def _commands(group, path):
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
