# SPDX-License-Identifier: Apache-2.0
"""A process that is killed at any moment: whatever it was doing, the next one has it in order.

Each test runs an operation again and again in a child that is killed one step later each time,
until it gets to the end. A step is a call of the kernel that changes something on the node.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.webhook.node.mount_namespace import in_mount_namespace, mount_table
from tests.webhook.node.requests import publication
from webhook.node.placement import TmpfsPlacement
from webhook.node.volume_store import VolumeStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

OLD = {"credential-bundle.pem": b"old key", "left.example.trust-bundle.pem": b"left"}
NEW = {"credential-bundle.pem": b"new key", "come.example.trust-bundle.pem": b"come"}
LEAST_STEPS, MOST_STEPS = 20, 500
CHANGES = {
    *("mkdir", "rmdir", "unlink", "symlink", "rename", "replace", "chmod", "chown", "open"),
    *("write", "flush", "close"),
}
MOUNTS = {"_mount", "_unmount"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    folder = tmp_path / "kubelet"
    folder.mkdir()
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def opened(state: Path, placement: TmpfsPlacement) -> VolumeStore:
    store = VolumeStore(state, placement)
    store.open()
    return store


def publish(store: VolumeStore, kubelet: Path) -> None:
    store.create(publication(kubelet))
    store.write("csi-1", OLD)
    store.expose("csi-1")


def seen(place: Path) -> dict[str, bytes]:
    return {e.name: e.read_bytes() for e in place.iterdir() if not e.name.startswith("..")}


def is_killed(work: Callable[[], None], step: int) -> bool:
    """Do something in a child that is killed at a step; False when it ended before."""
    child = os.fork()
    if child == 0:
        _die_at(step)
        try:
            work()
        finally:
            sys.setprofile(None)
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _die_at(step: int) -> None:
    left = step

    def count(frame: FrameType, event: str, called: object) -> None:
        nonlocal left
        is_change = event == "c_call" and getattr(called, "__name__", "") in CHANGES
        is_mount = event in ("call", "return") and frame.f_code.co_name in MOUNTS
        left -= is_change or is_mount
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def assert_nothing_left(state: Path, kubelet: Path) -> None:
    assert [*state.iterdir()] == []
    assert [*kubelet.rglob("mount")] == []
    assert "kubetls-csi" not in mount_table()


def assert_whole_or_nothing(store: VolumeStore, kubelet: Path, *contents: dict[str, bytes]) -> None:
    """The next process has the volume whole, or nothing of it; its removal leaves nothing."""
    place = publication(kubelet).target
    if len(store):
        assert list(store) == [publication(kubelet)]
        assert store.is_exposed("csi-1")
        assert seen(place) in contents
        assert {each.name for each in place.iterdir() if each.name.startswith("..")} == {
            "..data",
            os.readlink(place / "..data"),
        }
    store.remove("csi-1", place)


@in_mount_namespace
def test_publication(kubelet: Path, state: Path) -> None:
    """Killed while it publishes: the volume is whole, or gone with the next start."""
    placement = TmpfsPlacement(kubelet)
    for step in range(MOST_STEPS):
        state.mkdir(exist_ok=True)
        was_killed = is_killed(lambda: publish(opened(state, placement), kubelet), step)
        store = opened(state, placement)
        assert was_killed or len(store) == 1
        assert_whole_or_nothing(store, kubelet, OLD)
        assert_nothing_left(state, kubelet)
        if not was_killed:
            break
    assert LEAST_STEPS < step < MOST_STEPS - 1


@in_mount_namespace
def test_renewal(kubelet: Path, state: Path) -> None:
    """Killed while it writes: the pod has all old files or all new ones, under their names."""
    placement = TmpfsPlacement(kubelet)
    for step in range(MOST_STEPS):
        publish(opened(state, placement), kubelet)
        was_killed = is_killed(lambda: opened(state, placement).write("csi-1", NEW), step)
        store = opened(state, placement)
        assert len(store) == 1
        assert_whole_or_nothing(store, kubelet, *((OLD, NEW) if was_killed else (NEW,)))
        if not was_killed:
            break
    assert_nothing_left(state, kubelet)
    assert LEAST_STEPS < step < MOST_STEPS - 1


@in_mount_namespace
def test_removal(kubelet: Path, state: Path) -> None:
    """Killed while it removes: the next call ends it, and no key is left."""
    placement, place = TmpfsPlacement(kubelet), publication(kubelet).target
    for step in range(MOST_STEPS):
        publish(opened(state, placement), kubelet)
        was_killed = is_killed(lambda: opened(state, placement).remove("csi-1", place), step)
        store = opened(state, placement)
        assert_whole_or_nothing(store, kubelet, OLD)
        assert_nothing_left(state, kubelet)
        if not was_killed:
            break
    assert LEAST_STEPS < step < MOST_STEPS - 1
