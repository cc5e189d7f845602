# SPDX-License-Identifier: Apache-2.0
"""Volumes as mounts: in memory, read-only for pods, and gone whatever goes wrong."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.webhook.node.mount_namespace import in_mount_namespace, mount_table
from tests.webhook.node.requests import publication, target
from webhook.node.mounts import mount_tmpfs, mounts, unmount
from webhook.node.placement import TmpfsPlacement
from webhook.node.target import TargetError
from webhook.node.volume_store import VolumeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
FILES = {"credential-bundle.pem": b"key and chain"}
MIB = 1024 * 1024

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.webhook.node.requests import publication
from webhook.node import placement
from webhook.node.volume_store import VolumeStore

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

kubelet, state, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
store = VolumeStore(state, placement.TmpfsPlacement(kubelet))
store.open()
setattr(placement, moment, die)
store.create(publication(kubelet))
store.write("csi-1", {"credential-bundle.pem": b"key and chain"})
store.expose("csi-1")
"""


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    folder = tmp_path / "kubelet"
    folder.mkdir()
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def opened(state: Path, kubelet: Path, **options: int) -> VolumeStore:
    store = VolumeStore(state, TmpfsPlacement(kubelet, **options))
    store.open()
    return store


def filled(store: VolumeStore, kubelet: Path) -> Path:
    store.create(publication(kubelet))
    store.write("csi-1", FILES)
    store.expose("csi-1")
    return target(kubelet)


def options_at(place: Path) -> tuple[set[str], set[str]]:
    """The options of the mount itself, and those of its file system."""
    (line,) = (line for line in mount_table().splitlines() if line.split()[4] == str(place))
    before, after = line.split(" - ")
    return set(before.split()[5].split(",")), set(after.split()[2].split(","))


def home(state: Path) -> Path:
    return state / hashlib.sha256(b"csi-1").hexdigest()


def assert_nothing_left(state: Path, kubelet: Path) -> None:
    assert [*state.iterdir()] == []
    assert [*kubelet.rglob("mount")] == []
    assert "kubetls-csi" not in mount_table()


class TestMounts:
    @in_mount_namespace
    def test_pod_cannot_write(self, kubelet: Path, state: Path) -> None:
        """What the pod gets is read-only, without devices, programs and set-uid."""
        place = filled(opened(state, kubelet), kubelet)
        assert {"ro", "nosuid", "nodev", "noexec"} <= options_at(place)[0]
        with pytest.raises(OSError, match="Read-only"):
            (place / "file").write_bytes(b"")
        with pytest.raises(OSError, match="Read-only"):
            (place / "credential-bundle.pem").write_bytes(b"")

    @in_mount_namespace
    def test_pod_cannot_see_the_state(self, kubelet: Path, state: Path) -> None:
        """Of the tmpfs, only the folder of the files is shown."""
        place = filled(opened(state, kubelet), kubelet)
        assert {entry.name for entry in place.iterdir() if not entry.name.startswith("..")} == {
            "credential-bundle.pem"
        }
        assert (home(state) / "state.json").exists()

    @in_mount_namespace
    def test_is_memory_of_a_bounded_size(self, kubelet: Path, state: Path) -> None:
        """The volume is a tmpfs of its own, with a limit of bytes and of files."""
        filled(opened(state, kubelet, most_bytes=2 * MIB), kubelet)
        mount, file_system = options_at(home(state))
        assert {"nosuid", "nodev", "noexec"} <= mount
        assert {"size=2048k", "mode=700", "nr_inodes=4096"} <= file_system

    @in_mount_namespace
    def test_old_kernels_have_no_noswap(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the kernel does not know how to keep a tmpfs out of swap, it is mounted without."""
        from webhook.node import mounts as module

        real, tried = module._mount, []

        def refuse(source: str, place: str, kind: str, flags: int, options: str) -> None:
            tried.append(options)
            if "noswap" in options:
                raise OSError(errno.EINVAL, "Invalid argument")
            real(source, place, kind, flags, options)

        monkeypatch.setattr(module, "_mount", refuse)
        mount_tmpfs(tmp_path, name="x", most_bytes=MIB)
        assert len(tried) == 2
        assert any(mount.is_ours and mount.place == tmp_path for mount in mounts())

    @in_mount_namespace
    def test_table_is_read_whatever_the_path(self, tmp_path: Path) -> None:
        """Blanks and backslashes in a path are told apart in the table of mounts."""
        place = tmp_path / "a b\\040c\nd"
        place.mkdir()
        mount_tmpfs(place, name="x", most_bytes=MIB)
        assert [mount.place for mount in mounts() if mount.is_ours] == [place]


class TestNode:
    """What the node, the kubelet and the driver's next container see: mounts that propagate."""

    @in_mount_namespace
    def test_is_read_only_there_too(self, kubelet: Path, state: Path) -> None:
        """A mount is read-only from its beginning: what is made so later, is so for us alone."""
        state.mkdir()
        for folder in (kubelet, state):
            run("mount", "--bind", folder, folder)
            run("mount", "--make-shared", folder)
        with another_namespace() as mount_table_there:
            store = opened(state, kubelet)
            place = filled(store, kubelet)
            (line,) = (each for each in mount_table_there() if each.split()[4] == str(place))
            assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))
            assert [
                each for each in mount_table_there() if each.split()[4].endswith("/shown")
            ] == []
            store.remove("csi-1", place)
            assert [each for each in mount_table_there() if "kubetls-csi" in each] == []


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


