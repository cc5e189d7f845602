# SPDX-License-Identifier: Apache-2.0
"""One consistent read of a directory that is rewritten at any time."""

from __future__ import annotations

import os
import re
import threading

import pytest

from kubetls_sdk import VolumeError, _directory
from kubetls_sdk._directory import MAX_FILE_BYTES, identity, read_directory
from kubetls_sdk.testing import KubeletVolume
from tests.unprivileged import reachable_directory, without_privileges


def read(path):
    return read_directory(str(path), select=lambda _: True)


class TestReadDirectory:
    def test_plain_files(self, tmp_path):
        """A directory without a data link is read as it is."""
        (tmp_path / "a").write_bytes(b"1")
        found = read(tmp_path)
        assert (found.files, found.names, found.is_linked) == ({"a": b"1"}, ("a",), False)

    def test_follows_the_data_link(self, tmp_path):
        """Files come from the directory that `..data` names, whatever lies beside it."""
        volume = KubeletVolume(tmp_path)
        volume.write({"a": b"1"})
        (tmp_path / "stray").write_bytes(b"not part of the volume")
        found = read(tmp_path)
        assert (found.files, found.is_linked) == ({"a": b"1"}, True)

    def test_reads_only_what_is_selected(self, tmp_path):
        """A file that nobody asked for is named but not opened."""
        (tmp_path / "a").write_bytes(b"1")
        os.mkfifo(tmp_path / "b")
        found = read_directory(str(tmp_path), select="a".__eq__)
        assert (found.files, found.names) == ({"a": b"1"}, ("a", "b"))

    def test_gap_of_the_data_link(self, tmp_path):
        """While `..data` is missing nothing is known, which is not the same as nothing there."""
        volume = KubeletVolume(tmp_path)
        volume.write({"a": b"1"})
        with volume.gap(), pytest.raises(VolumeError, match=re.escape("link '..data', got none")):
            read(tmp_path)

    def test_swap_while_reading(self, tmp_path, monkeypatch):
        """A swap between two files discards the read: old and new are never mixed."""
        volume = KubeletVolume(tmp_path)
        volume.write({"a": b"old", "b": b"old"})
        original = _directory._read

        def swapping(path, directory, name):
            content = original(path, directory, name)
            volume.write({"a": b"new", "b": b"new"})
            return content

        monkeypatch.setattr(_directory, "_read", swapping)
        assert read(tmp_path).files == {"a": b"new", "b": b"new"}

    def test_rewrite_in_place_while_reading(self, tmp_path, monkeypatch):
        """A plain file that changes after it was read discards the read as well."""
        (tmp_path / "a").write_bytes(b"old")
        (tmp_path / "b").write_bytes(b"old")
        original = _directory._read

        def rewriting(path, directory, name):
            content = original(path, directory, name)
            if name == "b" and (tmp_path / "a").read_bytes() == b"old":
                (tmp_path / "a").write_bytes(b"newer")
            return content

        monkeypatch.setattr(_directory, "_read", rewriting)
        assert read(tmp_path).files["a"] == b"newer"

    def test_never_at_rest(self, tmp_path, monkeypatch):
        """A directory that changes during every attempt ends in an error, not in a loop."""
        volume = KubeletVolume(tmp_path)
        volume.write({"a": b"0"})
        count = iter(range(1, 1000))
        original = _directory._read

        def swapping(path, directory, name):
            content = original(path, directory, name)
            volume.write({"a": b"%d" % next(count)})
            return content

        monkeypatch.setattr(_directory, "_read", swapping)
        with pytest.raises(VolumeError, match="expected files at rest"):
            read(tmp_path)

    def test_no_mixture_under_constant_swaps(self, tmp_path):
        """A hundred reads beside a busy writer each see one version."""
        volume = KubeletVolume(tmp_path)
        volume.write({"a": b"0", "b": b"0"})
        stop = threading.Event()

        def rotate():
            number = 0
            while not stop.is_set():
                number += 1
                volume.write({"a": b"%d" % number, "b": b"%d" % number})
                stop.wait(0.001)

        writer = threading.Thread(target=rotate)
        writer.start()
        try:
            for _ in range(100):
                files = read(tmp_path).files
                assert files["a"] == files["b"]
        finally:
            stop.set()
            writer.join()

    def test_opens_each_file_once(self, tmp_path, monkeypatch):
        """What was checked is what is used: no file is opened a second time."""
        KubeletVolume(tmp_path).write({"a": b"1", "b": b"2"})
        opened = []
        original = os.open

        def recording(path, *args, **kwargs):
            opened.append(path)
            return original(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", recording)
        read(tmp_path)
        assert (opened.count("a"), opened.count("b")) == (1, 1)

    def test_no_descriptor_is_left(self, tmp_path):
        """Reading, well or not, leaves no open file behind."""
        volume = KubeletVolume(tmp_path)
        volume.write({"a": b"1"})
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            read(tmp_path)
            with volume.gap(), pytest.raises(VolumeError):
                read(tmp_path)
        assert len(os.listdir("/proc/self/fd")) == before


class TestSingleFiles:
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(os.mkfifo, id="fifo without a writer"),
            pytest.param(os.mkdir, id="directory"),
            pytest.param(lambda path: os.symlink("/dev/zero", path), id="device"),
        ],
    )
    @pytest.mark.timeout(10)
    def test_only_regular_files(self, tmp_path, make):
        """What is not a regular file is an error of its own, and never blocks."""
        make(tmp_path / "a")
        error = read(tmp_path).files["a"]
        assert isinstance(error, VolumeError)
        assert str(error).startswith(f"{tmp_path}/a: expected a regular file, got one of mode")

    @pytest.mark.timeout(10)
    def test_kind_that_changes_before_the_open(self, tmp_path, monkeypatch):
        """A file that becomes a FIFO between check and open does not block the reader."""
        regular = os.stat(__file__)
        os.mkfifo(tmp_path / "a")
        original = os.stat
        monkeypatch.setattr(
            os,
            "stat",
            lambda path, **kwargs: regular if path == "a" else original(path, **kwargs),
        )
        assert "expected a regular file" in str(read(tmp_path).files["a"])

    def test_bounded_size(self, tmp_path):
        """A file over the limit is refused, one at the limit is read."""
        (tmp_path / "large").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
        (tmp_path / "most").write_bytes(b"x" * MAX_FILE_BYTES)
        files = read(tmp_path).files
        assert "expected at most 4194304 bytes, got more" in str(files["large"])
        assert len(files["most"]) == MAX_FILE_BYTES

    def test_link_that_leads_nowhere(self, tmp_path):
        """A dangling link is unreadable, not gone."""
        (tmp_path / "a").symlink_to("nowhere")
        assert "got a link that leads nowhere" in str(read(tmp_path).files["a"])


