# SPDX-License-Identifier: Apache-2.0
"""The promises of the command `kubetls` as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import kubetls_sdk
from kubetls_sdk import ConfigurationError, PeerVerificationError
from kubetls_sdk.cli.command_line import LazyCommand, LazyGroup, kubetls

ROOT = Path(__file__).parents[3]


def run_main(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code and then `main` with arguments, as the installed command does."""
    text = f"import sys; {code}; sys.argv = ['kubetls', *{arguments!r}]\n"
    text += "from kubetls_sdk.cli import main; main()"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)


def raising(error: BaseException) -> LazyGroup:
    group = LazyGroup("g")

    @click.command()
    def fail() -> None:
        raise error

    group.add_command(fail)
    group.get_command = lambda _ctx, _name: fail
    return group


class TestMain:
    def test_without_click(self) -> None:
        """Without click, one line says what to install."""
        done = run_main("sys.modules['click'] = None", "--help")
        assert done.returncode == 2
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert "pip install 'kubetls-sdk[cli]'" in line

    def test_help_loads_no_command(self) -> None:
        """`--help` lists all commands and loads none of them."""
        code = (
            "import atexit; atexit.register(lambda: print(sorted(m for m in sys.modules if "
            "m.startswith('kubetls_sdk.cli') or m in ('uvicorn', 'yaml', 'kubetls_sdk.testing'))))"
        )
        done = run_main(code, "--help")
        assert done.returncode == 0
        for name in ("serve", "inspect", "doctor", "policy", "dev"):
            assert f"  {name} " in done.stdout
        loaded = done.stdout.splitlines()[-1]
        assert loaded == "['kubetls_sdk.cli', 'kubetls_sdk.cli.command_line']"

    def test_version(self) -> None:
        """`--version` is that of the package."""
        result = CliRunner().invoke(kubetls, ["--version"])
        assert (result.exit_code, result.output) == (
            0,
            f"kubetls, version {kubetls_sdk.__version__}\n",
        )

    def test_unknown_command(self) -> None:
        """An unknown command is a usage error."""
        result = CliRunner().invoke(kubetls, ["bogus"])
        assert result.exit_code == 2
        assert "No such command 'bogus'" in result.stderr


class TestLazyGroup:
    def test_missing_module_names_the_extra(self) -> None:
        """A command whose framework is not installed says which extra brings it."""
        command = LazyCommand("no_such_framework.x:y", "Summary.", "asgi")
        group = LazyGroup("kubetls", lazy_commands={"serve": command})
        result = CliRunner().invoke(group, ["serve"])
        assert result.exit_code == 2
        assert "'no_such_framework'" in result.stderr
        assert "pip install 'kubetls-sdk[asgi]'" in result.stderr

    def test_our_own_missing_module_is_a_defect(self) -> None:
        """A missing module of ours is not blamed on an extra."""
        group = LazyGroup("k", lazy_commands={"x": LazyCommand("kubetls_sdk.cli.none:x", "")})
        result = CliRunner().invoke(group, ["x"])
        assert isinstance(result.exception, ModuleNotFoundError)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            pytest.param(ConfigurationError("expected a, got b"), "expected a, got b", id="ours"),
            pytest.param(ConfigurationError("two\n  lines"), "two lines", id="two lines"),
            pytest.param(
                PeerVerificationError("no path"), "peer is not verified: no path", id="ours and OS"
            ),
            pytest.param(
                PermissionError(13, "Permission denied", "/x"), "/x: Permission denied", id="file"
            ),
            pytest.param(OSError(98, "Address in use"), "Address in use", id="no file"),
            pytest.param(OSError("text"), "text", id="text only"),
            pytest.param(TimeoutError(), "TimeoutError", id="no text"),
        ],
    )
    def test_expected_errors_are_one_line(self, error, expected) -> None:
        """Errors of ours and of the system are one clean line and exit status 2."""
        result = CliRunner().invoke(raising(error), ["fail"])
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr == f"Error: {expected}\n"

    def test_defects_are_not_hidden(self) -> None:
        """Any other exception is a defect, and stays visible as one."""
        result = CliRunner().invoke(raising(ZeroDivisionError()), ["fail"])
        assert isinstance(result.exception, ZeroDivisionError)

    def test_broken_pipe_is_quiet(self) -> None:
        """A reader that went away is no error message."""
        result = CliRunner().invoke(raising(BrokenPipeError(32, "Broken pipe")), ["fail"])
        assert "Error" not in result.stderr
