# SPDX-License-Identifier: Apache-2.0
"""The documentation is true: its code runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import click
import httpx2
import pytest
import yaml
from click.testing import CliRunner

from kubetls_sdk import TrustDomain, audit
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.authz.case_table import parse_cases
from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.client.httpx2 import Client
from kubetls_sdk.federation.document import parse_federation
from kubetls_sdk.users import parse_settings
from tests.docs_stage import application, partners_files, stage
from tests.markdown import Block, blocks, links, spans
from tests.waiting import until

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
READMES = sorted((ROOT / "examples").glob("*/README.md"))  # run by tests/examples
BLOCKS = [block for page in PAGES for block in blocks(page, ROOT)]
LANGUAGES = {"python", "console", "yaml", "json", "text", "mermaid", "toml", "dockerfile"}
FILES = {"yaml", "json"}
RUNNABLE = {"kubetls", "python"}
ELSEWHERE = {"pip", "make", "kubectl", "curl", "export", "gunicorn", "git", "helm", "docker", "jq"}
PROGRAMS = RUNNABLE | ELSEWHERE
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


FAILS = ("run", "fails")


def of(language):
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == language]


def pages_with(language):
    found = dict.fromkeys(
        b.page for b in BLOCKS if b.language == language and b.note in {None, FAILS}
    )
    return [page for page in found if page != "docs/quickstart.md"]  # has a test of its own


def on_page(page, language):
    return [b for b in BLOCKS if b.page == page and b.language == language and b.is_executed]


class TestBlocks:
    @pytest.mark.parametrize("block", of("console"))
    def test_unmarked_commands_are_run(self, block):
        """A console block without a mark has only commands that the tests run."""
        if block.page == TestQuickstart.PAGE:
            return  # has a test of its own, which runs all
        programs = {line.split()[0] for line in block.commands() if block.is_executed}
        assert programs <= RUNNABLE, f"{block}: mark it, and say why it is not executed"

    def test_languages(self):
        """Every block names a language that is checked, or one that needs no check."""
        assert [str(block) for block in BLOCKS if block.language not in LANGUAGES] == []

    @pytest.mark.parametrize("page", pages_with("python"))
    def test_python_runs(self, page, tmp_path, monkeypatch):
        """The Python blocks of a page run, one after the other, against the SDK."""
        namespace = {"__name__": "documentation"}
        with stage(tmp_path, monkeypatch):
            try:
                _write_files(page, tmp_path)
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
            words = shlex.split(re.sub(r"^([A-Z_]+=\S+ )+", "", line))
            program = words[0]
            assert program in PROGRAMS, f"{block}: {line}"
            if program == "kubetls":
                _parse_command(words[1 : words.index(">") if ">" in words else None])

    @pytest.mark.parametrize("page", pages_with("console"))
    def test_commands_run(self, page, tmp_path, monkeypatch):
        """The commands of a page do what the text says, one after the other, with its files."""
        with stage(tmp_path, monkeypatch):
            if "kubetls dev init" in (ROOT / page).read_text(encoding="utf-8"):
                _make_room(tmp_path)
            partners_files(tmp_path)
            _write_files(page, tmp_path)
            for block in (b for b in BLOCKS if b.page == page):
                if block.language == "console" and block.note in {None, FAILS}:
                    for line, expected in block.session():
                        status, output = _run(line, tmp_path)
                        assert (status != 0) is (block.note == FAILS), f"{block}: {line}\n{output}"
                        printed = output.replace(str(tmp_path), "/home/you").splitlines()
                        missing = {*map(_shape, expected)} - {*map(_shape, printed)}
                        assert missing == set(), output

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "block", [p for p in of("console") if p.values[0].note == ("run", "serves")]
    )
    def test_servers_serve(self, block, tmp_path, monkeypatch):
        """A server that is shown starts, and answers a caller with a certificate."""
        port = _free_port()
        with stage(tmp_path, monkeypatch), contextlib.ExitStack() as running:
            application(tmp_path, [b for b in BLOCKS if b.page == block.page])
            monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
            monkeypatch.setenv("KUBETLS_SERVE_HEALTH_HOST", "127.0.0.1")
            monkeypatch.setenv("KUBETLS_SERVE_PORT", str(port))
            (command,) = block.commands()
            running.enter_context(_background(_on_loopback(command, port), tmp_path))
            answers = []
            with Client(server="spiffe://example.org/ns/shop/sa/web") as client:
                until(lambda: _ask(client, f"https://localhost:{port}/orders/42", answers), 30)
        assert answers[0].status_code in {200, 403}

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
        if block.title in {"platform.yaml", "values.yaml"}:
            return  # tests/test_platform_docs.py
        if "partners" in documents[0]:
            assert parse_federation(block.code, file=str(block))
            return
        if "issuers" in documents[0]:
            assert parse_settings(block.code, file=str(block)).issuers
            return
        for document in documents:
            assert {"apiVersion", "kind"} <= document.keys(), block

    @pytest.mark.parametrize("block", of("json"))
    def test_json(self, block):
        """A JSON document is one, and so is each line of a file of several."""
        many = (block.title or "").endswith(".jsonl")
        for text in block.code.splitlines() if many else [block.code]:
            json.loads(text)


class TestExamples:
    """Their READMEs are run by tests/examples; here, what they say is looked at once more."""

    @pytest.mark.parametrize("page", READMES, ids=lambda page: page.parent.name)
    def test_commands_exist(self, page):
        """Every command of ours exists, with every option, and every module of the examples."""
        shown = [b for b in blocks(page, ROOT) if b.language in {"sh", "console"}]
        assert shown, "expected commands that a reader can copy"
        for line in (line for block in shown for line in block.code.splitlines()):
            words = shlex.split(re.sub(r"^(\$ )?([A-Z_]+=\S+ )*", "", line), comments=True)
            if words[:1] == ["kubetls"]:
                _parse_command(words[1:])
            for module in (word for word in words if word.startswith("examples.")):
                assert importlib.util.find_spec(module), line


class TestWords:
    """What stands within a line of text."""

    @pytest.mark.parametrize("page", PAGES + READMES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_commands_of_ours(self, page):
        """A command of ours in a text exists, with the options that are named."""
        for line in spans(page):
            if line.startswith("kubetls ") and "…" not in line and "[" not in line:
                _check_words(line.split()[1:])

    @pytest.mark.parametrize("page", PAGES + READMES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_targets_of_make(self, page):
        """What `make` is told to do, it can do."""
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"(?:`|\$ |^    )make ([a-z-]+)", text, re.MULTILINE)
        assert set(named) - TARGETS == set()

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_files_of_ours(self, page):
        """A test or example that is named exists."""
        named = [span for span in spans(page) if re.fullmatch(r"(tests|examples)/[\w./-]+", span)]
        assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.slow
@pytest.mark.timeout(180)
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
        ready = re.compile("running on|Listening at")
        until(lambda: started.poll() is not None or ready.search(log.read_text()), timeout=30)
        assert started.poll() is None, log.read_text()
        yield
    finally:
        started.terminate()
        started.wait(timeout=30)


def _make_room(directory: Path) -> None:
    """For pages that make their own trust domain and volumes."""
    (directory / "web").rename(directory / "elsewhere")
    os.environ["KUBETLS_DIR"] = str(directory / "elsewhere")


def _write_files(page: str, directory: Path) -> None:
    """The files that a page shows, for its commands and its code."""
    for block in BLOCKS:
        if block.page == page and block.title and block.language in FILES:
            (directory / block.title).write_text(block.code, encoding="utf-8")


def _run(line: str, directory: Path) -> tuple[int, str]:
    """Run a command as a person would, one of `kubetls` in this process, since that is faster."""
    program, *words = shlex.split(line)
    if program != "kubetls":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        place = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", line],
            capture_output=True,
            text=True,
            cwd=directory,
            env={**environment, "PATH": place},
        )
        return done.returncode, done.stdout + done.stderr
    target = words.pop() if ">" in words else None
    result = CliRunner().invoke(kubetls, words[: -1 if target else None])
    if target:
        (directory / target).write_text(result.stdout, encoding="utf-8")
    return result.exit_code, result.output


def _ask(client: Client, url: str, answers: list) -> bool:
    """Whether a server that may still be starting has answered."""
    with contextlib.suppress(httpx2.TransportError):
        answers.append(client.get(url))
    return bool(answers)


def _on_loopback(command: str, port: int) -> str:
    """The command with addresses and ports of the test."""
    local = command.replace("0.0.0.0:8443", f"127.0.0.1:{port}").replace("0.0.0.0", "127.0.0.1")
    local = re.sub(r"(--health-port) \d+", lambda found: f"{found[1]} {_free_port()}", local)
    return f"{Path(sys.executable).parent}/{local}"


def _check_words(words: list[str]) -> None:
    """See that a command exists, and the options that are named, whatever else is left out."""
    command, context = kubetls, click.Context(kubetls, info_name="kubetls")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    known = {"--help"} | {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known, words


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
