# SPDX-License-Identifier: Apache-2.0
"""Settings of listeners: contradictions end the start, and settings travel to processes."""

from __future__ import annotations

import logging
import pickle
import socket

import pytest

from kubetls_sdk import StaticSource
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError, NotReadyError, PolicyError
from kubetls_sdk.server import granian
from kubetls_sdk.server.authorizer import AnyCaller, AnyVerified
from kubetls_sdk.server.bind import bind
from kubetls_sdk.server.edge import Edge
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.server.policy_choice import PolicyChoice
from kubetls_sdk.server.probes import Probes
from kubetls_sdk.server.uvicorn import Config, audit_handler, log_config, run
from kubetls_sdk.testing import KubeletVolume
from tests.sdk.server.scopes import World


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture
def volume(world, tmp_path):
    volume = KubeletVolume(tmp_path / "volume")
    volume.write_svid(world.source.snapshot.svid, [world.ca.bundle])
    return tmp_path / "volume"


class TestMutualTls:
    @pytest.mark.parametrize(
        "settings",
        [
            {"client_cert": "none"},
            {"handshake_timeout": 0},
            {"max_handshakes": 0},
            {"stream_recheck": -1},
            {"handshake_timeout": float("nan")},
            {"http2": True},
        ],
        ids=repr,
    )
    def test_contradictions(self, settings):
        """A setting out of range is an error when it is made."""
        with pytest.raises(ConfigurationError, match=r"expected [a-z_]+ ?(>|'|=)"):
            MutualTls(**settings)

    def test_source_and_directory(self, world):
        """There is one place for credentials."""
        with pytest.raises(ConfigurationError, match="got both"):
            MutualTls(source=world.source, directory="x")

    def test_travels(self, volume):
        """Settings go to a worker process, which opens a source of its own."""
        settings = MutualTls(directory=str(volume), max_handshakes=7, http="h11")
        try:
            mine = settings.current_source
            copied = pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own
            assert copied == settings
            assert copied.current_source is not mine
            copied.close()
        finally:
            settings.close()

    def test_source_does_not_travel(self, world):
        """A living source stays in its process, and nobody pickles a key by accident."""
        with pytest.raises(ConfigurationError, match="worker processes"):
            pickle.dumps(MutualTls(source=world.source))

    def test_missing_volume(self, tmp_path):
        """Uvicorn's configuration cannot be loaded without a volume."""
        settings = MutualTls(directory=str(tmp_path / "nothing"), ready_timeout=0)
        with pytest.raises(NotReadyError, match="nothing"):
            _ = settings.alpn_protocols

    @pytest.mark.parametrize(
        ("expected", "settings"),
        [
            (["http/1.1"], {"http": "h11"}),
            (["http/1.1"], {"http": "httptools"}),
            (["h2", "http/1.1"], {"http": "zttp", "http2": True}),
        ],
        ids=repr,
    )
    def test_alpn(self, world, expected, settings):
        """Handshakes offer what the implementation speaks."""
        tls = MutualTls(source=world.source, **settings)
        assert tls.alpn_protocols == expected
        tls.close()

    def test_close(self, volume):
        """A volume that was opened here is closed here; a source that was given is not."""
        tls = MutualTls(directory=str(volume))
        source = tls.current_source
        tls.close()
        tls.close()
        with pytest.raises(Exception, match="closed"):
            _ = source.snapshot


class TestPolicyChoice:
    @pytest.mark.parametrize("policy", [None, [], (), ""], ids=repr)
    def test_nothing(self, policy):
        """No policy is no choice."""
        with pytest.raises((ConfigurationError, TypeError)):
            PolicyChoice(policy).open(World().ca.trust_domain)

    def test_authorizer(self, world):
        """An authorizer is taken as it is, and so is a holder of one."""

        class Holder:
            current = AnyVerified()

        for policy in (AnyVerified(), PolicySet.deny_all(), Holder()):
            assert PolicyChoice(policy).open(world.ca.trust_domain) is policy

    def test_missing_file(self, world, tmp_path):
        """A file that is not there is an error with its name."""
        with pytest.raises(PolicyError, match=r"policy\.yaml"):
            PolicyChoice(tmp_path / "policy.yaml").open(world.ca.trust_domain)

    def test_files_travel(self, world, tmp_path):
        """Paths go to worker processes, an open file does not."""
        (tmp_path / "policy.yaml").write_text("version: 1\npolicies: []\n")
        choice = PolicyChoice([tmp_path / "policy.yaml"])
        first = choice.open(world.ca.trust_domain)
        copied = pickle.loads(pickle.dumps(choice))  # noqa: S301 - our own
        second = copied.open(world.ca.trust_domain)
        assert second is not first
        choice.close()
        copied.close()


class TestAuthorizers:
    def test_any(self, world):
        """One leaves verified workloads to the application, the other everybody."""
        spiffe_id = world.svid.spiffe_id
        for policy, anonymous in ((AnyVerified(), False), (AnyCaller(), True)):
            assert policy.decide(spiffe_id, "GET", "/", None).allowed
            assert policy.decide(None, "GET", "/", None).allowed is anonymous


