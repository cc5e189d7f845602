# SPDX-License-Identifier: Apache-2.0
"""Keys in a file: followed, kept while unreadable, gone with the file."""

from __future__ import annotations

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.users import KeyFile
from tests.tokens import Signer
from tests.waiting import until

ONE, TWO = Signer("ES256"), Signer("ES256", kid="k2", number=1)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_text(ONE.jwks())
    return file


@pytest.fixture
def opened(path):
    keys = KeyFile(path=path, poll_seconds=0.2).open()
    yield keys
    keys.close()


def replace(path, text):
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


class TestKeyFile:
    def test_followed(self, path, opened):
        """A replaced file is in force soon, without a restart."""
        assert opened.usable().has("k1")
        replace(path, TWO.jwks())
        until(lambda: opened.usable().has("k2"))
        assert not opened.usable().has("k1")

    def test_unchanged(self, opened):
        """The same content is the same set: what was verified stays verified."""
        before = opened.usable()
        opened.look()
        assert opened.usable() is before

    def test_nothing_to_wait_for(self, opened):
        """A file is never fetched."""
        assert opened.flight("k9") is None
        assert opened.last() is opened.usable()

    def test_half_written(self, path, opened, caplog):
        """A broken file keeps the keys, with one line in the log for it."""
        half = path.with_suffix(".half")
        half.write_text(ONE.jwks()[:-5])
        half.replace(path)  # at once: the watcher would find an empty file on the way
        opened.look()
        opened.look()
        assert opened.usable().has("k1")
        assert caplog.text.count("stay as they are") == 1
        path.write_text(TWO.jwks())
        opened.look()
        assert opened.usable().has("k2")
        assert opened.error is None

    def test_broken_for_too_long(self, path):
        """A file that stays broken verifies nobody in the end."""
        keys = KeyFile(path=path, poll_seconds=10, max_stale_seconds=0).open()
        try:
            path.write_text("{")
            until(lambda: keys.look() or not keys.usable().keys)
            assert "too long" in keys.error
        finally:
            keys.close()

    def test_gone(self, path, opened, caplog):
        """A file that is gone verifies nobody at once, and its return is noticed."""
        path.unlink()
        opened.look()
        assert opened.usable().keys == ()
        assert "gone" in caplog.text
        path.write_text(ONE.jwks())
        opened.look()
        assert opened.usable().has("k1")

    def test_emptied(self, path, opened):
        """A set without keys is a removal."""
        path.write_text('{"keys": []}')
        opened.look()
        assert opened.usable().keys == ()

    @pytest.mark.parametrize("content", [None, "", "{", '{"keys": 1}'])
    def test_start(self, tmp_path, content):
        """At the start the file has to be a JWK Set; the error names it."""
        file = tmp_path / "jwks.json"
        if content is not None:
            file.write_text(content)
        with pytest.raises(ConfigurationError, match=r"jwks\.json"):
            KeyFile(path=file).open()

    def test_close(self, opened):
        """The thread ends with it, and closing twice is fine."""
        opened.close()
        opened.close()
        assert not opened._follower.is_alive

    def test_fork(self, opened):
        """A forked child, which nobody tells of a removed key, verifies nobody."""
        opened._disown()
        assert opened.usable().keys == ()

    @pytest.mark.parametrize("wrong", [{"poll_seconds": 0}, {"max_stale_seconds": -1}], ids=str)
    def test_settings(self, wrong):
        """Times out of range cannot be set."""
        with pytest.raises(ConfigurationError):
            KeyFile(path="x", **wrong)

    def test_unreadable(self, path, opened):
        """Something that is there and cannot be read keeps the keys."""
        with opened._looking:  # a look in between would find it gone
            path.unlink()
            path.mkdir()
        opened.look()
        assert opened.usable().has("k1")
        assert "directory" in opened.error
