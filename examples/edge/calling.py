# SPDX-License-Identifier: Apache-2.0
"""What both kinds of calling programs do: call some paths, once or again and again."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import httpx2

__all__ = ("call_all", "options")


def options(*positional: str) -> argparse.Namespace:
    """The command line of a calling program."""
    parser = argparse.ArgumentParser()
    for name in positional:
        parser.add_argument(name)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--every", type=float, default=0.0, help="seconds; once without")
    return parser.parse_args()


def call_all(client: httpx2.Client, asked: argparse.Namespace) -> bool:
    """Call each path and print what came of it; whether there is more to do."""
    for path in asked.paths:
        print(json.dumps({"path": path, **_outcome(client, path)}), flush=True)
    time.sleep(asked.every)
    return bool(asked.every > 0)


def _outcome(client: httpx2.Client, path: str) -> dict[str, Any]:
    try:
        return {"status": client.get(path).status_code}
    except httpx2.TransportError as err:
        return {"status": None, "error": str(err)}
