# SPDX-License-Identifier: Apache-2.0
"""The promises of a volume that is written as the kubelet writes it."""

from __future__ import annotations

import os
import re
import stat
import threading

import pytest

from kubetls_sdk import ConfigurationError
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume
from tests.waiting import until

KEY = b"-----BEGIN PRIVATE KEY-----\n"


@pytest.fixture
def volume(tmp_path) -> KubeletVolume:
    return KubeletVolume(tmp_path / "mount")


def entries(volume: KubeletVolume) -> set[str]:
    return set(os.listdir(volume.directory))


def dated(volume: KubeletVolume) -> list[str]:
    return [name for name in entries(volume) if re.fullmatch(r"\.\.\d{4}(_\d\d){5}\.\d{9}", name)]


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestWrite:
    def test_looks_as_the_kubelet_leaves_it(self, volume) -> None:
        """One dated directory, `..data` to it, and visible links through `..data`."""
        assert volume.write({"tls.crt": b"1", "ca.crt": b"2"}) is True
        (directory,) = dated(volume)
        assert entries(volume) == {directory, "..data", "tls.crt", "ca.crt"}
        assert os.readlink(volume.directory / "..data") == directory
        assert os.readlink(volume.directory / "tls.crt") == "..data/tls.crt"
        assert mode(volume.directory / directory) == 0o755
        assert volume.read() == {"tls.crt": b"1", "ca.crt": b"2"}

    def test_replaces_all(self, volume) -> None:
        """A second write leaves nothing of the first: no file, no link, no directory."""
        volume.write({"old": b"1", "both": b"1"})
        (first,) = dated(volume)
        volume.write({"both": b"2", "new": b"2"})
        (second,) = dated(volume)
        assert first != second
        assert entries(volume) == {second, "..data", "both", "new"}
        assert volume.read() == {"both": b"2", "new": b"2"}

    def test_same_content_is_not_written(self, volume) -> None:
        """The kubelet does not write what is there; `always` does."""
        volume.write({"a": b"1"})
        before = dated(volume)
        assert volume.write({"a": b"1"}) is False
        assert dated(volume) == before
        assert volume.write({"a": b"1"}, always=True) is True
        assert dated(volume) != before

    def test_reader_never_sees_a_mixture(self, volume) -> None:
        """Through one open of `..data`, two files are always of the same write."""
        volume.write({"one": b"0", "two": b"0"})
        mixtures, done, rounds = [], threading.Event(), []

        def read_on() -> None:
            while not done.is_set():
                directory = os.open(volume.directory / "..data", os.O_RDONLY)
                try:
                    pair = [_content(name, directory) for name in ("one", "two")]
                finally:
                    os.close(directory)
                if None not in pair:  # The kubelet too removes the directory under a slow reader.
                    rounds.append(1)
                    if pair[0] != pair[1]:
                        mixtures.append(pair)

        reader = threading.Thread(target=read_on)
        reader.start()
        for number in range(200):
            volume.write({"one": b"%d" % number, "two": b"%d" % number})
        until(lambda: len(rounds) > 10)
        done.set()
        reader.join(10)
        assert mixtures == []

    def test_visible_name_always_resolves(self, volume) -> None:
        """While content is replaced, the link of a file that stays is never broken."""
        volume.write({"a": b"0"})
        broken, done = [], threading.Event()

        def look_on() -> None:
            while not done.is_set():
                if not (volume.directory / "a").exists():
                    broken.append(1)

        reader = threading.Thread(target=look_on)
        reader.start()
        for number in range(200):
            volume.write({"a": b"%d" % number}, always=True)
        done.set()
        reader.join(10)
        assert broken == []

    def test_modes(self, tmp_path) -> None:
        """A file with a private key is for its owner only, whatever its name; both can be set."""
        volume = KubeletVolume(tmp_path / "m")
        volume.write({"bundle.pem": KEY, "ca.crt": b"x"})
        assert mode(volume.directory / "bundle.pem") == 0o600
        assert mode(volume.directory / "ca.crt") == 0o644
        other = KubeletVolume(tmp_path / "n", key_mode=0o440, file_mode=0o444)
        other.write({"bundle.pem": KEY, "ca.crt": b"x"})
        assert mode(other.directory / "bundle.pem") == 0o440
        assert mode(other.directory / "ca.crt") == 0o444

    @pytest.mark.parametrize("name", ["", ".", "..", "..data", "../x", "a/b", "/etc/x", "a\0b"])
    def test_refuses_paths(self, volume, name) -> None:
        """A name that is a path or one of the writer's own is refused before any write."""
        with pytest.raises(ConfigurationError, match="plain file name"):
            volume.write({"fine": b"1", name: b"2"})
        assert entries(volume) == set()

    def test_leaves_a_strangers_file(self, volume) -> None:
        """Files that the volume did not write are neither removed nor replaced."""
        (volume.directory / "notes").write_text("mine")
        volume.write({"a": b"1"})
        volume.write({"b": b"1"})
        volume.clear()
        assert entries(volume) == {"notes"}
        with pytest.raises(FileExistsError):
            volume.write({"notes": b"1"})
        with pytest.raises(FileExistsError):
            volume.write_plain({"notes": b"1"})
        assert (volume.directory / "notes").read_text() == "mine"

    def test_continues_another_objects_volume(self, volume) -> None:
        """A second object for the same directory goes on where the first one stopped."""
        volume.write({"a": b"1", "b": b"1"})
        KubeletVolume(volume.directory).write({"a": b"2"})
        assert volume.read() == {"a": b"2"}
        assert len(dated(volume)) == 1


