# SPDX-License-Identifier: Apache-2.0
"""A real control plane and one real node: `pytest tests/node`, as root, on Linux.

Rules:
1. These tests run only when this folder, or a file of it, is named.
2. A test that cannot run fails; none is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import ControlPlane, binaries
from cluster.node import RealNode, busybox_tree, python_tree, write_image
from cluster.node.tree import PYTHON_ENVIRONMENT, python_command
from tests.cluster.conftest import (
    control_plane,
    is_asked,
    kubectl,
    namespace,
    pytest_runtest_makereport,
)

__all__ = ("control_plane", "kubectl", "namespace", "pytest_runtest_makereport")

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folder out unless it was asked for."""
    return None if is_asked(HERE, config) or collection_path.name == "conftest.py" else True


@pytest.fixture(scope="session")
def node(control_plane: ControlPlane) -> Iterator[RealNode]:
    """The real node."""
    with RealNode(control_plane, "real-1") as running:
        yield running


@pytest.fixture(scope="session")
def busybox(node: RealNode, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image with a shell."""
    name = "kubetls.example/busybox:1"
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    node.import_image(write_image(path, name, busybox_tree(), command=["/bin/sh", "-c"]))
    return name


@pytest.fixture(scope="session")
def python(node: RealNode, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image with Python and this project, for any user."""
    name = "kubetls.example/python:1"
    path = tmp_path_factory.mktemp("image") / "python.tar"
    packages = [binaries.ROOT / "kubetls_sdk"]
    write_image(
        path,
        name,
        python_tree(["kubetls-sdk[asgi,httpx2]"], packages),
        command=python_command(),
        environment=PYTHON_ENVIRONMENT,
        user=65532,
    )
    node.import_image(path)
    return name
