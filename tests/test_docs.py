# SPDX-License-Identifier: Apache-2.0
"""The documentation is true: its code runs, its commands exist, its tables are complete."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import inspect
import json
import logging
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from kubetls_sdk import TrustDomain, audit
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.authz.case_table import parse_cases
from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.diagnosis import FAULTS
from kubetls_sdk.federation import Partner
from kubetls_sdk.federation.document import ENDPOINT_FIELDS, PARTNER_FIELDS, parse_federation
from kubetls_sdk.metrics import METRICS
from kubetls_sdk.users import parse_settings
from tests.docs_stage import stage
from tests.markdown import Block, blocks, links
from tests.waiting import until

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks(page, ROOT)]
LANGUAGES = {"python", "console", "yaml", "json", "text", "mermaid", "toml", "dockerfile"}
PROGRAMS = {"kubetls", "python", "pip", "make", "kubectl", "curl", "export", "gunicorn"} | {
    "uvicorn",
    "hypercorn",
    "pytest",
    "git",
    "cd",
    "helm",
    "docker",
}


def of(language):
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == language]


def pages_with(language):
    found = dict.fromkeys(b.page for b in BLOCKS if b.language == language and b.is_executed)
    return [page for page in found if page != "docs/quickstart.md"]  # has a test of its own


def on_page(page, language):
    return [b for b in BLOCKS if b.page == page and b.language == language and b.is_executed]


class TestBlocks:
    def test_languages(self):
        """Every block names a language that is checked, or one that needs no check."""
        assert [str(block) for block in BLOCKS if block.language not in LANGUAGES] == []

    @pytest.mark.parametrize("page", pages_with("python"))
    def test_python_runs(self, page, tmp_path, monkeypatch):
        """The Python blocks of a page run, one after the other, against the SDK."""
        namespace = {"__name__": "documentation"}
        with stage(tmp_path, monkeypatch):
            try:
                for block in on_page(page, "python"):
                    exec(_compiled(block), namespace)  # noqa: S102 - our own documentation
            finally:
                for handler in logging.getLogger(audit.LOGGER).handlers:
                    handler.close()
                audit.disable()

    @pytest.mark.parametrize("block", of("python"))
    def test_python_compiles(self, block):
        """What is not executed is at least Python."""
        _compiled(block)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "block", [p for p in of("python") if p.values[0].note == ("run", "pytest")]
    )
    def test_pytest_examples_pass(self, block, tmp_path):
        """Test files that the documentation shows pass under pytest."""
        (tmp_path / block.title).write_text(block.code, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout

    @pytest.mark.parametrize("block", of("console"))
    def test_commands_exist(self, block):
        """Every command that is shown exists, with every option that is shown."""
        assert block.commands(), f"{block}: no line starts with '$ '"
        for line in block.commands():
            words = [word for word in shlex.split(line) if "=" not in word.split("/")[0]]
            program = words[0] if words else "export"
            assert program in PROGRAMS, f"{block}: {line}"
            if program == "kubetls":
                _parse_command(words[1:])

    @pytest.mark.parametrize("page", pages_with("console"))
    def test_commands_run(self, page, tmp_path, monkeypatch):
        """The kubetls commands of a page succeed, one after the other, and print what is shown."""
        with stage(tmp_path, monkeypatch):
            if "kubetls dev init" in (ROOT / page).read_text(encoding="utf-8"):
                _make_room(tmp_path)
            for block in on_page(page, "console"):
                for line, expected in block.session():
                    if shlex.split(line)[0] == "kubetls":
                        result = CliRunner().invoke(kubetls, shlex.split(line)[1:])
                        assert result.exit_code == 0, f"{block}: {line}\n{result.output}"
                        printed = result.output.replace(str(tmp_path), "/home/you").splitlines()
                        missing = {*map(_shape, expected)} - {*map(_shape, printed)}
                        assert missing == set(), result.output

    @pytest.mark.parametrize("block", of("yaml"))
    def test_yaml(self, block):
        """A policy or users file is a valid one, and a manifest names its kind."""
        documents = list(yaml.safe_load_all(block.code))
        if "cases" in documents[0]:
            assert parse_cases(block.code, file=str(block))
            return
        if "policies" in documents[0]:
            domain = TrustDomain.parse("example.org")
            PolicySet.parse({str(block): block.code}, trust_domain=domain)
            return
        if "partners" in documents[0]:
            assert parse_federation(block.code, file=str(block))
            return
        if "issuers" in documents[0]:
            assert parse_settings(block.code, file=str(block)).issuers
            return
        if block.title in {"platform.yaml", "values.yaml"}:
            return  # tests/test_platform_docs.py
        for document in documents:
            assert {"apiVersion", "kind"} <= document.keys(), block

    @pytest.mark.parametrize("block", of("json"))
    def test_json(self, block):
        """A JSON document is one."""
        json.loads(block.code)


@pytest.mark.slow
class TestQuickstart:
    """The quickstart is run as a reader runs it, on a free port."""

    PAGE = "docs/quickstart.md"

    def test_every_step(self, tmp_path, monkeypatch):
        """Each command succeeds, or fails where the text says so, and prints what is shown."""
        port = str(_free_port())
        steps = [block for block in BLOCKS if block.page == self.PAGE]
        for block in steps:
            if block.title:
                (tmp_path / block.title).write_text(block.code.replace("8443", port))
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        monkeypatch.setenv("KUBETLS_SERVE_PORT", port)
        with contextlib.ExitStack() as running:
            for block in steps:
                for command, expected in block.session() if block.language == "console" else ():
                    self.run(running, block, command.replace("8443", port), expected, tmp_path)

    def run(self, running, block, command, expected, directory):
        kind, how = block.note or ("run", "succeeds")
        if kind == "not executed" or (command.startswith("curl") and not shutil.which("curl")):
            return
        if how == "background":
            running.enter_context(_background(command, directory))
            return
        shell = ["sh", "-c", command]
        done = subprocess.run(shell, capture_output=True, text=True, cwd=directory)
        assert (done.returncode != 0) is (how == "fails"), f"{command}\n{done.stdout}{done.stderr}"
        for line in expected:
            assert line in done.stdout, f"{command}\n{done.stdout}{done.stderr}"


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_targets_exist(self, page):
        """Every link within the repository leads to a file."""
        inside = [link.split("#")[0] for link in links(page) if "://" not in link]
        assert [link for link in inside if link and not (page.parent / link).exists()] == []

    def test_every_page_is_in_the_navigation(self):
        """No page is written that a reader cannot find."""
        text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
        pages = [
            str(p.relative_to(ROOT / "docs")) for p in PAGES if p.is_relative_to(ROOT / "docs")
        ]
        assert [page for page in pages if page not in text] == []

    @pytest.mark.slow
    @pytest.mark.timeout(180)
    @pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="needs the group docs")
    def test_site_builds(self, tmp_path):
        """The site builds without a warning: every anchor and every name in the API exists."""
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
        done = subprocess.run(
            [*command, "--site-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        )
        assert done.returncode == 0, done.stderr


class TestTables:
    def test_metrics(self):
        """Every metric is in the table with its labels, and no other is."""
        text = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `(kubetls_\w+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE)
        expected = [
            (m.name, m.kind, ", ".join(f"`{label}`" for label in m.labels) or "none")
            for m in METRICS
        ]
        assert [(name, kind, labels) for name, kind, labels in rows] == expected

    def test_faults(self):
        """Every fault of the doctor is in the table, with its severity, and no other is."""
        text = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `([a-z-]+)` \| (error|warning) \| (.*) \|$", text, re.MULTILINE)
        assert rows == [(name, f.severity, f.meaning) for name, f in FAULTS.items()]

    def test_audit_fields(self):
        """Every field of the audit log is in the table, and no other is."""
        text = (ROOT / "docs/reference/audit.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
        assert rows == list(audit.AuditRecord._fields)

    def test_federation_fields(self):
        """Every field of the federation file is in the tables with its default, and no other is."""
        text = (ROOT / "docs/reference/federation.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `(\w+)` \| `?(\w+)`? \| [A-Z`]", text, re.MULTILINE)
        assert [name for name, _ in rows] == [*PARTNER_FIELDS, *ENDPOINT_FIELDS]
        defaults = {field.name: field.default for field in dataclasses.fields(Partner)}
        for name, default in rows:
            if name.endswith("Seconds"):
                snake = re.sub(r"([A-Z])", r"_\1", name).lower()
                assert float(default) == defaults[snake]

    def test_commands_and_options(self):
        """Every command and every option of ours is in the reference."""
        text = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
        missing = [name for name in _names(kubetls, ("kubetls",)) if name not in text]
        assert missing == []

    def test_errors(self):
        """The tree of errors is the one that the module draws."""
        from kubetls_sdk import exceptions

        tree = [line.strip() for line in inspect.getdoc(exceptions).splitlines() if "──" in line]
        text = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
        assert [line for line in tree if line not in text] == []

    def test_extras(self):
        """Every extra is in the table, and no other is."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
        named = [extra for row in rows for extra in re.findall(r"`(\w+)`", row)]
        assert sorted(named) == sorted(project["optional-dependencies"])


