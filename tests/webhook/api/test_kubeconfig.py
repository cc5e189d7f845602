# SPDX-License-Identifier: Apache-2.0
"""Which kubeconfigs are read without the library, and that they mean the same to both."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from webhook.api.credentials import Credentials
from webhook.api.kubeconfig import read_plain

pytestmark = pytest.mark.anyio

CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CA_DATA = base64.b64encode(CA.encode()).decode()


@pytest.fixture
def write(tmp_path):
    """Write a kubeconfig; None removes a field."""

    def write(*, cluster=(), user=(), **fields):
        found = {"server": "https://h:6443", "certificate-authority-data": CA_DATA, **dict(cluster)}
        body = {
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": _without_none(found)}],
            "users": [{"name": "u", "user": _without_none({"token": "t0ken", **dict(user)})}],
            "current-context": "c",
        }
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(_without_none(body | fields)))
        return path

    return write


def _without_none(fields):
    return {key: value for key, value in fields.items() if value is not None}


class TestReadPlain:
    @pytest.mark.parametrize(
        "cluster",
        [
            {},
            {"tls-server-name": "kubernetes"},
            {"certificate-authority-data": None, "certificate-authority": "ca.crt"},
        ],
        ids=["data", "server name", "file of the CA"],
    )
    async def test_as_the_library_does(self, write, tmp_path, monkeypatch, cluster):
        """The same address, name and CA."""
        (tmp_path / "ca.crt").write_text(CA)
        path = write(cluster=cluster)
        assert read_plain(path, None) is not None
        ours = (await Credentials.from_kubeconfig(path)).server
        monkeypatch.setattr("webhook.api.credentials.read_plain", lambda *_: None)
        theirs = (await Credentials.from_kubeconfig(path)).server
        assert (ours.host, ours.tls_server_name) == (theirs.host, theirs.tls_server_name)
        assert _authority(ours) == _authority(theirs) == CA

    def test_token_file(self, write, tmp_path):
        """A file is taken from beside the kubeconfig, and its content is not read yet."""
        found = read_plain(write(user={"token": None, "tokenFile": "account/token"}), None)
        assert (found.token, found.token_file) == (None, tmp_path / "account/token")

    @pytest.mark.parametrize(
        ("cluster", "user", "fields"),
        [
            ({"insecure-skip-tls-verify": True}, {}, {}),
            ({"proxy-url": "http://p"}, {}, {}),
            ({"server": None}, {}, {}),
            ({"server": ""}, {}, {}),
            ({"certificate-authority-data": "no base64"}, {}, {}),
            ({}, {"token": None}, {}),
            ({}, {"tokenFile": "/t"}, {}),
            ({}, {"client-certificate": "/c", "client-key": "/k"}, {}),
            ({}, {"token": None, "exec": {"command": "x"}}, {}),
            ({}, {"as": "admin"}, {}),
            ({}, {}, {"current-context": "other"}),
            ({}, {}, {"users": None}),
            ({}, {}, {"contexts": [{"name": "c"}, {"name": "c"}]}),
        ],
        ids=[
            "unverified",
            "proxy",
            "no server",
            "empty server",
            "CA",
            "no token",
            "two tokens",
            "certificate",
            "program",
            "impersonation",
            "no such context",
            "no users",
            "two of a name",
        ],
    )
    def test_others(self, write, cluster, user, fields):
        """Whatever is more, less or wrong is left to the library."""
        assert read_plain(write(cluster=cluster, user=user, **fields), None) is None


def _authority(server):
    data = server.ca_cert_data
    if data is None:
        return Path(server.ssl_ca_cert).read_text()
    return data.decode() if isinstance(data, bytes) else data
