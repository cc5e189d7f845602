# SPDX-License-Identifier: Apache-2.0
"""A configuration file is followed; a bad one keeps the last good value."""

import asyncio

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.testing import KubeletVolume
from webhook.followed_file import FollowedFile


def number(text):
    if not text.isdigit():
        raise ConfigurationError(f"expected a number, got {text!r}")
    return int(text)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "number"
    path.write_text("1")
    return path


class TestStart:
    def test_a_value(self, path):
        """The file's text is parsed."""
        assert FollowedFile(path, number).current == 1

    def test_a_missing_file_is_an_error_that_names_it(self, tmp_path):
        """Nothing is guessed for a file that is not there."""
        with pytest.raises(ConfigurationError, match="nothing: expected a configuration file"):
            FollowedFile(tmp_path / "nothing", number)

    def test_a_missing_file_may_have_a_value(self, tmp_path):
        """Unless the caller says what its absence means."""
        assert FollowedFile(tmp_path / "nothing", number, when_missing=7).current == 7

    @pytest.mark.parametrize(
        "content", [b"x", b"\xff", b"1" * 5_000_000], ids=["invalid", "not-utf-8", "huge"]
    )
    def test_a_bad_file_is_an_error(self, path, content):
        """At the start there is no last good value."""
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="expected"):
            FollowedFile(path, number)


class TestLook:
    def test_a_change(self, path):
        """A new text is a new value."""
        file = FollowedFile(path, number)
        path.write_text("2")
        assert file.look()
        assert file.current == 2

    def test_no_change(self, path):
        """The same text is no news, however new the file is."""
        file = FollowedFile(path, number)
        path.write_text("1")
        assert not file.look()

    def test_a_bad_text_keeps_the_last_value(self, path, caplog):
        """One log line for one fault, until the file is good again."""
        file = FollowedFile(path, number)
        path.write_text("x")
        assert not file.look()
        assert not file.look()
        assert file.current == 1
        assert file.error == "expected a number, got 'x'"
        assert len(caplog.records) == 1
        path.write_text("1")
        file.look()
        assert file.error is None

    def test_a_lost_file_keeps_the_last_value(self, path):
        """A volume that is gone for a moment changes nothing."""
        file = FollowedFile(path, number)
        path.unlink()
        assert not file.look()
        assert file.current == 1
        assert "expected a configuration file" in file.error


class TestFollow:
    async def _next_value(self, file, change):
        got = asyncio.get_running_loop().create_future()

        async def changed(value):
            got.set_result(value)

        task = asyncio.create_task(file.follow(changed))
        change()
        try:
            return await asyncio.wait_for(got, 10)
        finally:
            task.cancel()

    def test_a_volume_of_the_kubelet(self, tmp_path):
        """The swap of the `..data` link is seen."""
        volume = KubeletVolume(tmp_path)
        volume.write({"number": b"1"})
        file = FollowedFile(tmp_path / "number", number, poll_seconds=0.01)
        value = asyncio.run(self._next_value(file, lambda: volume.write({"number": b"2"})))
        assert value == file.current == 2