@contextlib.contextmanager
def another_namespace() -> Iterator[Callable[[], list[str]]]:
    """A mount namespace beside this one, by its table of mounts; shared mounts are shared."""
    command = ["unshare", "--mount", "--propagation=unchanged", "sh", "-c", "echo; read end"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        table = Path(f"/proc/{process.pid}/mountinfo")
        yield lambda: table.read_text().splitlines()
        process.communicate(b"\n")


def fill_up(disk: Path) -> Path:
    """Take all room of a file system with folders in one folder."""
    filler = disk / "filler"
    filler.mkdir()
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (filler / str(number)).mkdir()
    return filler


class TestFull:
    @in_mount_namespace
    def test_first_write_says_so(self, kubelet: Path, state: Path) -> None:
        """Files that do not fit are an error, and nothing of them is left."""
        store = opened(state, kubelet, most_bytes=MIB)
        store.create(publication(kubelet))
        with pytest.raises(OSError, match="No space left") as failed:
            store.write("csi-1", {"credential-bundle.pem": b"x" * 2 * MIB})
        assert failed.value.errno == errno.ENOSPC
        assert store.read("csi-1") == {}
        store.remove("csi-1", target(kubelet))
        assert_nothing_left(state, kubelet)

    @in_mount_namespace
    def test_renewal_keeps_the_old_files(self, kubelet: Path, state: Path) -> None:
        """A renewal that does not fit leaves the pod what it has, and the next one passes."""
        store = opened(state, kubelet, most_bytes=MIB)
        place = filled(store, kubelet)
        with pytest.raises(OSError, match="No space left"):
            store.write("csi-1", {"credential-bundle.pem": b"x" * 2 * MIB})
        assert (place / "credential-bundle.pem").read_bytes() == b"key and chain"
        store.write("csi-1", {"credential-bundle.pem": b"renewed"})
        assert (place / "credential-bundle.pem").read_bytes() == b"renewed"

    @in_mount_namespace
    def test_of_the_state_folder(self, kubelet: Path, state: Path) -> None:
        """Without room for one folder more, volumes are found again, renewed and removed."""
        state.mkdir(mode=0o700)
        mount_tmpfs(state, name="disk", most_bytes=MIB)
        place = filled(opened(state, kubelet), kubelet)
        filler = fill_up(state)
        store = opened(state, kubelet)
        with pytest.raises(OSError, match="No space left"):
            store.create(publication(kubelet, "new"))
        store.remove("new", target(kubelet, "new"))
        assert [each.volume_id for each in store] == ["csi-1"]
        store.write("csi-1", {"credential-bundle.pem": b"renewed"})
        assert (place / "credential-bundle.pem").read_bytes() == b"renewed"
        store.remove("csi-1", place)
        assert not place.exists()
        assert [*state.iterdir()] == [filler]
        shutil.rmtree(filler)
        filled(store, kubelet)

    @in_mount_namespace
    def test_many_partners_are_no_hindrance(self, kubelet: Path, state: Path) -> None:
        """A file for each of a thousand partners fits, the old ones beside the new."""
        store = opened(state, kubelet)
        place = filled(store, kubelet)
        for content in (b"old", b"new"):
            bundles = {f"d{number}.example.trust-bundle.pem": content for number in range(1000)}
            store.write("csi-1", {**FILES, **bundles})
        assert (place / "d999.example.trust-bundle.pem").read_bytes() == b"new"


class TestHalfFailed:
    @pytest.mark.parametrize("step", ["bind", "make_read_only"])
    @in_mount_namespace
    def test_target_is_as_it_was(
        self, kubelet: Path, state: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """A bind mount that fails, or cannot be made read-only, is not left at the target."""
        store = opened(state, kubelet)
        store.create(publication(kubelet))
        store.write("csi-1", FILES)

        def refuse(*_args: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        with monkeypatch.context() as patch:
            patch.setattr(f"webhook.node.placement.{step}", refuse)
            with pytest.raises(PermissionError):
                store.expose("csi-1")
        assert [*target(kubelet).iterdir()] == []
        assert str(target(kubelet)) not in mount_table()
        store.remove("csi-1", target(kubelet))
        assert_nothing_left(state, kubelet)

    @pytest.mark.parametrize("step", ["mount_tmpfs", "AtomicFolder"])
    @in_mount_namespace
    def test_volume_is_gone(
        self, kubelet: Path, state: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """A volume that cannot be made leaves no mount and no folder."""
        store = opened(state, kubelet)

        def refuse(*_args: object, **_kwargs: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        with monkeypatch.context() as patch:
            patch.setattr(f"webhook.node.placement.{step}", refuse)
            with pytest.raises(PermissionError):
                store.create(publication(kubelet))
        store.remove("csi-1", target(kubelet))
        assert_nothing_left(state, kubelet)

    @pytest.mark.parametrize("moment", ["mount_tmpfs", "AtomicFolder", "bind", "make_read_only"])
    @in_mount_namespace
    def test_killed_process_is_cleaned_up_after(
        self, kubelet: Path, state: Path, moment: str
    ) -> None:
        """Whenever a process is killed on the way, the next one removes what it left."""
        command = [sys.executable, "-c", KILLED, str(kubelet), str(state), moment]
        done = subprocess.run(command, cwd=ROOT, timeout=30)
        assert done.returncode == -9
        assert home(state).exists()
        assert list(opened(state, kubelet)) == []
        assert [*state.iterdir()] == []
        assert "kubetls-csi" not in mount_table()
        VolumeStore(state, TmpfsPlacement(kubelet)).remove("csi-1", target(kubelet))
        assert_nothing_left(state, kubelet)


class TestReboot:
    @in_mount_namespace
    def test_folders_without_mounts_are_removed(self, kubelet: Path, state: Path) -> None:
        """After a reboot the folders are there and nothing is mounted: no volume is found."""
        place = filled(opened(state, kubelet), kubelet)
        unmount(str(place))
        unmount(str(home(state)))
        assert list(opened(state, kubelet)) == []
        assert [*state.iterdir()] == []
        store = opened(state, kubelet)
        assert filled(store, kubelet) == place
        assert store.is_exposed("csi-1")


class TestRepair:
    @in_mount_namespace
    def test_lost_mount_is_made_again(self, kubelet: Path, state: Path) -> None:
        """A target that somebody unmounted is noticed, and shown again with the same files."""
        store = opened(state, kubelet)
        place = filled(store, kubelet)
        unmount(str(place))
        place.rmdir()
        assert not store.is_exposed("csi-1")
        store.expose("csi-1")
        assert (place / "credential-bundle.pem").read_bytes() == b"key and chain"

    @in_mount_namespace
    def test_writable_mount_is_made_again(self, kubelet: Path, state: Path) -> None:
        """A bind mount that is not read-only does not count as shown."""
        store = opened(state, kubelet)
        place = filled(store, kubelet)
        subprocess.run(["mount", "-o", "remount,bind,rw", str(place)], check=True, timeout=10)
        assert not store.is_exposed("csi-1")
        store.expose("csi-1")
        assert "ro" in options_at(place)[0]

    @in_mount_namespace
    def test_older_volume_at_the_target_gives_way(self, kubelet: Path, state: Path) -> None:
        """What a process before us left at the target, without a record of it, is replaced."""
        store = opened(state, kubelet)
        place = filled(store, kubelet)
        unmount(str(home(state)))
        assert list(opened(state, kubelet)) == []
        place.mkdir(exist_ok=True)
        store = opened(state, kubelet)
        store.create(publication(kubelet))
        store.write("csi-1", {"credential-bundle.pem": b"new"})
        store.expose("csi-1")
        assert (place / "credential-bundle.pem").read_bytes() == b"new"
        store.remove("csi-1", place)
        assert_nothing_left(state, kubelet)


class TestStrangers:
    @in_mount_namespace
    def test_their_mounts_stay(self, kubelet: Path, state: Path) -> None:
        """A mount of somebody else at the target is neither covered nor unmounted."""
        place = target(kubelet)
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "theirs", str(place)], check=True, timeout=10)
        store = opened(state, kubelet)
        store.create(publication(kubelet))
        store.write("csi-1", FILES)
        for call in (store.expose, lambda v: store.remove(v, place)):
            with pytest.raises(TargetError, match="somebody else"):
                call("csi-1")
        assert mount_table().count(str(place)) == 1

    @pytest.mark.parametrize("place", ["volume", "inside", "."])
    @in_mount_namespace
    def test_what_they_show_in_ours_stays(
        self, kubelet: Path, state: Path, tmp_path: Path, place: str
    ) -> None:
        """A folder of somebody else that is mounted in a volume is not wiped with it."""
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        (theirs / "file").write_bytes(b"theirs")
        store = opened(state, kubelet)
        filled(store, kubelet)
        within = home(state) / place
        within.mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", str(theirs), str(within)], check=True, timeout=10)
        with pytest.raises(TargetError):
            store.remove("csi-1", target(kubelet))
        with pytest.raises(TargetError):
            store.create(publication(kubelet))
        opened(state, kubelet)
        assert [each.name for each in theirs.iterdir()] == ["file"]
        unmount(str(within))
        store.remove("csi-1", target(kubelet))
        assert_nothing_left(state, kubelet)


class TestBusy:
    @in_mount_namespace
    def test_open_file_does_not_keep_the_key(
        self, kubelet: Path, state: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Who keeps the volume busy is told of, and finds it empty; removal passes all the same."""
        store = opened(state, kubelet)
        place = filled(store, kubelet)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            store.remove("csi-1", place)
            assert os.listdir(folder) == []
        finally:
            os.close(folder)
        assert "detached lazily" in caplog.text
        assert_nothing_left(state, kubelet)

    @in_mount_namespace
    def test_a_moment_is_waited_for(
        self,
        kubelet: Path,
        state: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A mount that is busy only for a moment is unmounted properly."""
        store = opened(state, kubelet)
        place = filled(store, kubelet)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        monkeypatch.setattr("webhook.node.mounts.time.sleep", lambda _seconds: os.close(folder))
        store.remove("csi-1", place)
        assert "lazily" not in caplog.text
        assert_nothing_left(state, kubelet)
