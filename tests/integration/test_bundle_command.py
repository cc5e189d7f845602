# SPDX-License-Identifier: Apache-2.0
"""`kubetls bundle fetch` and `serve` over real https."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import trustme
from click.testing import CliRunner

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.federation import Endpoint
from kubetls_sdk.federation.bundle_document import parse_bundle, to_jwks
from kubetls_sdk.federation.difference import fingerprint
from kubetls_sdk.federation.fetch import fetch_bundle
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.bundle_server import BundleServer
from tests.integration.origin import stock_server_context

PATH = "/ns/spire/sa/bundles"


@pytest.fixture
def ca():
    return DevelopmentCA("partner.example")


@pytest.fixture
def web(ca, tmp_path):
    web_ca = trustme.CA()
    web_ca.cert_pem.write_to_path(tmp_path / "roots.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    web_ca.issue_cert("localhost").configure_cert(context)
    with BundleServer.running(context) as server:
        server.publish(ca.bundle, sequence=1)
        yield server


@pytest.fixture
def fetch(web, tmp_path):
    def run(*options):
        words = ["bundle", "fetch", web.url, "--trust-domain", "partner.example"]
        words += ["--profile", "https_web", "--ca-file", str(tmp_path / "roots.pem"), *options]
        return CliRunner().invoke(kubetls, [str(word) for word in words])

    return run


class TestFetch:
    def test_shown(self, fetch, ca):
        """What an endpoint publishes is shown, and nothing is written."""
        result = fetch()
        assert result.exit_code == 0
        assert fingerprint(ca.authority) in result.stdout

    def test_first(self, fetch, ca, tmp_path):
        """The first bundle is written only when somebody accepts it."""
        out = tmp_path / "partner.json"
        refused = fetch("--out", out)
        assert refused.exit_code == 1
        assert not out.exists()
        assert "--accept" in refused.stdout
        assert fetch("--out", out, "--accept").exit_code == 0
        assert parse_bundle(ca.trust_domain, out.read_bytes()) == (
            parse_bundle(ca.trust_domain, to_jwks(ca.bundle, sequence=1, refresh_hint=None))
        )

    def test_change(self, fetch, web, ca, tmp_path):
        """A change is shown by fingerprint, and written only when it is accepted."""
        out = tmp_path / "partner.pem"
        out.write_bytes(ca.bundle.to_pem())
        added = ca.add_root()
        web.publish(ca.bundle, sequence=2)
        result = fetch("--out", out, "--format", "pem", "--json")
        document = json.loads(result.stdout)
        assert result.exit_code == 1
        assert document["written"] is None
        (shown,) = document["difference"]["added"]
        assert shown["sha256"] == fingerprint(added.certificate)
        assert len(TrustBundle.from_pem(ca.trust_domain, out.read_bytes())) == 1
        assert fetch("--out", out, "--format", "pem", "--accept").exit_code == 0
        assert len(TrustBundle.from_pem(ca.trust_domain, out.read_bytes())) == 2

    def test_same(self, fetch, ca, tmp_path):
        """The same authorities need nobody's consent."""
        out = tmp_path / "partner.json"
        out.write_bytes(to_jwks(ca.bundle, sequence=0, refresh_hint=None))
        result = fetch("--out", out)
        assert result.exit_code == 0
        assert json.loads(out.read_text())["spiffe_sequence"] == 1

    def test_back(self, fetch, web, ca, tmp_path):
        """A sequence that goes back is an error, accepted or not."""
        out = tmp_path / "partner.json"
        ca.add_root()
        before = to_jwks(ca.bundle, sequence=5, refresh_hint=None)
        out.write_bytes(before)
        result = fetch("--out", out, "--accept")
        assert result.exit_code == 2
        assert "went back" in result.stderr
        assert out.read_bytes() == before

    def test_expected(self, fetch, web, ca, tmp_path):
        """Fingerprints from the partner are as good as consent, and exact."""
        out = tmp_path / "partner.json"
        wanted = fingerprint(ca.authority)
        colons = ":".join(wanted[n : n + 2] for n in range(0, 64, 2)).upper()
        assert fetch("--out", out, "--expect", colons).exit_code == 0
        assert fetch("--out", out, "--expect", wanted, "--expect", "0" * 64).exit_code == 2
        ca.add_root()
        web.publish(ca.bundle, sequence=2)
        strange = fetch("--out", out, "--expect", wanted)
        assert strange.exit_code == 2
        assert "expected only" in strange.stderr
        assert json.loads(out.read_text())["spiffe_sequence"] == 1

    def test_spiffe(self, ca, tmp_path):
        """An endpoint of profile https_spiffe is verified by a bundle file."""
        (tmp_path / "known.pem").write_bytes(ca.bundle.to_pem())
        with BundleServer.running(stock_server_context(ca.issue(PATH))) as server:
            server.publish(ca.bundle)
            words = ["bundle", "fetch", server.url, "--trust-domain", "partner.example"]
            words += ["--profile", "https_spiffe", "--spiffe-id", str(ca.spiffe_id(PATH))]
            good = CliRunner().invoke(kubetls, [*words, "--bundle", str(tmp_path / "known.pem")])
            assert good.exit_code == 0
            assert CliRunner().invoke(kubetls, words).exit_code == 2
            (tmp_path / "known.pem").write_bytes(DevelopmentCA("partner.example").bundle.to_pem())
            bad = CliRunner().invoke(kubetls, [*words, "--bundle", str(tmp_path / "known.pem")])
            assert bad.exit_code == 2

    @pytest.mark.parametrize(
        ("status", "body", "message"),
        [(500, b"", "500"), (200, b"{", "JSON"), (200, b'{"keys": 1}', "'keys'")],
    )
    def test_failure(self, fetch, web, status, body, message):
        """What cannot be fetched is an error of one line."""
        web.status, web.body = status, body
        result = fetch()
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1

    def test_plain_http(self, tmp_path):
        """A server without TLS is told as that, and not as a wrong version of TLS."""
        with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as plain:
            threading.Thread(target=plain.handle_request).start()
            url = f"https://127.0.0.1:{plain.server_port}/"
            words = ["--trust-domain", "partner.example", "--profile", "https_web"]
            result = CliRunner().invoke(kubetls, ["bundle", "fetch", url, *words])
        assert result.exit_code == 2
        assert "expected TLS, got something else, such as plain HTTP" in result.stderr


