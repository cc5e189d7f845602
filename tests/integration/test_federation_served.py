# SPDX-License-Identifier: Apache-2.0
"""`kubetls serve --federation`: partners get in while they are declared, in every process."""

from __future__ import annotations

import os
import pickle
import signal
import ssl

import pytest
import trustme

from kubetls_sdk.exceptions import ConfigurationError, NotReadyError, SourceClosedError
from kubetls_sdk.federation.served import FederatedTls
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.testing import KubeletVolume
from tests.integration.bundle_server import BundleServer
from tests.integration.serving import World, exchange
from tests.integration.test_server_command import APPLICATION, connected, serving
from tests.waiting import until

FROM_FILE = "version: 1\npartners:\n- {trustDomain: partner.example, bundle: partner.pem}\n"
NOBODY = "version: 1\npartners: []\n"


@pytest.fixture
def world():
    return World()


@pytest.fixture
def directory(tmp_path, world):
    volume = KubeletVolume(tmp_path / "volume")
    volume.write_svid(world.source.snapshot.svid, [world.ca.bundle])
    (tmp_path / "orders.py").write_text(APPLICATION)
    (tmp_path / "policy.yaml").write_text(
        "version: 1\npolicies:\n- name: all\n  allow:\n"
        '  - {name: ours, from: {namespace: shop}, to: {paths: "/**"}}\n'
        "  - name: theirs\n    from: {trustDomain: partner.example, namespace: shop}\n"
        '    to: {paths: "/**"}\n'
    )
    (tmp_path / "partner.pem").write_bytes(world.partner.bundle.to_pem())
    (tmp_path / "federation.yaml").write_text(FROM_FILE)
    return tmp_path


@pytest.fixture
def partners_web(world):
    """A client of the partner's, which trusts us."""
    return world.client(world.partner.issue("/ns/shop/sa/web"))


def answer(client, port):
    """The body of an answer, or None when the connection was refused."""
    try:
        with connected(_With(client), port) as connection:
            return exchange(connection)[2]
    except (OSError, AssertionError, IndexError, ValueError):
        return None


class _With:
    def __init__(self, context):
        self._context = context

    def client(self):
        return self._context


class TestServe:
    def test_partner_of_a_file(self, world, directory, partners_web):
        """A declared partner is served; without the option, or once undeclared, it is not."""
        with serving(directory, "--federation", "federation.yaml") as command:
            port = command.port()
            assert answer(partners_web, port).endswith(b"spiffe://partner.example/ns/shop/sa/web")
            (directory / "federation.yaml").write_text(NOBODY)
            until(lambda: answer(partners_web, port) is None)
            assert answer(world.client(), port).endswith(b"/sa/web")
        with serving(directory) as command:
            assert answer(partners_web, command.port()) is None
        assert "Traceback" not in command.text

    def test_partner_of_an_endpoint(self, world, directory, partners_web):
        """What an endpoint publishes is in force with the first connection, and followed."""
        web_ca = trustme.CA()
        web_ca.cert_pem.write_to_path(directory / "roots.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        web_ca.issue_cert("localhost").configure_cert(context)
        with BundleServer.running(context) as server:
            server.publish(world.partner.bundle)
            (directory / "federation.yaml").write_text(
                "version: 1\npartners:\n- trustDomain: partner.example\n"
                f"  endpoint: {{profile: https_web, url: '{server.url}', caFile: roots.pem}}\n"
            )
            with serving(directory, "--federation", "federation.yaml") as command:
                assert answer(partners_web, command.port()) is not None
            assert set(map(bool, server.client_certificates)) == {False}

    def test_workers(self, world, directory, partners_web):
        """With two worker processes the partner is let in, and out again, by both of them."""
        arguments = ["--federation", "federation.yaml", "--workers", "2"]
        with serving(directory, *arguments) as command:
            port = command.port()
            seen = set()

            def both_have_answered():
                body = answer(partners_web, port)
                seen.add(body.split()[0] if body else None)
                return len(seen - {None}) == 2

            until(both_have_answered, 20)
            (directory / "federation.yaml").write_text(NOBODY)
            until(lambda: all(answer(partners_web, port) is None for _ in range(10)), 20)
            command.process.send_signal(signal.SIGTERM)
            assert command.wait() == 0
        assert "Traceback" not in command.text

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param(None, "federation.yaml", id="missing"),
            pytest.param("version: 1\npartner: []\n", "federation.yaml:2", id="unknown-field"),
        ],
    )
    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_cannot_start(self, directory, text, message, workers):
        """A federation file that cannot be used ends the start in one line."""
        path = directory / "federation.yaml"
        path.unlink() if text is None else path.write_text(text)
        arguments = ["--federation", "federation.yaml", "--workers", workers]
        with serving(directory, *arguments) as command:
            assert command.wait() == 2
        assert message in command.lines[-1]
        assert "Traceback" not in command.text


class TestFederatedTls:
    @pytest.fixture
    def settings(self, directory):
        made = FederatedTls(
            directory=str(directory / "volume"), federation=directory / "federation.yaml"
        )
        yield made
        made.close()

    def test_trusts_the_partner(self, settings):
        """The source has the partner's bundle beside ours."""
        names = set(map(str, settings.current_source.snapshot.bundles))
        assert names == {"example.org", "partner.example"}

    def test_travels(self, settings):
        """Settings go to a worker process, which follows the partners by itself."""
        mine = settings.current_source
        copied = pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own
        try:
            assert copied == settings
            assert copied.current_source is not mine
        finally:
            copied.close()

    def test_close(self, settings):
        """What was opened is closed, the volume below as well."""
        source = settings.current_source
        inner = source.inner
        settings.close()
        for each in (source, inner):
            with pytest.raises(SourceClosedError):
                _ = each.snapshot

    def test_given_source(self, world, directory):
        """A source that was given gets the partners too, and stays open."""
        world.source.replace(bundles=type(world.source.snapshot.bundles)([world.ca.bundle]))
        made = FederatedTls(source=world.source, federation=directory / "federation.yaml")
        with pytest.raises(ConfigurationError, match="worker processes"):
            pickle.dumps(made)
        assert len(made.current_source.snapshot.bundles) == 2
        made.close()
        assert len(world.source.snapshot.bundles) == 1

    def test_broken_file_leaves_nothing_open(self, directory, monkeypatch):
        """When the file cannot be used the volume is closed again."""
        opened = []
        open_source = MutualTls.open_source
        monkeypatch.setattr(
            MutualTls, "open_source", lambda self: opened.append(open_source(self)) or opened[-1]
        )
        settings = FederatedTls(directory=str(directory / "volume"), federation="nothing.yaml")
        with pytest.raises(ConfigurationError, match="nothing"):
            settings.open()
        with pytest.raises((SourceClosedError, NotReadyError)):
            _ = opened[0].snapshot

    @pytest.mark.parametrize(
        "settings",
        [{"federation": ""}, {"partners_wait": -1}, {"partners_wait": float("nan")}],
        ids=repr,
    )
    def test_contradictions(self, settings):
        """A setting out of range is an error when it is made."""
        with pytest.raises(ConfigurationError, match="expected"):
            FederatedTls(**{"federation": os.devnull, **settings})
