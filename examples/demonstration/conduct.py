# SPDX-License-Identifier: Apache-2.0
"""Runs a demonstration from its first process to its verdict and exit status.

Rules:
    1. Whatever happens, the processes are ended, and a person reads one line, no traceback.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.demonstration.child import DemoError, end_children
from examples.demonstration.interruption import interruption

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.demonstration.screen import Screen

__all__ = ("conduct", "kubetls_command", "write_document")

_INTERRUPTED = 130


def conduct(work: Callable[[], tuple[str, bool]], shown: Screen) -> int:
    """Do the work and return the exit status.

    Args:
        work: Returns what it all comes to, and whether that is as it ought to be.
        shown: Where the verdict appears.
    """
    interruption.install()
    try:
        summary, is_ok = work()
    except DemoError as err:
        shown.verdict(str(err), is_ok=False)
        return 1
    except OSError as err:
        shown.verdict(f"{err.filename or 'the demo'}: {err.strerror or err}", is_ok=False)
        return 1
    except KeyboardInterrupt:
        shown.verdict("interrupted; all processes are ended", is_ok=False)
        return _INTERRUPTED
    finally:
        end_children()
    shown.verdict(summary, is_ok=is_ok)
    return 0 if is_ok else 1


def write_document(document: dict[str, Any], file: Path) -> None:
    """Write what others read."""
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def kubetls_command() -> str:
    """The command of the environment that runs us; without one, what it would call."""
    installed = Path(sys.executable).with_name("kubetls")
    called = [sys.executable, "-c", "from kubetls_sdk.cli import main; main()"]
    return shlex.join([str(installed)] if installed.exists() else called)
