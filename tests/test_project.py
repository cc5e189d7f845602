# SPDX-License-Identifier: Apache-2.0
"""The promises of the project as a whole: what is shipped, exported and imported."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kubetls_sdk

ROOT = Path(__file__).parent.parent
FRAMEWORKS = (
    "grpc",
    "httpx",
    "httpx2",
    "starlette",
    "uvicorn",
    "aiohttp",
    "click",
    "pytest",
    "yaml",
)


def modules() -> list[str]:
    found = pkgutil.walk_packages(kubetls_sdk.__path__, "kubetls_sdk.")
    return sorted(module.name for module in found)


def public_modules() -> list[str]:
    return [name for name in modules() if not any(p.startswith("_") for p in name.split("."))]


class TestImports:
    def test_core_loads_no_framework(self) -> None:
        """`import kubetls_sdk` loads none of the frameworks that the edges adapt."""
        code = f"import kubetls_sdk, sys; print([m for m in {FRAMEWORKS!r} if m in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert done.stdout.strip() == "[]"

    @pytest.mark.parametrize("name", public_modules())
    def test_all_is_complete(self, name: str) -> None:
        """Each public module names its public surface, and every name in it exists."""
        module = importlib.import_module(name)
        exported = module.__all__
        assert isinstance(exported, tuple)
        assert [n for n in exported if not hasattr(module, n)] == []


class TestSources:
    def test_every_file_names_its_licence(self) -> None:
        """Each Python file starts with its SPDX line."""
        files = [
            p
            for d in ("kubetls_sdk", "webhook", "cluster", "examples", "benchmarks", "tests")
            for p in (ROOT / d).rglob("*.py")
        ]
        missing = [
            str(path.relative_to(ROOT))
            for path in files
            if path.read_text().strip()
            and not path.read_text().startswith(("# SPDX-License-Identifier: Apache-2.0", "#!"))
        ]
        assert missing == []

    def test_no_private_key_is_in_the_repository(self) -> None:
        """No tracked file holds the body of a private key."""
        listed = subprocess.run(
            ["git", "grep", "-lE", "BEGIN ([A-Z]+ )?PRIVATE KEY-----.?$"],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert listed.stdout == ""


@pytest.mark.slow
class TestWheel:
    def test_wheel_holds_the_sdk_and_nothing_else(self, tmp_path: Path) -> None:
        """The wheel has the package with its type marker, and no tests, examples or webhook."""
        subprocess.run(
            [
                sys.executable,
                "-m",
                "uv",
                "build",
                "--quiet",
                "--wheel",
                "--out-dir",
                str(tmp_path),
                str(ROOT),
            ],
            check=True,
        )
        (wheel,) = tmp_path.glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        tops = {name.split("/")[0] for name in names}
        assert tops == {"kubetls_sdk", f"kubetls_sdk-{kubetls_sdk.__version__}.dist-info"}
        assert "kubetls_sdk/py.typed" in names
        assert "kubetls_sdk/_context.py" in names