class TestServe:
    @pytest.mark.parametrize(
        "options",
        [
            ["--profile", "https_spiffe", "--certificate", "x", "--key", "y"],
            ["--profile", "https_web"],
        ],
    )
    def test_profiles(self, options):
        """A certificate belongs to one profile only."""
        result = CliRunner().invoke(kubetls, ["bundle", "serve", *options])
        assert result.exit_code == 2
        assert "https_web" in result.stderr

    def test_served(self, kubetls_volume, kubetls_ca):
        """It says where it runs, serves our bundle, and ends cleanly when it is told to."""
        words = ["bundle", "serve", "--profile", "https_spiffe", "--port", "0"]
        words += ["--host", "127.0.0.1", "--path", "/b"]
        words += ["--volume", str(kubetls_volume("/bundles").directory)]
        command = [sys.executable, "-m", "kubetls_sdk", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            guard = threading.Timer(30, process.kill)
            guard.start()
            line = process.stderr.readline()
            assert "bundle of example.org (https_spiffe) running on https://127.0.0.1:" in line
            endpoint = Endpoint(
                url=line.split()[-1],
                profile="https_spiffe",
                spiffe_id=kubetls_ca.spiffe_id("/bundles"),
            )
            domain, known = kubetls_ca.trust_domain, kubetls_ca.bundle
            found = asyncio.run(fetch_bundle(domain, endpoint, known=known))
            assert found.bundle.authorities == known.authorities
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
            assert "Traceback" not in process.stderr.read()
            guard.cancel()
