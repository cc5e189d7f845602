# SPDX-License-Identifier: Apache-2.0
"""The picture goes on running, for a person with a browser."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from examples.edge.service import program

if TYPE_CHECKING:
    from pathlib import Path

    from examples.demonstration.child import Child
    from examples.edge.stage import Stage

__all__ = ("keep_open",)

_EVERY = ("--every", "2")
_ROTATION_SECONDS = 600.0


def keep_open(stage: Stage, build: Path) -> None:
    """Let the app and the partners call all the time, until somebody interrupts.

    Raises:
        DemoError: A server ended by itself.
    """
    roots = build / "demo-edge-ca.pem"
    roots.write_bytes(stage.zones.public.roots.read_bytes())
    with ExitStack() as stack:
        for child in _callers(stage):
            stack.callback(child.end)
        print(_invitation(stage, roots), flush=True)
        with suppress(KeyboardInterrupt):  # that is how a person ends it
            while True:
                _stay(stage)
                stage.zones.rotate()


def _stay(stage: Stage) -> None:
    """Until the certificates are to be renewed, as long as everything runs."""
    ends_at = time.monotonic() + _ROTATION_SECONDS
    while time.monotonic() < ends_at:
        time.sleep(1.0)
        for server in (stage.internal, stage.external, stage.login):
            server.check_alive()


def _callers(stage: Stage) -> list[Child]:
    roots = str(stage.zones.public.roots)
    app = [stage.url, roots, "/users/carol/orders", *_EVERY]
    return [
        program("app", app, log=stage.place.logs / "app.log"),
        _partner(stage, "partner", "/deliveries", "/catalogue"),
        _partner(stage, "courier", "/catalogue", "/deliveries"),
    ]


def _partner(stage: Stage, name: str, *paths: str) -> Child:
    log, volume = stage.place.logs / f"{name}.log", stage.zones.volume(name)
    return program("partner", [stage.internal_url, *paths, *_EVERY], log=log, volume=volume)


def _invitation(stage: Stage, roots: Path) -> str:
    federation = stage.zones.federation_file
    return f"""
Open {stage.url}

Its certificate is of the demo's own CA, so the browser warns: go on, or trust the CA
(its key is in this process alone, and gone with it): {roots}

Trust the partners no more, and watch the page; move it back to trust them again:
  mv {federation} {federation}.away
Ctrl-C ends everything."""