class TestConfig:
    @pytest.mark.parametrize("option", ["ssl_certfile", "ssl_context_factory", "http", "http2"])
    def test_tls_options(self, world, option):
        """An option that would take the place of mutual TLS is refused."""
        tls = MutualTls(source=world.source)
        with pytest.raises(ConfigurationError, match=option):
            Config("a:b", tls=tls, policy=AnyVerified(), **{option: "x"})

    def test_proxy_headers(self, world):
        """X-Forwarded-* is not believed by default."""
        tls = MutualTls(source=world.source)
        config = Config("a:b", tls=tls, policy=AnyVerified(), log_config=None)
        assert config.proxy_headers is False

    def test_workers_need_a_name(self, volume):
        """An application object cannot go to worker processes."""
        tls = MutualTls(directory=str(volume))
        with pytest.raises(ConfigurationError, match="module:attribute"):
            run(print, tls=tls, policy=AnyVerified(), workers=2, log_config=None)

    def test_workers_need_a_directory(self, world):
        """A living source cannot either."""
        tls = MutualTls(source=world.source)
        with pytest.raises(ConfigurationError, match="worker processes"):
            run("a:b", tls=tls, policy=AnyVerified(), workers=2, log_config=None)

    def test_log_config(self):
        """Our lines go where uvicorn's go, and uvicorn's default is not changed."""
        from uvicorn.config import LOGGING_CONFIG

        assert log_config()["loggers"]["kubetls_sdk"]["handlers"] == ["default"]
        assert "kubetls_sdk" not in LOGGING_CONFIG["loggers"]

    def test_audit_handler(self, tmp_path):
        """The audit log is a file that can be written, or standard output."""
        assert isinstance(audit_handler("-"), logging.StreamHandler)
        handler = audit_handler(str(tmp_path / "audit"))
        handler.close()
        with pytest.raises(ConfigurationError, match="nowhere"):
            audit_handler(str(tmp_path / "nowhere" / "audit"))


class TestProbes:
    @pytest.mark.parametrize(
        "settings",
        [
            {"ready_paths": (), "live_paths": ()},
            {"ready_paths": ("healthz",)},
            {"ready_paths": ("/a",), "live_paths": ("/a",)},
            {"metrics_path": "/livez"},
            {"ready_paths": ("/ü",)},
        ],
        ids=repr,
    )
    def test_contradictions(self, settings):
        """Paths are absolute, and each means one thing."""
        with pytest.raises(ConfigurationError):
            Probes(port=0, **settings)

    @pytest.mark.parametrize(
        ("expected", "head"),
        [
            (b"200", b"GET /livez HTTP/1.1"),
            (b"200", b"HEAD /livez?x=/admin HTTP/1.0"),
            (b"503", b"GET /readyz HTTP/1.1"),
            (b"404", b"GET / HTTP/1.1"),
            (b"404", b"GET /livez/ HTTP/1.1"),
            (b"404", b"GET /livez/../admin HTTP/1.1"),
            (b"404", b"GET /livez%20 HTTP/1.1"),
            (b"404", b"GET http://a/livez HTTP/1.1"),
            (b"405", b"POST /livez HTTP/1.1"),
            (b"400", b"GET /livez"),
            (b"400", b"GET  /livez HTTP/1.1"),
            (b"400", b"GET /livez HTTP/2.0"),
            (b"400", b"\x16\x03\x01"),
        ],
        ids=repr,
    )
    def test_response(self, expected, head):
        """Exactly the named paths are answered, and with no body."""
        response = Probes(port=0).response(head + b"\r\nhost: a\r\n\r\n")
        assert response.split(b" ")[1] == expected
        assert response.endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")


class TestBind:
    def test_in_use(self):
        """A port in use is an error that names it."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: Address already"):
                bind("127.0.0.1", port)

    @pytest.mark.parametrize("port", [-1, 65536])
    def test_no_port(self, port):
        """A number that is no port is an error that says which are."""
        with pytest.raises(ConfigurationError, match=f"a port from 0 to 65535, got {port}"):
            bind("127.0.0.1", port)

    def test_foreign_address(self):
        """An address of another machine is not taken for a port in use."""
        with pytest.raises(ConfigurationError, match=r"an address of this machine, got 192\.0\.2"):
            bind("192.0.2.1", 0)

    def test_ipv6(self):
        """An IPv6 address is bound as one."""
        with bind("::1", 0) as bound:
            assert bound.family is socket.AF_INET6


class TestEdge:
    def test_poll(self):
        """The files are looked at."""
        with pytest.raises(ConfigurationError, match="poll_seconds"):
            Edge(port=0, certificate="a", key="b", poll_seconds=0)


class TestGranian:
    def test_serve(self):
        """Whoever looks for granian finds why not."""
        with pytest.raises(ConfigurationError, match="granian, which cannot"):
            granian.serve("app:app")


class TestStaticSource:
    def test_stays_open(self, world):
        """A source that was given is not closed."""
        tls = MutualTls(source=world.source)
        assert isinstance(tls.current_source, StaticSource)
        tls.close()
        assert world.source.snapshot