class TestTraps:
    def test_gap(self, volume) -> None:
        """Inside the gap no file resolves and the old directory is there; after it the new is."""
        volume.write({"a": b"1"})
        with volume.gap({"a": b"2"}):
            assert "..data" not in entries(volume)
            assert not (volume.directory / "a").exists()
            assert len(dated(volume)) == 1
        assert volume.read() == {"a": b"2"}
        assert len(dated(volume)) == 1

    def test_gap_keeps_the_content(self, volume) -> None:
        """Without new files, the content after the gap is that before it, even after an error."""
        volume.write({"a": b"1"})
        with pytest.raises(KeyError), volume.gap():
            raise KeyError
        assert volume.read() == {"a": b"1"}

    def test_plain_files(self, volume) -> None:
        """Plain files have no `..data`, and are written in place: the same inode."""
        volume.write({"a": b"1"})
        volume.write_plain({"a": b"2", "b": KEY})
        assert entries(volume) == {"a", "b"}
        assert not (volume.directory / "a").is_symlink()
        assert mode(volume.directory / "b") == 0o600
        inode = (volume.directory / "a").stat().st_ino
        volume.write_plain({"a": b"3"})
        assert (volume.directory / "a").stat().st_ino == inode
        assert volume.read() == {"a": b"3"}

    def test_plain_files_and_back(self, volume) -> None:
        """After plain files, a right write is right again."""
        volume.write_plain({"a": b"2", "b": b"2"})
        volume.write({"a": b"3"})
        assert volume.read() == {"a": b"3"}
        assert (volume.directory / "a").is_symlink()

    def test_clear(self, volume) -> None:
        """A cleared volume is an empty directory, that can be written again."""
        volume.write({"a": b"1"})
        volume.clear()
        assert entries(volume) == set()
        volume.write({"a": b"1"})
        assert volume.read() == {"a": b"1"}


class TestWriteSvid:
    def test_writes_the_layout(self, volume) -> None:
        """An SVID is written with the key file protected."""
        ca = DevelopmentCA()
        assert volume.write_svid(ca.issue(), [ca.bundle], "kubernetes-tls")
        assert volume.read().keys() == {"tls.key", "tls.crt", "ca.crt"}
        assert mode(volume.directory / "tls.key") == 0o600
        assert mode(volume.directory / "tls.crt") == 0o644


def _content(name: str, directory: int) -> bytes | None:
    try:
        file = os.open(name, os.O_RDONLY, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(file, "rb") as opened:
        return opened.read()
