# SPDX-License-Identifier: Apache-2.0
"""The promises of the fixtures, in test runs of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester, monkeypatch):
    """Run a test file with only our plugin, in a process of its own; return the outcomes."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run_text(text: str) -> dict[str, int]:
        pytester.makepyfile(text)
        result = pytester.runpytest_subprocess(
            "-p", "kubetls_sdk.testing.pytest_plugin", "-W", "error", "-p", "no:cacheprovider"
        )
        return result.parseoutcomes()

    return run_text


class TestFixtures:
    def test_cas(self, run) -> None:
        """`kubetls_ca` and `kubetls_partner_ca` are two trust domains, new for each test."""
        assert run(
            """
            seen = []
            def check(kubetls_ca, kubetls_partner_ca):
                assert str(kubetls_ca.trust_domain) == "example.org"
                assert str(kubetls_partner_ca.trust_domain) == "partner.example"
                assert kubetls_ca.authority not in seen
                seen.append(kubetls_ca.authority)
            def test_one(kubetls_ca, kubetls_partner_ca):
                check(kubetls_ca, kubetls_partner_ca)
            def test_two(kubetls_ca, kubetls_partner_ca):
                check(kubetls_ca, kubetls_partner_ca)
            """
        ) == {"passed": 2}

    def test_source(self, run) -> None:
        """`kubetls_source` makes sources of any CA that trust whom they are told to."""
        assert run(
            """
            from datetime import timedelta
            def test_source(kubetls_source, kubetls_ca, kubetls_partner_ca):
                own = kubetls_source("/ns/a/sa/b", dns_names=["b.a"], ttl=timedelta(minutes=1))
                snapshot = own.snapshot
                assert str(snapshot.svid.spiffe_id) == "spiffe://example.org/ns/a/sa/b"
                assert snapshot.svid.dns_names == ("b.a",)
                assert set(snapshot.bundles) == {kubetls_ca.trust_domain}
                other = kubetls_source(ca=kubetls_partner_ca, trust=[kubetls_ca]).snapshot
                assert str(other.svid.spiffe_id) == "spiffe://partner.example/ns/shop/sa/web"
                assert other.bundles[kubetls_ca.trust_domain] == kubetls_ca.bundle
                assert len(other.bundles) == 2
                assert own.replace(svid=kubetls_ca.issue("/ns/a/sa/b")).generation == 2
            """
        ) == {"passed": 1}

    def test_volume(self, run) -> None:
        """`kubetls_volume` makes directories that rotate, one for each call."""
        assert run(
            """
            def test_volume(kubetls_volume, kubetls_partner_ca):
                volume = kubetls_volume("/ns/a/sa/b", layout="kubernetes-tls")
                other = kubetls_volume(ca=kubetls_partner_ca)
                assert volume.directory != other.directory
                assert (volume.directory / "..data").is_symlink()
                before = (volume.directory / "tls.crt").read_bytes()
                volume.rotate()
                assert (volume.directory / "tls.crt").read_bytes() != before
                assert (other.directory / "partner.example.trust-bundle.pem").exists()
            """
        ) == {"passed": 1}

    def test_are_documented(self, pytester, monkeypatch) -> None:
        """`pytest --fixtures` shows each fixture with its docstring."""
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        result = pytester.runpytest_subprocess(
            "-p", "kubetls_sdk.testing.pytest_plugin", "--fixtures"
        )
        result.stdout.fnmatch_lines_random(
            [f"{name} -- *" for name in ("kubetls_ca", "kubetls_partner_ca")]
            + [f"{name} -- *" for name in ("kubetls_source", "kubetls_volume")]
        )
        result.stdout.no_fnmatch_line("*no docstring available*")


class TestInstalledPlugin:
    def test_source(self, kubetls_source, kubetls_ca, kubetls_partner_ca) -> None:
        """An installed package brings the fixtures without any setting: a source."""
        own = kubetls_source(trust=[kubetls_partner_ca]).snapshot
        assert own.svid.spiffe_id == kubetls_ca.spiffe_id()
        assert set(own.bundles) == {kubetls_ca.trust_domain, kubetls_partner_ca.trust_domain}

    def test_volume(self, kubetls_volume, kubetls_ca) -> None:
        """An installed package brings the fixtures without any setting: a volume."""
        volume = kubetls_volume("/ns/a/sa/b")
        before = volume.svid
        assert volume.rotate() != before
        assert volume.svid.spiffe_id == kubetls_ca.spiffe_id("/ns/a/sa/b")
        assert "/ns/a/sa/b" in repr(volume)


class TestLoading:
    def test_loads_no_framework(self) -> None:
        """Loading the plugin loads no framework, and of the kit nothing that signs."""
        code = (
            "import sys, kubetls_sdk.testing.pytest_plugin as plugin;"
            "print([m for m in ('httpx', 'httpx2', 'grpc', 'starlette', 'uvicorn', 'asyncio',"
            " 'click', 'yaml') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert done.stdout.strip() == "[]"
