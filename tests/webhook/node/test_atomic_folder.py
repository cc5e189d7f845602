# SPDX-License-Identifier: Apache-2.0
"""Files change all at once, and a failure changes nothing."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from tests.waiting import until
from webhook.node.atomic_folder import AtomicFolder, wipe

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 200
OLD = {"credential-bundle.pem": b"old", "example.org.trust-bundle.pem": b"old root"}
NEW = {"credential-bundle.pem": b"new", "partner.example.trust-bundle.pem": b"new root"}


def visible(folder: Path) -> dict[str, bytes]:
    """What a pod that lists the folder finds."""
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if not entry.name.startswith("..")
    }


def modes(folder: Path) -> dict[str, int]:
    found = (folder, (folder / "..data").resolve(), *(folder / "..data").iterdir())
    return {
        "file" if path.is_file() else "folder": stat.S_IMODE(path.stat().st_mode) for path in found
    }


def left_over(folder: Path) -> list[str]:
    """Names beside the visible ones, `..data` and what it leads to."""
    current = os.readlink(folder / "..data") if (folder / "..data").is_symlink() else ""
    hidden = {entry.name for entry in folder.iterdir() if entry.name.startswith("..")}
    return sorted(hidden - {"..data", current})


class TestWrite:
    def test_lies_as_the_kubelet_lays_it(self, tmp_path: Path) -> None:
        """Names are links through `..data` to one folder, which is named after its time."""
        assert AtomicFolder(tmp_path).write(OLD)
        assert visible(tmp_path) == OLD
        assert re.fullmatch(r"\.\.\d{4}(_\d\d){5}\.\d{9}", os.readlink(tmp_path / "..data"))
        assert {os.readlink(tmp_path / name) for name in OLD} == {f"..data/{n}" for n in OLD}

    def test_replaces_all(self, tmp_path: Path) -> None:
        """What is not named any more is gone, and so are the folders of earlier writes."""
        folder = AtomicFolder(tmp_path)
        folder.write(OLD)
        assert folder.write(NEW)
        assert visible(tmp_path) == folder.read() == NEW
        assert left_over(tmp_path) == []

    def test_leaves_the_same_alone(self, tmp_path: Path) -> None:
        """Files that are there already are not written again: no reader is woken."""
        folder = AtomicFolder(tmp_path)
        folder.write(OLD)
        before = os.readlink(tmp_path / "..data")
        assert not folder.write(OLD)
        assert os.readlink(tmp_path / "..data") == before

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_sets_modes_whatever_the_umask(self, tmp_path: Path, umask: int) -> None:
        """Without a group, all who reach the folder may read; nobody but the owner writes."""
        before = os.umask(umask)
        try:
            folder = AtomicFolder(tmp_path)
            folder.protect()
            folder.write(OLD)
        finally:
            os.umask(before)
        assert modes(tmp_path) == {"folder": 0o755, "file": 0o644}

    def test_gives_files_to_the_group(self, tmp_path: Path) -> None:
        """With a group, its members may read, and others may not."""
        group = 2000 if os.geteuid() == 0 else os.getegid()
        folder = AtomicFolder(tmp_path, group)
        folder.protect()
        folder.write(OLD)
        assert modes(tmp_path) == {"folder": 0o750, "file": 0o640}
        owned = [tmp_path, *(tmp_path / "..data").iterdir(), (tmp_path / "..data").resolve()]
        assert {path.stat().st_gid for path in owned} == {group}

    def test_owns_before_the_swap(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """At the moment of the change, modes are what they will be."""
        seen: list[int] = []
        replace = os.replace

        def look(source: str, destination: str) -> None:
            dated = tmp_path / os.readlink(source)
            seen.extend(stat.S_IMODE(p.stat().st_mode) for p in (dated, *dated.iterdir()))
            replace(source, destination)

        monkeypatch.setattr("os.replace", look)
        AtomicFolder(tmp_path, os.getegid()).write({"key": b"k"})
        assert seen == [0o750, 0o640]

    @pytest.mark.parametrize("name", ["", ".", "..", "..data", "a/b", "../a", "/a", "a\0b"])
    def test_refuses_paths(self, tmp_path: Path, name: str) -> None:
        """A file's name is never a path, nor one of the folder's own."""
        with pytest.raises(ConfigurationError):
            AtomicFolder(tmp_path).write({name: b""})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("call", ["chmod", "replace", "symlink"])
    def test_failure_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        """When the disk is full, the old files stay, and nothing of the new ones does."""
        folder = AtomicFolder(tmp_path)
        folder.write(OLD)

        def refuse(*_args: object, **_kwargs: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(f"os.{call}", refuse)
            with pytest.raises(OSError, match="No space left"):
                folder.write(NEW)
        assert visible(tmp_path) == OLD
        assert [name for name in left_over(tmp_path) if name != "..data_tmp"] == []
        folder.write(NEW)
        assert left_over(tmp_path) == []

    def test_sweeps_what_a_killed_process_left(self, tmp_path: Path) -> None:
        """A write removes half-written folders and links, and no stranger's file."""
        folder = AtomicFolder(tmp_path)
        folder.write(OLD)
        (tmp_path / "..2026_11_25_20_00_00.000000001").mkdir()
        (tmp_path / "..2026_11_25_20_00_00.000000001" / "credential-bundle.pem").write_bytes(b"ha")
        (tmp_path / "..data_tmp").symlink_to("..2026_11_25_20_00_00.000000001")
        (tmp_path / "..stranger").mkdir()
        folder.write(NEW)
        assert left_over(tmp_path) == ["..stranger"]
        assert visible(tmp_path) == NEW

    def test_repairs_the_links(self, tmp_path: Path) -> None:
        """Who was killed after the swap is finished by the next, even with the same files."""
        folder = AtomicFolder(tmp_path)
        folder.write(OLD)
        (tmp_path / "credential-bundle.pem").unlink()
        folder.write(OLD)
        assert visible(tmp_path) == OLD

    def test_readers_see_one_write_or_another(self, tmp_path: Path) -> None:
        """However often files change, whoever opened `..data` reads one write of them."""
        folder = AtomicFolder(tmp_path)
        folder.write({"key": b"0", "certificate": b"0"})
        mixed: list[tuple[bytes, bytes]] = []
        reads = 0
        ended = threading.Event()

        def read() -> None:
            nonlocal reads
            while not ended.is_set():
                descriptor = os.open(tmp_path / "..data", os.O_RDONLY | os.O_DIRECTORY)
                try:
                    pair = [_read_at(descriptor, name) for name in ("key", "certificate")]
                except FileNotFoundError:  # The write that we opened is over: a reader begins anew.
                    continue
                finally:
                    os.close(descriptor)
                reads += 1
                if pair[0] != pair[1]:
                    mixed.append((pair[0], pair[1]))

        reader = threading.Thread(target=read)
        reader.start()
        for count in range(ROUNDS):
            content = str(count).encode() * 100
            folder.write({"key": content, "certificate": content})
        until(lambda: reads > 0)
        ended.set()
        reader.join()
        assert mixed == []


class TestRead:
    @pytest.mark.parametrize("data", [None, "..2026_11_25_20_00_00.000000001", "/etc", "elsewhere"])
    def test_without_a_write_is_nothing(self, tmp_path: Path, data: str | None) -> None:
        """No `..data`, a dangling one, or one that leads elsewhere: no files."""
        (tmp_path / "elsewhere").mkdir()
        if data is not None:
            (tmp_path / "..data").symlink_to(data)
        assert AtomicFolder(tmp_path).read() == {}


class TestWipe:
    def test_removes_all_and_follows_nothing(self, tmp_path: Path) -> None:
        """All in the folder goes; what links lead to stays, and so does the folder."""
        outside, inside = tmp_path / "outside", tmp_path / "inside"
        for path in (outside, inside, inside / "sub"):
            path.mkdir()
        (outside / "kept").write_bytes(b"")
        (inside / "link").symlink_to(outside)
        (inside / "sub" / "link").symlink_to(outside)
        (inside / "file").write_bytes(b"")
        wipe(inside)
        assert list(inside.iterdir()) == []
        assert (outside / "kept").exists()


def _read_at(folder: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        return file.read()
