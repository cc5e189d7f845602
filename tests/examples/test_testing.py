# SPDX-License-Identifier: Apache-2.0
"""The testing example runs as a user runs it: in a folder of its own, nothing of ours around."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.examples.demo_run import ROOT

EXAMPLE = ROOT / "examples" / "testing"
README = (EXAMPLE / "README.md").read_text()
INSTALL, RUN = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
SCREEN = 50


@pytest.fixture
def folder(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "testing", ignore=ignored))


def run(command, folder):
    done = subprocess.run(
        ["sh", "-c", f"{command.strip()} -p no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    return done.returncode, done.stdout + done.stderr


class TestExample:
    def test_passes(self, folder):
        """The README's command: all tests pass without a warning, and all that it lists exist."""
        status, output = run(f"{RUN.strip()} -W error", folder)
        assert status == 0, output
        assert not re.search(r"failed|skipped|warning", output.splitlines()[-1])
        listed = re.findall(r"^\| `(test_\w+(?:\.py)?)` \|", README, re.MULTILINE)
        assert len(listed) == 8
        assert [
            name for name in listed if not re.search(rf"{name}\S* PASSED|{name}::", output)
        ] == []

    def test_from_the_root(self):
        """`pytest examples/testing` in the repository does the same."""
        status, output = run("pytest -q examples/testing --collect-only", ROOT)
        assert status == 0, output

    def test_notices_a_policy_that_allows_too_much(self, folder):
        """What the README says to break makes the tests fail that it says."""
        policy = folder / "policy.yaml"
        text = policy.read_text()
        rule = "from: { namespace: shop, serviceAccount: web }"
        assert rule in text
        assert "from: { namespace: shop }" in README
        policy.write_text(text.replace(rule, "from: { namespace: shop }"))
        status, output = run("pytest -q", folder)
        assert status == 1
        failed = re.findall(r"^FAILED \S+::(\w+)", output, re.MULTILINE)
        assert failed == ["test_billing_is_denied"]


class TestReadme:
    def test_fits_on_one_screen(self):
        """A newcomer reads it without scrolling much."""
        assert len(README.splitlines()) <= SCREEN

    def test_installs_what_exists(self):
        """The path of the first command is the package, and it has these extras."""
        path, extras = re.findall(r"'(.*)\[(.*)\]'", INSTALL)[0]
        project = tomllib.loads((EXAMPLE / path / "pyproject.toml").read_text())["project"]
        assert project["name"] == "kubetls-sdk"
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()

    def test_links(self):
        """Its links lead somewhere, and the guide leads back."""
        links = re.findall(r"\]\(([^)]+)\)", README)
        assert [link for link in links if not (EXAMPLE / link).exists()] == []
        assert "examples/testing" in (ROOT / "docs/guides/testing.md").read_text()
