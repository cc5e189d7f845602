# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of this example in a copy of its folder, and shows them as it does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from examples.demonstration.child import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

__all__ = ("Terminal",)

_HERE = Path(__file__).parent
_SECONDS = 30.0


class Terminal:
    """A new directory with the example's files, as a context manager.

    Args:
        directory: Made here; what runs in it ends with the block.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        shutil.copytree(_HERE, directory, ignore=shutil.ignore_patterns("__*"))
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        self._environment = {**os.environ, "PATH": programs, "PYTHONPATH": str(_HERE.parents[1])}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, command: str) -> str:
        """Run a command to its end, and return its output.

        Raises:
            DemoError: It failed; the message is its own.
        """
        print(f"  $ {command}", flush=True)
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DemoError(f"{command}: {done.stderr.strip()}")
        return done.stdout

    def write(self, name: str, text: str) -> None:
        """Write a file, as a whole."""
        print(f"  {name}:")
        for line in text.splitlines():
            print(f"      {line}")
        (self.directory / f"{name}.new").write_text(text)
        (self.directory / f"{name}.new").rename(self.directory / name)

    def serve(self, command: str) -> int:
        """Start a command that listens on 8443, on a free port instead, and return that."""
        port = _free_port()
        command = command.replace("8443", str(port))
        process = self._start(command, "server")
        deadline = time.monotonic() + _SECONDS
        while not _is_open(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"{command}: nothing listens on {port}")
            time.sleep(0.05)
        return port

    @contextmanager
    def calling(self, command: str) -> Iterator[IO[str]]:
        """Start a command that goes on, and give its output."""
        process = self._start(command, "caller", stdout=subprocess.PIPE)
        assert process.stdout is not None  # noqa: S101 - for the type checker
        yield process.stdout

    def _start(self, command: str, name: str, stdout: int | None = None) -> subprocess.Popen[str]:
        print(f"  $ {command}", flush=True)
        log = self._stack.enter_context((self.directory / f"{name}.log").open("a"))
        process = subprocess.Popen(
            ["sh", "-c", f"exec env {command}"],
            cwd=self.directory,
            env=self._environment,
            stdout=log if stdout is None else stdout,
            stderr=log,
            text=True,
        )
        self._stack.callback(_end, process)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def _is_open(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
