# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from webhook.api import Api
from webhook.api.api_server import ApiServer
from webhook.api.credentials import Credentials

pytestmark = pytest.mark.anyio

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "{server}"{cluster}}}}}]
users: [{{name: u, user: {{{user}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def kubeconfig(tmp_path):
    """Writes a kubeconfig and returns its path."""

    def write(server="https://127.0.0.1:1", cluster="", user="token: s3cr3t"):
        path = tmp_path / "config"
        path.write_text(KUBECONFIG.format(server=server, cluster=cluster, user=user))
        return path

    return write


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class TestTokenFile:
    def test_it_is_read_again_each_minute(self, tmp_path):
        """The kubelet replaces it long before it expires."""
        clock, token = Clock(), tmp_path / "token"
        token.write_text("one")
        credentials = Credentials(ApiServer(host="https://h"), token_file=token, clock=clock)
        assert credentials.headers() == {"Authorization": "Bearer one"}
        token.write_text("two")
        clock.now = 59
        assert credentials.headers() == {"Authorization": "Bearer one"}
        clock.now = 60
        assert credentials.headers() == {"Authorization": "Bearer two"}

    @pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"a\r\nX-Evil: 1", b"\xff\xfe", None])
    async def test_one_that_cannot_be_used_keeps_the_last(self, tmp_path, caplog, content):
        """A half-written file is no reason to come without a name, or with a header of others."""
        token = tmp_path / "token"
        token.write_text("good")
        credentials = Credentials(ApiServer(host="https://h"), token_file=token)
        credentials.headers()
        if content is None:
            token.unlink()
        else:
            token.write_bytes(content)
        assert not await credentials.renew()
        assert credentials.headers() == {"Authorization": "Bearer good"}
        assert "last" in caplog.text
        assert "Evil" not in caplog.text

    def test_each_call_gives_its_own_headers(self, tmp_path):
        """The caller adds to them."""
        credentials = Credentials(ApiServer(host="https://h"))
        assert credentials.headers() is not credentials.headers()


class TestInCluster:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        (tmp_path / "token").write_text("t")
        (tmp_path / "ca.crt").write_text("")
        return tmp_path

    def test_the_address_comes_from_the_environment(self, folder):
        """As the kubelet sets it in each pod."""
        credentials = Credentials.in_cluster(folder)
        assert credentials.server.host == "https://10.0.0.1:443"
        assert credentials.server.ssl_ca_cert == str(folder / "ca.crt")

    def test_an_ipv6_address_is_bracketed(self, folder, monkeypatch):
        """Clusters may be IPv6 only."""
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
        assert Credentials.in_cluster(folder).server.host == "https://[fd00::1]:443"

    def test_an_empty_ca_is_refused(self, folder):
        """It never means the system's CAs."""
        with pytest.raises(ConfigurationError):
            Api(Credentials.in_cluster(folder))

    @pytest.mark.parametrize("missing", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
    def test_outside_of_a_pod_it_says_so(self, folder, monkeypatch, missing):
        """The message names both ways to connect."""
        monkeypatch.delenv(missing)
        with pytest.raises(ConfigurationError, match="kubeconfig"):
            Credentials.in_cluster(folder)


class TestKubeconfig:
    async def test_its_token_is_used(self, kubeconfig):
        """And is in no repr."""
        credentials = await Credentials.from_kubeconfig(kubeconfig())
        assert credentials.headers() == {"Authorization": "Bearer s3cr3t"}
        assert "s3cr3t" not in repr(credentials)

    async def test_a_token_file_is_read_without_its_line_end(self, kubeconfig, tmp_path):
        """A line end would break the header; a new token is found by reading again."""
        (tmp_path / "t").write_text("one\n")
        path = kubeconfig(user=f"tokenFile: {tmp_path / 't'}")
        credentials = await Credentials.from_kubeconfig(path)
        assert credentials.headers() == {"Authorization": "Bearer one"}
        (tmp_path / "t").write_text("two\n")
        assert await credentials.renew()
        assert credentials.headers() == {"Authorization": "Bearer two"}

    async def test_one_that_vanishes_keeps_the_last_token(self, kubeconfig):
        """Renewal never raises into a request."""
        path = kubeconfig()
        credentials = await Credentials.from_kubeconfig(path)
        path.unlink()
        assert not await credentials.renew()

    @pytest.mark.parametrize(
        ("server", "cluster"),
        [
            pytest.param("https://h", ", insecure-skip-tls-verify: true", id="unverified"),
            pytest.param("http://api.example", "", id="plain"),
            pytest.param("http://127.0.0.1.evil.example", "", id="looks like loopback"),
        ],
    )
    async def test_an_api_server_that_anybody_could_be_is_refused(
        self, kubeconfig, server, cluster
    ):
        """The token would be sent to whoever answers."""
        with pytest.raises(ConfigurationError):
            await Credentials.from_kubeconfig(kubeconfig(server, cluster))

    @pytest.mark.parametrize("text", ["", "a: [", "[]", "{}", "current-context: z", "\0"])
    async def test_one_that_is_none_is_refused(self, tmp_path, text):
        """With its path, whatever is wrong with it."""
        path = tmp_path / "config"
        path.write_text(text)
        with pytest.raises(ConfigurationError, match="config"):
            await Credentials.from_kubeconfig(path)

    async def test_a_context_that_is_not_there_is_refused(self, kubeconfig):
        """The current one is not taken instead."""
        with pytest.raises(ConfigurationError):
            await Credentials.from_kubeconfig(kubeconfig(), "other")
