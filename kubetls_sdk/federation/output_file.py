# SPDX-License-Identifier: Apache-2.0
"""Files that commands write: a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("write_file",)


def write_file(path: Path, content: bytes, *, is_secret: bool = False) -> None:
    """Replace a file by rename.

    Args:
        path: Where; its directory has to exist.
        content: All of it.
        is_secret: Readable to its owner only, from the first byte on.

    Raises:
        OSError: It cannot be written.
    """
    following = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(following, flags, 0o600 if is_secret else 0o644), "wb") as file:
            file.write(content)
        following.replace(path)
    except OSError:
        following.unlink(missing_ok=True)
        raise
