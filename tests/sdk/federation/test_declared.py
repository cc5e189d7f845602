# SPDX-License-Identifier: Apache-2.0
"""Reading what is declared: gone and unusable are different answers."""

from __future__ import annotations

import os

import pytest

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError, ConfigurationError
from kubetls_sdk.federation import Partner, _declared
from kubetls_sdk.federation._declared import directories_of, read_bundle, read_partners
from kubetls_sdk.testing import DevelopmentCA

CA = DevelopmentCA("partner.example")
TEXT = "version: 1\npartners:\n- {trustDomain: partner.example, bundle: a/b.pem}\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "federation.yaml"
    path.write_text(TEXT)
    return str(path)


class TestReadPartners:
    def test_content(self, file, tmp_path):
        """The content and who is declared."""
        content, (partner,) = read_partners(file, None)
        assert content == TEXT.encode()
        assert partner.bundle == str(tmp_path / "a" / "b.pem")
        assert directories_of(file, [partner]) == [str(tmp_path), str(tmp_path / "a")]

    def test_gone(self, file):
        """A file that is gone declares nobody."""
        os.unlink(file)
        assert read_partners(file, TEXT.encode()) == (None, ())

    @pytest.mark.parametrize("content", [b"\xff", b"version: 1\n", b"version: 2\npartners: []\n"])
    def test_unusable(self, file, content):
        """One that cannot be used is an error with its name."""
        with open(file, "wb") as stream:
            stream.write(content)
        with pytest.raises(ConfigurationError, match=r"federation\.yaml"):
            read_partners(file, None)

    @pytest.mark.parametrize("kind", ["directory", "link to nowhere", "no directory"])
    def test_unreadable(self, file, tmp_path, kind):
        """Neither is one that cannot be read as good as gone."""
        os.unlink(file)
        if kind == "directory":
            os.mkdir(file)
        elif kind == "link to nowhere":
            os.symlink(tmp_path / "none", file)
        else:
            file = str(tmp_path / "none" / "federation.yaml")
        with pytest.raises(ConfigurationError):
            read_partners(file, None)

    def test_never_at_rest(self, file, monkeypatch):
        """A file that changes all the time is not used half."""
        contents = iter(range(1000))
        monkeypatch.setattr(_declared, "_read", lambda _: str(next(contents)).encode())
        monkeypatch.setattr(_declared, "_SETTLE_SECONDS", 0)
        with pytest.raises(ConfigurationError, match="at rest"):
            read_partners(file, None)

    def test_half_written(self, file, monkeypatch):
        """What is read is what two reads agree on."""
        reads = [TEXT[:30].encode(), TEXT.encode(), TEXT.encode()]
        monkeypatch.setattr(_declared, "_read", lambda _: reads.pop(0))
        assert read_partners(file, None)[0] == TEXT.encode()


class TestReadBundle:
    def partner(self, path):
        return Partner(trust_domain=CA.trust_domain, bundle=path)

    def test_kinds(self, tmp_path):
        """A bundle, nothing, or an error with the file's name."""
        path = tmp_path / "b.pem"
        partner = self.partner(path)
        assert read_bundle(partner) is None
        path.write_bytes(CA.bundle.to_pem())
        assert read_bundle(partner) == CA.bundle
        path.write_bytes(b"")
        assert read_bundle(partner) == TrustBundle(CA.trust_domain, ())
        path.write_bytes(b"x")
        found = read_bundle(partner)
        assert isinstance(found, BundleError)
        assert "b.pem" in str(found)

    @pytest.mark.parametrize("bundle", [CA.bundle, TrustBundle(CA.trust_domain, ())])
    def test_no_file(self, bundle):
        """A bundle that is given as such is in no file."""
        partner = self.partner(bundle)
        assert read_bundle(partner) is bundle
        assert directories_of(None, [partner]) == []

    def test_unreadable(self, tmp_path):
        """What cannot be read is an error, and not gone."""
        assert isinstance(read_bundle(self.partner(tmp_path / "none" / "b.pem")), BundleError)
        (tmp_path / "b.pem").mkdir()
        assert isinstance(read_bundle(self.partner(tmp_path / "b.pem")), BundleError)
