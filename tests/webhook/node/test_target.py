# SPDX-License-Identifier: Apache-2.0
"""The way to a target goes through folders alone, and only the target is ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from webhook.node.target import MissingParentError, Target, TargetError


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    folder = tmp_path / "kubelet"
    (folder / "pods" / "uid").mkdir(parents=True)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside" / "uid").mkdir(parents=True)
    return tmp_path / "outside"


class TestOpen:
    @pytest.mark.parametrize("link", ["pods", "pods/uid"])
    def test_follows_no_link(self, kubelet: Path, outside: Path, link: str) -> None:
        """A component that is a symlink leads nowhere, wherever it is."""
        os.rename(kubelet / link, kubelet / "moved")
        (kubelet / link).symlink_to(outside)
        target = kubelet / "pods" / "uid" / "mount"
        with pytest.raises(TargetError, match="no symlink"), Target.open(target, kubelet) as opened:
            opened.make()
        assert [*outside.rglob("mount")] == []

    def test_wants_the_parent(self, kubelet: Path) -> None:
        """The folder that holds the target is the kubelet's to make."""
        target = kubelet / "pods" / "gone" / "mount"
        with pytest.raises(MissingParentError, match="gone"), Target.open(target, kubelet):
            pass

    def test_file_on_the_way(self, kubelet: Path) -> None:
        """A file on the way is an error that names it."""
        (kubelet / "pods" / "file").write_bytes(b"")
        target = kubelet / "pods" / "file" / "mount"
        with pytest.raises(TargetError, match="'file'"), Target.open(target, kubelet):
            pass

    def test_way_to_the_kubelet_may_have_links(self, kubelet: Path, tmp_path: Path) -> None:
        """Where the administrator keeps the kubelet's folder is the administrator's affair."""
        (tmp_path / "link").symlink_to(kubelet)
        target = tmp_path / "link" / "pods" / "uid" / "mount"
        with Target.open(target, tmp_path / "link") as opened:
            opened.make()
        assert (kubelet / "pods" / "uid" / "mount").is_dir()

    def test_swapped_way_changes_nothing(self, kubelet: Path, outside: Path) -> None:
        """A component that is swapped for a link after the walk does not matter any more."""
        with Target.open(kubelet / "pods" / "uid" / "mount", kubelet) as opened:
            os.rename(kubelet / "pods", kubelet / "moved")
            (kubelet / "pods").symlink_to(outside)
            opened.make()
        assert (kubelet / "moved" / "uid" / "mount").is_dir()
        assert [*outside.rglob("mount")] == []

    def test_leaves_nothing_open(self, kubelet: Path) -> None:
        """Each walk closes what it opened, also when it fails."""
        before = len(os.listdir("/proc/self/fd"))
        with Target.open(kubelet / "pods" / "uid" / "mount", kubelet) as opened:
            opened.make()
            opened.mount_number()
        with pytest.raises(TargetError), Target.open(kubelet / "pods" / "no" / "mount", kubelet):
            pass
        assert len(os.listdir("/proc/self/fd")) == before


class TestMake:
    def test_takes_a_folder_that_is_there(self, kubelet: Path) -> None:
        """Whoever publishes again finds its folder."""
        with Target.open(kubelet / "pods" / "uid" / "mount", kubelet) as opened:
            opened.make()
            opened.make()
            assert opened.is_there

    @pytest.mark.parametrize("kind", ["file", "link", "dangling"])
    def test_refuses_what_is_no_folder(self, kubelet: Path, outside: Path, kind: str) -> None:
        """A file or a link at the target, even to a folder, is not taken for one."""
        place = kubelet / "pods" / "uid" / "mount"
        if kind == "file":
            place.write_bytes(b"")
        else:
            place.symlink_to(outside if kind == "link" else outside / "none")
        with Target.open(place, kubelet) as opened:
            with pytest.raises(TargetError):
                opened.make()
            with pytest.raises(TargetError):
                opened.remove()
            with pytest.raises(TargetError):
                opened.mount_number()
        assert place.is_symlink() or place.is_file()


class TestRemove:
    def test_may_be_repeated(self, kubelet: Path) -> None:
        """A target that is gone is removed."""
        with Target.open(kubelet / "pods" / "uid" / "mount", kubelet) as opened:
            opened.make()
            opened.remove()
            opened.remove()
            assert not opened.is_there

    def test_keeps_what_is_in_use(self, kubelet: Path) -> None:
        """A folder with files in it is an error: they are not ours."""
        (kubelet / "pods" / "uid" / "mount" / "file").mkdir(parents=True)
        with (
            Target.open(kubelet / "pods" / "uid" / "mount", kubelet) as opened,
            pytest.raises(OSError, match="not empty"),
        ):
            opened.remove()
