# SPDX-License-Identifier: Apache-2.0
"""A neighbour that swaps folders under us: nothing outside of the kubelet's folder is touched."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from typing import TYPE_CHECKING

from tests.webhook.node.mount_namespace import in_mount_namespace, mount_table
from tests.webhook.node.requests import publication
from webhook.node.placement import TmpfsPlacement
from webhook.node.target import TargetError
from webhook.node.volume_store import VolumeStore

if TYPE_CHECKING:
    from pathlib import Path

HERE, EXCHANGE = -100, 2
ROUNDS = 150
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: Path, other: Path) -> None:
    """Swap what two names stand for, at once."""
    assert _libc.renameat2(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0


@in_mount_namespace
def test_folder_that_becomes_a_link(tmp_path: Path) -> None:
    """Between any two steps the pod's folder may be a link to somewhere else: nobody goes there."""
    kubelet, elsewhere = tmp_path / "kubelet", tmp_path / "elsewhere"
    kubelet.mkdir()
    (elsewhere / "mount").mkdir(parents=True)
    (elsewhere / "mount" / "theirs").write_bytes(b"theirs")
    store = VolumeStore(tmp_path / "state", TmpfsPlacement(kubelet))
    store.open()
    asked = publication(kubelet)
    folder = asked.target.parent
    link = folder.with_name("link")
    link.symlink_to(elsewhere)
    is_over, swaps = threading.Event(), 0

    def swap() -> None:
        nonlocal swaps
        while not is_over.is_set() or folder.is_symlink():
            exchange(folder, link)
            swaps += 1

    neighbour = threading.Thread(target=swap)
    neighbour.start()
    try:
        for _ in range(ROUNDS):
            with contextlib.suppress(TargetError):
                store.create(asked)
                store.write("csi-1", {"credential-bundle.pem": b"key"})
                store.expose("csi-1")
            with contextlib.suppress(TargetError):
                store.remove("csi-1", asked.target)
            assert str(elsewhere) not in mount_table()
    finally:
        is_over.set()
        neighbour.join()
    store.remove("csi-1", asked.target)
    assert swaps > ROUNDS
    assert [each.name for each in (elsewhere / "mount").iterdir()] == ["theirs"]
    assert [*(tmp_path / "state").iterdir()] == []
    assert not asked.target.exists()
    assert "kubetls-csi" not in mount_table()
