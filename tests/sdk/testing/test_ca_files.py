# SPDX-License-Identifier: Apache-2.0
"""The promises of a development CA on disk."""

from __future__ import annotations

import json
import os
import stat

import pytest

from kubetls_sdk import ConfigurationError
from kubetls_sdk.testing import KEY_TYPES, DevelopmentCA


class TestSaveAndLoad:
    @pytest.mark.parametrize("key_type", KEY_TYPES)
    def test_round_trip(self, key_type, tmp_path) -> None:
        """A loaded CA has the same name, bundle and signing root, and issues as before."""
        ca = DevelopmentCA("td.test", key_type=key_type)
        ca.add_root()
        ca.activate_root()
        ca.add_root()
        ca.save(tmp_path / "ca")
        loaded = DevelopmentCA.load(tmp_path / "ca")
        assert loaded.trust_domain == ca.trust_domain
        assert loaded.bundle == ca.bundle
        assert loaded.authority == ca.authority
        loaded.issue().leaf.verify_directly_issued_by(ca.authority)
        added = loaded.add_root().private_key.public_key()
        assert type(added) is type(ca.root.private_key.public_key())

    def test_only_the_owner_may_read(self, tmp_path) -> None:
        """The directory is 0700 and every file 0600, with the widest umask too."""
        before = os.umask(0)
        try:
            DevelopmentCA().save(tmp_path / "ca")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
        files = list((tmp_path / "ca").iterdir())
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    def test_retired_root_is_deleted(self, tmp_path) -> None:
        """The key of a withdrawn root does not stay on disk."""
        ca = DevelopmentCA()
        ca.add_root()
        ca.activate_root()
        ca.save(tmp_path)
        assert len(list(tmp_path.glob("root-*"))) == 4
        ca.retire_root()
        ca.save(tmp_path)
        assert len(list(tmp_path.glob("root-*"))) == 2
        assert DevelopmentCA.load(tmp_path).bundle == ca.bundle


class TestBrokenDirectory:
    def test_missing(self, tmp_path) -> None:
        """A directory without a CA is named, and what is missing in it."""
        with pytest.raises(ConfigurationError, match=r"nowhere.*authority\.json.*missing"):
            DevelopmentCA.load(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            pytest.param("active", 1, id="no such root"),
            pytest.param("active", -1, id="negative"),
            pytest.param("active", "0", id="text"),
            pytest.param("roots", [], id="no roots"),
            pytest.param("roots", ["../x"], id="path as root"),
            pytest.param("roots", None, id="null"),
            pytest.param("trust_domain", "Upper", id="upper case"),
        ],
    )
    def test_edited_wrongly(self, tmp_path, field, value) -> None:
        """A wrong field is a configuration error that names the file."""
        DevelopmentCA().save(tmp_path)
        file = tmp_path / "authority.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
        with pytest.raises(ConfigurationError):
            DevelopmentCA.load(tmp_path)

    @pytest.mark.parametrize("suffix", [".pem", ".key.pem"])
    def test_damaged_root(self, tmp_path, suffix) -> None:
        """A root that cannot be read is an error that quotes none of its content."""
        DevelopmentCA().save(tmp_path)
        name = json.loads((tmp_path / "authority.json").read_text())["roots"][0]
        (tmp_path / f"{name}{suffix}").write_text("-----BEGIN PRIVATE KEY-----\nsecret\n")
        with pytest.raises(ConfigurationError) as caught:
            DevelopmentCA.load(tmp_path)
        assert "secret" not in str(caught.value)
        assert "authority.json" in str(caught.value)

    def test_key_of_another_root(self, tmp_path) -> None:
        """A root with another root's key is refused."""
        DevelopmentCA().save(tmp_path / "a")
        DevelopmentCA().save(tmp_path / "b")
        (key,) = (tmp_path / "a").glob("*.key.pem")
        (other,) = (tmp_path / "b").glob("*.key.pem")
        key.write_bytes(other.read_bytes())
        with pytest.raises(ConfigurationError):
            DevelopmentCA.load(tmp_path / "a")