class TestReadme:
    def test_is_short(self):
        """It can be read at one sitting."""
        assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def _compiled(block: Block):
    padding = "\n" * (block.line - 1)  # so that a traceback names the line of the page
    return compile(padding + block.code, str(ROOT / block.page), "exec", dont_inherit=True)


def _shape(line: str) -> str:
    """A line without what differs from time to time: numbers, dates, hexadecimal names."""
    return re.sub(r"\b[0-9a-f]{8,}\b|[0-9]+", "#", line)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _background(command: str, directory: Path):
    """Run a server until the end of the block; entered once it says that it runs."""
    log = directory / "server.log"
    with log.open("wb") as output:
        shell = ["sh", "-c", f"exec env {command}"]
        started = subprocess.Popen(shell, stdout=output, stderr=output, cwd=directory)
    try:
        until(lambda: started.poll() is not None or "running on" in log.read_text(), timeout=30)
        assert started.poll() is None, log.read_text()
        yield
    finally:
        started.terminate()
        started.wait(timeout=30)


def _make_room(directory: Path) -> None:
    """For pages that make their own trust domain and volumes."""
    (directory / "web").rename(directory / "elsewhere")
    os.environ["KUBETLS_DIR"] = str(directory / "elsewhere")


def _parse_command(words: list[str]) -> None:
    """Parse words as click would, without running anything.

    Raises:
        click.UsageError: There is no such command or option.
    """
    command, context = kubetls, click.Context(kubetls, info_name="kubetls")
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        context = click.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(list(words))


def _names(command: click.Command, path: tuple[str, ...]) -> list[str]:
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        inside = {
            name: command.get_command(context, name) for name in command.list_commands(context)
        }
        return [n for name, each in inside.items() for n in _names(each, (*path, name))]
    options = [o for p in command.params if isinstance(p, click.Option) for o in p.opts[:1]]
    return [" ".join(path), *options]
