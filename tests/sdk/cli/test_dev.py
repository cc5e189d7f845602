# SPDX-License-Identifier: Apache-2.0
"""The promises of `kubetls dev`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kubetls_sdk import TrustDomain, X509Svid
from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.testing.development_domain import DevelopmentDomain
from tests.waiting import until

ROOT = Path(__file__).parents[3]


class Shell:
    """Runs `kubetls dev` in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str):
        return CliRunner().invoke(kubetls, ["dev", *arguments], catch_exceptions=False)

    def ok(self, *arguments: str) -> str:
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, *arguments: str) -> str:
        result = self(*arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.stderr
        return result.stderr.splitlines()[-1]

    def svid(self, volume: str) -> X509Svid:
        text = (self.directory / volume / "credential-bundle.pem").read_bytes()
        return X509Svid.from_pem(certificates=text, private_key=text)

    def roots(self, volume: str, trust_domain: str) -> int:
        file = self.directory / volume / f"{TrustDomain(trust_domain)}.trust-bundle.pem"
        return file.read_bytes().count(b"BEGIN CERTIFICATE")


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    made = Shell(tmp_path)
    made.ok("init", "ca", "--trust-domain", "example.org")
    return made


WEB = ("issue", "ca", "--path", "/ns/shop/sa/web", "--volume", "web")


class TestInit:
    def test_makes_a_trust_domain(self, shell) -> None:
        """The directory holds a CA, and the warning goes to standard error."""
        result = shell("init", "other", "--trust-domain", "other.example", "--key-type", "ed25519")
        assert "made the trust domain other.example" in result.stdout
        assert "For development only" in result.stderr
        assert str(DevelopmentCA.load("other").trust_domain) == "other.example"

    def test_help_warns(self, shell) -> None:
        """The help says that this is not for production."""
        assert "NOT for production" in shell.ok("--help")

    @pytest.mark.parametrize("name", ["Example.org", "bücher.example", "a/b", "", "a\n"])
    def test_bad_trust_domain(self, shell, name) -> None:
        """A bad trust domain is refused with the name of the option."""
        assert "--trust-domain" in shell.refused("init", "new", "--trust-domain", name)

    def test_trust_domain_is_required(self, shell) -> None:
        """There is no default trust domain."""
        assert "--trust-domain" in shell.refused("init", "new")

    def test_twice(self, shell) -> None:
        """A CA is never overwritten."""
        line = shell.refused("init", "ca", "--trust-domain", "example.org")
        assert "got a development CA in 'ca'" in line


class TestIssue:
    def test_writes_a_volume(self, shell) -> None:
        """The volume holds what was asked for, and the output names it without a key."""
        shown = shell.ok(*WEB, "--dns", "a.b", "--dns", "a.b.svc", "--ttl", "10m")
        svid = shell.svid("web")
        assert str(svid.spiffe_id) == "spiffe://example.org/ns/shop/sa/web"
        assert svid.dns_names == ("a.b", "a.b.svc")
        assert f"wrote {svid.spiffe_id} to {shell.directory / 'web'}" in shown
        assert "KEY" not in shown

    def test_by_spiffe_id(self, shell) -> None:
        """The whole SPIFFE ID may be given."""
        shell.ok("issue", "ca", "--spiffe-id", "spiffe://example.org/a", "--volume", "v")
        assert shell.svid("v").spiffe_id.path == "/a"

    def test_trusts_a_partner(self, shell) -> None:
        """A partner's bundle is mounted beside ours."""
        shell.ok("init", "pa", "--trust-domain", "partner.example")
        shell.ok(*WEB, "--trust", "pa")
        assert shell.roots("web", "example.org") == shell.roots("web", "partner.example") == 1

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            pytest.param((), "expected one of --spiffe-id and --path", id="no name"),
            pytest.param(("--path", "/a", "--spiffe-id", "x"), "expected one of", id="two names"),
            pytest.param(("--path", "a"), "--path: expected a path that starts", id="path"),
            pytest.param(("--path", ""), "--path", id="empty path"),
            pytest.param(("--spiffe-id", "https://a/b"), "--spiffe-id", id="scheme"),
            pytest.param(
                ("--spiffe-id", "spiffe://b.org/a"), "an ID of 'example.org'", id="other domain"
            ),
            pytest.param(("--path", "/a", "--ttl", "5"), "--ttl", id="ttl without unit"),
            pytest.param(("--path", "/a", "--ttl", "1ms"), "expected a ttl", id="ttl too short"),
            pytest.param(("--path", "/a", "--dns", "A.b"), "DNS name in lower case", id="DNS name"),
            pytest.param(("--path", "/a", "--layout", "tls"), "--layout", id="layout"),
            pytest.param(("--path", "/a", "--trust", "none"), "--trust", id="no partner"),
            pytest.param(("--path", "/a", "--trust", "."), "development CA in", id="no CA"),
        ],
    )
    def test_bad_input(self, shell, arguments, expected) -> None:
        """Bad input is one line that names the field, and nothing is written."""
        assert expected in shell.refused("issue", "ca", "--volume", "v", *arguments)
        assert not (shell.directory / "v").exists()

    def test_no_ca(self, shell) -> None:
        """A directory without a CA is named."""
        line = shell.refused("issue", "nowhere", "--path", "/a", "--volume", "v")
        assert "nowhere" in line
        assert "authority.json" in line

    def test_volume_in_use(self, shell) -> None:
        """A directory with other content, such as the CA's own, is not written to."""
        assert "got content" in shell.refused("issue", "ca", "--path", "/a", "--volume", "ca")
        assert DevelopmentCA.load("ca").issue()


