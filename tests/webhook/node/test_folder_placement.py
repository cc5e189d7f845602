# SPDX-License-Identifier: Apache-2.0
"""Volumes without mounts: what is special about plain folders."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.unprivileged import reachable_directory, without_privileges
from tests.webhook.node.requests import publication
from webhook.node.folder_placement import FolderPlacement
from webhook.node.volume_store import VolumeStore

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"credential-bundle.pem": b"key and chain"}


class TestWithoutPrivileges:
    @pytest.mark.parametrize("group", [None, 2000])
    def test_works_for_anybody(self, group: int | None) -> None:
        """No privilege is needed; a group that we are not in becomes our own, never everybody."""
        with reachable_directory() as folder:
            folder.chmod(0o777)
            with without_privileges():
                kubelet = folder / "kubelet"
                kubelet.mkdir()
                store = VolumeStore(folder / "state", FolderPlacement(kubelet))
                store.open()
                asked = publication(kubelet, group=group)
                store.create(asked)
                store.write("csi-1", FILES)
                store.expose("csi-1")
                shown = (asked.target / "credential-bundle.pem").stat()
                store.remove("csi-1", asked.target)
                assert [*(folder / "state").iterdir()] == []
                expected = (os.getegid(), 0o100640) if group else (shown.st_gid, 0o100644)
                assert (shown.st_gid, shown.st_mode) == expected


class TestWithdraw:
    def test_removes_what_the_pod_wrote(self, tmp_path: Path) -> None:
        """A pod may have written to its folder: that goes with it."""
        store = VolumeStore(tmp_path / "state", FolderPlacement(tmp_path))
        store.open()
        asked = publication(tmp_path)
        store.create(asked)
        store.write("csi-1", FILES)
        store.expose("csi-1")
        (asked.target / "theirs").mkdir()
        store.remove("csi-1", asked.target)
        assert not asked.target.exists()


class TestExpose:
    def test_lost_folder_is_made_again(self, tmp_path: Path) -> None:
        """A target that somebody removed is shown again with the same files."""
        store = VolumeStore(tmp_path / "state", FolderPlacement(tmp_path))
        store.open()
        asked = publication(tmp_path)
        store.create(asked)
        store.write("csi-1", FILES)
        assert not store.is_exposed("csi-1")
        store.expose("csi-1")
        assert (asked.target / "credential-bundle.pem").read_bytes() == b"key and chain"
