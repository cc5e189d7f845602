# SPDX-License-Identifier: Apache-2.0
"""One real control plane for all tests of this folder, two nodes, a namespace for each test.

Rules:
1. These tests run only when this folder, or a file of it, is named: `pytest tests/cluster`.
2. A test that cannot run fails; none is skipped.
3. What belongs to the whole cluster (bundles, configurations of webhooks) is named after
   the test's namespace and removed by the test.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from cluster import ControlPlane, HollowNode, binaries
from tests.waiting import until

HERE = Path(__file__).parent
NODES = ("node-1", "node-2")
_numbers = itertools.count(1)


def is_asked(folder: Path, config: pytest.Config) -> bool:
    """Whether a folder, or something in it, was named on the command line."""
    base = config.invocation_params.dir
    named = [(base / str(argument).split("::")[0]).resolve() for argument in config.args]
    return any(path == folder or folder in path.parents for path in named)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folder out unless it was asked for."""
    return None if is_asked(HERE, config) or collection_path.name == "conftest.py" else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave alone what a busy API server leaves: it answers the end of a TLS connection late."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(
                pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Turn a skipped test into a failed one."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"a cluster test must run, but was skipped: {report.longrepr}"
    return report


class Kubectl(Protocol):
    """Runs kubectl and returns what it printed."""

    def __call__(
        self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None
    ) -> str: ...


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane of this session; its logs stay in pytest's temporary folder."""
    with ControlPlane(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def nodes(control_plane: ControlPlane) -> Iterator[dict[str, HollowNode]]:
    """Two hollow nodes by name."""
    with (
        HollowNode(control_plane, NODES[0]) as first,
        HollowNode(control_plane, NODES[1]) as second,
    ):
        yield {first.name: first, second.name: second}


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own, ready for pods; its deletion is not waited for."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    path = f"/api/v1/namespaces/{name}"
    control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    until(lambda: control_plane.api.exists(f"{path}/serviceaccounts/default"), timeout=30)
    until(lambda: control_plane.api.exists(f"{path}/configmaps/kube-root-ca.crt"), timeout=30)
    yield name
    control_plane.api.delete(path)


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    """Runs kubectl as the administrator, or with another kubeconfig; an error fails the test."""
    program = binaries.find("kubectl")

    def run(*arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        config = kubeconfig or control_plane.kubeconfig
        done = subprocess.run(
            [program, f"--kubeconfig={config}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
        )
        if done.returncode:
            pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr}", pytrace=False)
        return done.stdout

    return run
