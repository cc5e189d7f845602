# SPDX-License-Identifier: Apache-2.0
"""Volumes are made, shown, renewed, found again and removed, with mounts and without."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.webhook.node.mount_namespace import in_mount_namespace, mount_table
from tests.webhook.node.requests import POD, publication, target
from webhook.node.folder_placement import FolderPlacement
from webhook.node.placement import TmpfsPlacement
from webhook.node.publication import InvalidPublication
from webhook.node.state_file import read_state
from webhook.node.target import MissingParentError, TargetError
from webhook.node.volume_store import StoreError, UnknownVolumeError, VolumeStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.node.placement import Placement

FILES = {
    "credential-bundle.pem": b"key and chain",
    "example.org.trust-bundle.pem": b"partner roots",
}
RENEWED = {
    "credential-bundle.pem": b"another key",
    "example.org.trust-bundle.pem": b"partner roots",
}

both = pytest.mark.parametrize("placed", [TmpfsPlacement, FolderPlacement], ids=["tmpfs", "folder"])


@pytest.fixture
def kubelet(tmp_path: Path) -> Path:
    folder = tmp_path / "kubelet"
    folder.mkdir()
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def opened(state: Path, placement: Placement) -> VolumeStore:
    store = VolumeStore(state, placement)
    store.open()
    return store


def home(state: Path, volume_id: str = "csi-1") -> Path:
    return state / hashlib.sha256(volume_id.encode()).hexdigest()


def seen(place: Path) -> dict[str, bytes]:
    return {e.name: e.read_bytes() for e in place.iterdir() if not e.name.startswith("..")}


def filled(store: VolumeStore, kubelet: Path, volume_id: str = "csi-1") -> Path:
    """A volume that a pod has."""
    asked = publication(kubelet, volume_id)
    store.create(asked)
    store.write(volume_id, FILES)
    store.expose(volume_id)
    return asked.target


def assert_nothing_left(state: Path, kubelet: Path) -> None:
    assert [*state.iterdir()] == []
    assert [*kubelet.rglob("mount")] == []
    assert "kubetls-csi" not in mount_table()


@both
class TestLife:
    @in_mount_namespace
    def test_from_creation_to_removal(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """A pod sees nothing, then all files, then the renewed ones, and nothing is left."""
        store = opened(state, placed(kubelet))
        asked = publication(kubelet)
        store.create(asked)
        assert store.get("csi-1") == asked
        assert store.write("csi-1", FILES)
        assert seen(asked.target) == {}
        assert not store.is_exposed("csi-1")
        store.expose("csi-1")
        assert store.is_exposed("csi-1")
        assert seen(asked.target) == store.read("csi-1") == FILES
        assert not store.write("csi-1", FILES)
        assert store.write("csi-1", RENEWED)
        assert seen(asked.target) == store.read("csi-1") == RENEWED
        store.remove("csi-1", asked.target)
        assert store.get("csi-1") is None
        assert_nothing_left(state, kubelet)

    @in_mount_namespace
    def test_may_be_shown_twice(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """To show what is shown changes nothing: no second mount."""
        store = opened(state, placed(kubelet))
        place = filled(store, kubelet)
        before = mount_table()
        store.expose("csi-1")
        assert mount_table() == before
        assert seen(place) == FILES

    @in_mount_namespace
    def test_removal_may_be_repeated(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """Unknown is removed: with a folder at the target, without one, and without its parent."""
        store = opened(state, placed(kubelet))
        place = filled(store, kubelet)
        store.remove("csi-1", place)
        store.remove("csi-1", place)
        place.mkdir()
        store.remove("csi-1", place)
        assert not place.exists()
        place.parent.rmdir()
        store.remove("csi-1", place)

    @in_mount_namespace
    def test_removal_elsewhere_leaves_the_volume(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """The end of a publication at another target is not the end of this one."""
        store = opened(state, placed(kubelet))
        place = filled(store, kubelet)
        store.remove("csi-1", target(kubelet, "other"))
        assert seen(place) == FILES

    @pytest.mark.parametrize("call", ["create", "remove"])
    @in_mount_namespace
    def test_place_of_another(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement], call: str
    ) -> None:
        """A volume neither takes the place of another, nor ends it: a pod keeps what it has."""
        store = opened(state, placed(kubelet))
        place = filled(store, kubelet)
        before = mount_table()
        other = replace(publication(kubelet, "other"), target=place)
        arguments = (other,) if call == "create" else ("other", place)
        with pytest.raises(TargetError, match="the place of volume 'csi-1'"):
            getattr(store, call)(*arguments)
        assert (seen(place), mount_table()) == (FILES, before)
        assert store.is_exposed("csi-1")
        assert len(store) == 1

    @in_mount_namespace
    def test_unknown_volumes_are_no_volumes(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """What was never created, or is removed, can be neither written nor shown."""
        store = opened(state, placed(kubelet))
        assert not store.is_exposed("csi-1")
        for call in (store.read, store.expose, lambda v: store.write(v, FILES)):
            with pytest.raises(UnknownVolumeError):
                call("csi-1")

    @in_mount_namespace
    def test_id_is_no_path(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """A volume may be called anything: its folder is named by a hash."""
        store = opened(state, placed(kubelet))
        store.create(publication(kubelet))
        hostile = publication(kubelet, "other")
        store.create(type(hostile)("../../../etc/x", hostile.target, hostile.pod))
        assert {entry.name for entry in state.iterdir()} == {
            home(state).name,
            home(state, "../../../etc/x").name,
        }

    @in_mount_namespace
    def test_group_reads(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """The pod's group may read, and nobody else may."""
        store = opened(state, placed(kubelet))
        asked = publication(kubelet, group=2000)
        store.create(asked)
        store.write("csi-1", FILES)
        store.expose("csi-1")
        for path, mode in ((asked.target, 0o750), (asked.target / "credential-bundle.pem", 0o640)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert path.stat().st_gid == (2000 if os.geteuid() == 0 else os.getegid())

    @in_mount_namespace
    def test_state_has_no_key(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """What is kept of a publication names the pod, is ours alone, and holds no content."""
        filled(opened(state, placed(kubelet)), kubelet)
        kept = home(state) / "state.json"
        assert b"web-0" in kept.read_bytes()
        assert not any(content in kept.read_bytes() for content in FILES.values())
        for path, mode in ((state, 0o700), (home(state), 0o700), (kept, 0o600)):
            assert stat.S_IMODE(path.stat().st_mode) == mode

    @in_mount_namespace
    def test_different_volumes_at_once(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """Many volumes come and go at the same time, and each has its own."""
        store = opened(state, placed(kubelet))
        failures: list[BaseException] = []

        def live(volume_id: str) -> None:
            try:
                for _ in range(3):
                    place = filled(store, kubelet, volume_id)
                    assert seen(place) == FILES
                    store.remove(volume_id, place)
            except BaseException as error:  # noqa: BLE001 - shown below
                failures.append(error)

        threads = [threading.Thread(target=live, args=(f"csi-{n}",)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert_nothing_left(state, kubelet)


@both
class TestFailure:
    @in_mount_namespace
    def test_without_parent_nothing_is_made(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """A target whose folder is gone fails at once, with nothing left behind."""
        store = opened(state, placed(kubelet))
        asked = publication(kubelet)
        asked.target.parent.rmdir()
        with pytest.raises(MissingParentError):
            store.create(asked)
        assert store.get("csi-1") is None
        assert_nothing_left(state, kubelet)

    @pytest.mark.parametrize("kind", ["file", "link"])
    @in_mount_namespace
    def test_something_else_at_the_target(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement], kind: str
    ) -> None:
        """A file or a link at the target is refused, and left as it is."""
        store = opened(state, placed(kubelet))
        asked = publication(kubelet)
        if kind == "file":
            asked.target.write_bytes(b"stranger's")
        else:
            asked.target.symlink_to(state)
        with pytest.raises(TargetError):
            store.create(asked)
        with pytest.raises(TargetError):
            store.remove("csi-1", asked.target)
        assert asked.target.is_symlink() or asked.target.read_bytes() == b"stranger's"
        assert [*state.iterdir()] == []

    @in_mount_namespace
    def test_strangers_files_at_the_target_stay(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """Files in the target of an unknown volume are not ours to remove."""
        store = opened(state, placed(kubelet))
        place = target(kubelet)
        (place / "theirs").mkdir(parents=True)
        with pytest.raises(OSError, match="not empty"):
            store.remove("csi-1", place)
        assert (place / "theirs").exists()

    @in_mount_namespace
    def test_failed_state_leaves_nothing(
        self,
        kubelet: Path,
        state: Path,
        placed: Callable[[Path], Placement],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A disk that fails while the volume is made leaves no mount and no folder."""
        store = opened(state, placed(kubelet))
        asked = publication(kubelet)

        def refuse(*_args: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("webhook.node.volume_store.write_state", refuse)
        with pytest.raises(OSError, match="No space"):
            store.create(asked)
        assert store.get("csi-1") is None
        store.remove("csi-1", asked.target)
        assert_nothing_left(state, kubelet)


@both
class TestOpen:
    @in_mount_namespace
    def test_finds_whole_volumes_again(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """The next process has all volumes, with their files, and can renew and remove them."""
        place = filled(opened(state, placed(kubelet)), kubelet)
        before = mount_table()
        store = opened(state, placed(kubelet))
        assert list(store) == [publication(kubelet)]
        assert mount_table() == before
        assert store.is_exposed("csi-1")
        assert store.read("csi-1") == FILES
        store.write("csi-1", RENEWED)
        assert seen(place) == RENEWED
        store.remove("csi-1", place)
        assert_nothing_left(state, kubelet)

    @pytest.mark.parametrize("steps", [1, 2], ids=["created", "written"])
    @in_mount_namespace
    def test_removes_half_made_ones(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement], steps: int
    ) -> None:
        """A process that was killed before the pod had its volume left nothing for long."""
        store = opened(state, placed(kubelet))
        store.create(publication(kubelet))
        if steps == 2:
            store.write("csi-1", FILES)
        assert list(opened(state, placed(kubelet))) == []
        assert_nothing_left(state, kubelet)

    @pytest.mark.parametrize(
        "content",
        [None, "", "{", "[]", "{}", '{"volume": "csi-1"}', "[" * 50_000],
        ids=["absent", "empty", "cut", "list", "object", "part", "deep"],
    )
    @in_mount_namespace
    def test_removes_what_does_not_say_whose_it_is(
        self,
        kubelet: Path,
        state: Path,
        placed: Callable[[Path], Placement],
        content: str | None,
    ) -> None:
        """A volume of ours whose record is damaged is nobody's."""
        store = opened(state, placed(kubelet))
        store.create(publication(kubelet))
        (home(state) / "state.json").unlink()
        if content is not None:
            (home(state) / "state.json").write_text(content)
        assert list(opened(state, placed(kubelet))) == []
        assert [*state.iterdir()] == []

    @in_mount_namespace
    def test_one_broken_volume_keeps_no_other_away(
        self,
        kubelet: Path,
        state: Path,
        placed: Callable[[Path], Placement],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A volume that can be neither read nor removed is logged; the others are found."""
        store = opened(state, placed(kubelet))
        for volume_id in ("csi-1", "csi-2"):
            filled(store, kubelet, volume_id)
        broken = home(state)

        def fail_at_broken(call: Callable[..., object]) -> Callable[..., object]:
            def failing(self: object, folder: Path, *rest: object) -> object:
                if folder == broken:
                    raise OSError(5, "Input/output error")
                return call(self, folder, *rest)

            return failing

        for name in ("read", "discard"):
            monkeypatch.setattr(placed, name, fail_at_broken(getattr(placed, name)))
        assert [each.volume_id for each in opened(state, placed(kubelet))] == ["csi-2"]

    @in_mount_namespace
    def test_believes_no_record_of_another(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """A record in the folder of another volume, or with a target outside, is not believed."""
        store = opened(state, placed(kubelet))
        place = filled(store, kubelet)
        store.create(publication(kubelet, "other"))
        record = (home(state) / "state.json").read_text()
        (home(state, "other") / "state.json").write_text(record)
        assert list(opened(state, placed(kubelet))) == [publication(kubelet)]
        assert seen(place) == FILES
        another = record.replace(POD.uid, "another", 1)
        for forged in (record.replace(str(place), "/etc/mount"), another):
            (home(state) / "state.json").write_text(forged)
            with pytest.raises(InvalidPublication):
                read_state(home(state), kubelet)
        assert list(opened(state, placed(kubelet))) == []

    @in_mount_namespace
    def test_vanished_pod(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """A volume whose pod's folder went meanwhile is removed."""
        store = opened(state, placed(kubelet))
        asked = publication(kubelet)
        store.create(asked)
        store.write("csi-1", FILES)
        asked.target.rmdir()
        asked.target.parent.rmdir()
        assert list(opened(state, placed(kubelet))) == []
        assert_nothing_left(state, kubelet)

    @in_mount_namespace
    def test_leaves_strangers_alone(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """Folders of other names, files and links in the state folder stay as they are."""
        state.mkdir(mode=0o700)
        (state / "lost+found").mkdir()
        (state / ("a" * 64)).write_bytes(b"a file")
        (state / ("b" * 64)).symlink_to(kubelet)
        assert len(opened(state, placed(kubelet))) == 0
        assert {entry.name for entry in state.iterdir()} == {"lost+found", "a" * 64, "b" * 64}
        assert kubelet.is_dir()

    @in_mount_namespace
    def test_folder_is_ours_alone(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """A folder that others could enter is closed; a link in its place is refused."""
        state.mkdir(mode=0o777)
        opened(state, placed(kubelet))
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        link = state.parent / "link"
        link.symlink_to(state)
        with pytest.raises(StoreError, match="no symlink"):
            opened(link, placed(kubelet))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    @in_mount_namespace
    def test_folder_of_another_user(
        self, kubelet: Path, state: Path, placed: Callable[[Path], Placement]
    ) -> None:
        """A folder of another user, who could open it again, is refused."""
        state.mkdir(mode=0o700)
        os.chown(state, 65534, 65534)
        with pytest.raises(StoreError, match="of our own"):
            opened(state, placed(kubelet))