class TestRotate:
    def test_svids(self, shell) -> None:
        """Without more words, every volume gets a new SVID."""
        shell.ok(*WEB)
        before = shell.svid("web")
        assert shell.ok("rotate", "ca").count("wrote ") == 1
        assert shell.svid("web") != before

    def test_root_with_overlap(self, shell) -> None:
        """Add, activate and retire change the number of roots in the volume."""
        shell.ok(*WEB)
        assert "publishes 2 roots" in shell.ok("rotate", "ca", "root", "add")
        assert shell.roots("web", "example.org") == 2
        assert "wrote spiffe://" in shell.ok("rotate", "ca", "root", "activate")
        assert "publishes 1 root\n" in shell.ok("rotate", "ca", "root", "retire")
        assert shell.roots("web", "example.org") == 1
        shell.svid("web").leaf.verify_directly_issued_by(DevelopmentCA.load("ca").authority)

    def test_every(self, shell) -> None:
        """With an interval it goes on, for as many times as asked."""
        shell.ok(*WEB)
        shown = shell.ok("rotate", "ca", "svid", "--every", "1ms", "--times", "3")
        assert shown.count("wrote ") == 3

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            pytest.param(("root",), "root add", id="half a rotation"),
            pytest.param(("roots", "add"), "got 'roots add'", id="unknown rotation"),
            pytest.param(
                ("root", "add", "--every", "1s"), "--every only with svid", id="every root"
            ),
            pytest.param(("--times", "2"), "--times only together", id="times alone"),
            pytest.param(("root", "retire"), "newer root", id="retire too early"),
            pytest.param(("root", "activate"), "add one", id="activate too early"),
        ],
    )
    def test_bad_input(self, shell, words, expected) -> None:
        """A rotation that cannot be is one line that says why."""
        assert expected in shell.refused("rotate", "ca", *words)


class TestWatch:
    def test_ends_between_two_writes(self, shell, monkeypatch) -> None:
        """An interrupt during a write lets it finish, and is the end of the command."""
        shell.ok(*WEB)
        before = shell.svid("web")

        def interrupted(domain: DevelopmentDomain):
            signal.raise_signal(signal.SIGINT)
            return domain.rotate_svids()

        monkeypatch.setattr(DevelopmentDomain, "renew_due", interrupted)
        handler = signal.getsignal(signal.SIGINT)
        assert shell.ok("watch", "ca").count("wrote ") == 1
        assert shell.svid("web") != before
        assert signal.getsignal(signal.SIGINT) is handler

    def test_renews_until_interrupted(self, shell) -> None:
        """A short-lived SVID is renewed by itself, and Ctrl-C ends the command quietly."""
        shell.ok(*WEB, "--ttl", "1s")
        first = shell.svid("web")
        code = "from kubetls_sdk.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "dev", "watch", "ca", "--every", "50ms"],
            cwd=shell.directory,
            env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: shell.svid("web") != first)
        finally:
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=10)
        assert (process.returncode, stderr) == (0, "")
        assert "renewing the volumes of example.org" in stdout
