# SPDX-License-Identifier: Apache-2.0
"""The texts of policy files and directories.

Rules:
    1. Files of a directory are read in the order of their names; hidden ones are not policies.
    2. The size and the number of files are bounded.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from kubetls_sdk.authz.yaml_node import MAX_TEXT_BYTES
from kubetls_sdk.exceptions import PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ("are_same", "attempt_texts", "fingerprint_of", "read_texts")

_MAX_FILES = 1000
_SUFFIXES = (".yaml", ".yml")


def read_texts(paths: tuple[Path, ...]) -> dict[str, str]:
    """Read all files once.

    Raises:
        PolicyError: One is missing (`FileNotFoundError` is the cause), unreadable or not UTF-8.
    """
    texts: dict[str, str] = {}
    for path in paths:
        try:
            for file in _files(path):
                texts[str(file)] = _text(file)
        except FileNotFoundError as err:
            raise PolicyError("expected a policy file, got none", file=str(path)) from err
        except (OSError, UnicodeDecodeError) as err:
            raise PolicyError(f"expected a readable UTF-8 file, got {err}", file=str(path)) from err
    return texts


def attempt_texts(paths: tuple[Path, ...]) -> dict[str, str] | PolicyError:
    """`read_texts`, with the error as a value."""
    try:
        return read_texts(paths)
    except PolicyError as err:
        return err


def are_same(one: dict[str, str] | PolicyError, other: dict[str, str] | PolicyError) -> bool:
    """Tell whether two attempts found the same."""
    if isinstance(one, PolicyError) or isinstance(other, PolicyError):
        return str(one) == str(other)
    return one == other


def fingerprint_of(texts: Mapping[str, str]) -> bytes:
    """What tells one content from another."""
    digest = hashlib.sha256()
    for name, text in texts.items():
        digest.update(f"{len(name)} {name} {len(text)} ".encode())
        digest.update(text.encode())
    return digest.digest()


def _text(file: Path) -> str:
    with file.open("rb") as stream:
        content = stream.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise PolicyError(f"expected at most {MAX_TEXT_BYTES} bytes", file=str(file))
    return content.decode("utf-8")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix in _SUFFIXES and not entry.name.startswith(".")
    )
    if len(found) > _MAX_FILES:
        raise PolicyError(f"expected at most {_MAX_FILES} policy files", file=str(path))
    return found
