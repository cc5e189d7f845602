# SPDX-License-Identifier: Apache-2.0
"""The Helm chart, as Helm renders it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cluster import binaries

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFESTS = Path(__file__).parent.parent.parent / "webhook/manifests"
CHART = MANIFESTS / "chart"
SYSTEM = "kubetls-system"


def helm(
    *arguments: str, stdin: str | None = None, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Helm, with a home of its own or none."""
    return subprocess.run(
        [binaries.find("helm"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        env={"HOME": str(home or "/nonexistent"), "PATH": "/usr/bin:/bin"},
    )


def template(values: Mapping[str, Any], *, namespace: str = SYSTEM) -> str:
    """What the chart becomes with some values.

    Raises:
        ValueError: Helm refused them; the message is Helm's.
    """
    place = ("--namespace", namespace)
    done = helm("template", "kubetls", str(CHART), *place, "-f", "-", stdin=json.dumps(values))
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def rendered(values: Mapping[str, Any], *, namespace: str = SYSTEM) -> list[dict[str, Any]]:
    """The same as objects."""
    found = yaml.safe_load_all(template(values, namespace=namespace))
    return [each for each in found if each]


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one object of a kind and name."""
    (found,) = [
        each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name
    ]
    return found