class TestMissing:
    def test_directory(self, tmp_path):
        """The error names the directory and what the closest existing one above it holds."""
        (tmp_path / "other").mkdir()
        with pytest.raises(VolumeError) as caught:
            read(tmp_path / "not" / "there")
        assert str(caught.value) == (
            f"{tmp_path}/not/there: expected a directory, got nothing there;"
            f" {str(tmp_path)!r} has 'other'"
        )

    def test_file_in_place_of_the_directory(self, tmp_path):
        """A file is not a directory."""
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(VolumeError, match="expected a directory, got a file"):
            read(tmp_path / "file")

    def test_blank(self, tmp_path):
        """An empty mount point is told apart from an empty volume that the kubelet wrote."""
        assert read(tmp_path).is_blank
        KubeletVolume(tmp_path).write({})
        assert not read(tmp_path).is_blank


class TestPermissions:
    @pytest.mark.parametrize(
        ("mode", "remedy"),
        [
            pytest.param(0o600, "defaultMode to 0440 and securityContext.fsGroup", id="owner only"),
            pytest.param(0o640, "set securityContext.fsGroup in the pod", id="group of another"),
        ],
    )
    def test_unreadable_file(self, mode, remedy):
        """The error names file, owner, mode, the current user and what to set in the pod."""
        if os.geteuid() != 0 and mode & 0o040:
            pytest.skip("one's own files are in one's own group")
        with reachable_directory() as directory:
            file = directory / "tls.key"
            file.write_bytes(b"secret")
            file.chmod(mode if os.geteuid() == 0 else 0)
            with without_privileges():
                error = str(read(directory).files["tls.key"])
                me = os.geteuid()
        assert error.startswith(f"{file}: permission denied: owner uid {os.geteuid()}, gid ")
        assert f"this process runs as uid {me}, groups [" in error
        assert remedy in error
        assert "secret" not in error

    @pytest.mark.parametrize(
        "mode",
        [
            pytest.param(0o744, id="readable but not enterable"),
            pytest.param(0o711, id="enterable but not readable"),
        ],
    )
    def test_directory(self, mode):
        """A directory without the r or the x bit is an error of the volume that names it."""
        with reachable_directory() as directory:
            (directory / "tls.key").write_bytes(b"")
            directory.chmod(mode if os.geteuid() == 0 else mode & 0o411)
            try:
                with without_privileges(), pytest.raises(VolumeError) as caught:
                    read(directory)
            finally:
                directory.chmod(0o755)
        message = str(caught.value)
        assert message.startswith(str(directory))
        assert f"owner uid {os.geteuid()}" in message
        assert "a CSI driver may need its own attribute" in message

    def test_owner_is_suggested_unless_it_is_root(self):
        """`runAsUser` is named for a file of another user, and never as root."""
        state = os.stat_result((0o100400, 0, 0, 1, 1234, 0, 0, 0, 0, 0))
        root = os.stat_result((0o100400, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        assert _directory._remedy(state).endswith("or securityContext.runAsUser: 1234")
        assert "runAsUser" not in _directory._remedy(root)


class TestIdentity:
    def test_changes_with_the_data_link(self, tmp_path):
        """A swap shows without reading a file."""
        volume = KubeletVolume(tmp_path)
        volume.write({"a": b"1"})
        before = identity(str(tmp_path))
        volume.write({"a": b"2"})
        assert before != identity(str(tmp_path))

    def test_of_nothing(self, tmp_path):
        """A missing directory has an identity too, the empty one."""
        assert identity(str(tmp_path / "missing")) == ()
