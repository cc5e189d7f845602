# SPDX-License-Identifier: Apache-2.0
"""The promises of `kubetls policy`."""

from __future__ import annotations

import json
import textwrap
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from kubetls_sdk.cli.command_line import kubetls
from tests.sdk.authz.policies import rules

SVG = "{http://www.w3.org/2000/svg}"
WEB = "spiffe://example.org/ns/shop/sa/web"
POLICY = rules(
    allow="""
    - {name: web-reads, from: {namespace: shop, serviceAccount: web},
       to: {methods: GET, paths: "/orders/{id}"}}
    - {name: own, from: {namespace: shop}, to: {paths: "/users/{u}"}, when: path.u == user.sub}
    """,
    deny="- {name: no-deletes, to: {methods: DELETE}}",
)


class Shell:
    """Runs `kubetls policy` in a directory with `policy.yaml`."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.write("policy.yaml", POLICY)

    def write(self, name: str, text: str) -> str:
        (self.directory / name).write_text(textwrap.dedent(text))
        return name

    def __call__(self, command: str, *arguments: str):
        own = [] if command == "schema" else ["--trust-domain", "example.org"]
        return CliRunner().invoke(
            kubetls, ["policy", command, *own, *arguments], catch_exceptions=False
        )

    def status(self, status: int, *arguments: str) -> str:
        result = self(*arguments)
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        return result.stdout if status < 2 else result.stderr

    def picture(self, file: str) -> ElementTree.Element:
        text = self.status(0, "graph", file, "--format", "svg")
        return ElementTree.fromstring(text)  # noqa: S314 - our own

    def json(self, status: int, *arguments: str):
        return json.loads(self.status(status, *arguments, "--json"))


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path)


class TestCheck:
    def test_a_good_policy_passes(self, shell) -> None:
        """Status 0, and how many rules there are."""
        assert "3 rules, 0 warnings" in shell.status(0, "check", "policy.yaml")

    def test_warnings_have_a_place(self, shell) -> None:
        """File, line and code; with --strict they are failures."""
        text = rules(allow="- {name: all, from: {trustDomain: '*'}, to: {paths: /**}}")
        shell.write("wide.yaml", text)
        printed = shell.status(0, "check", "wide.yaml")
        assert "wide.yaml:6: too-wide: p/all: callers of" in printed
        assert printed.splitlines()[-1] == "1 rule, 1 warning"
        found = shell.json(1, "check", "wide.yaml", "--strict")["findings"]
        assert [(each["code"], each["line"], each["rule"]) for each in found] == [
            ("too-wide", 6, "all")
        ]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("missing.yaml", None, "expected a policy file, got none"),
            ("bad.yaml", "version: 1\npolicys: []\n", "bad.yaml:2: unknown field 'policys'"),
            ("empty.yaml", "", "empty file"),
        ],
    )
    def test_unusable_files(self, shell, name, text, message) -> None:
        """Status 2, one line, with the place."""
        if text is not None:
            shell.write(name, text)
        output = shell.status(2, "check", name)
        assert message in output
        assert len(output.splitlines()) == 1

    def test_a_bad_trust_domain(self, shell) -> None:
        """The option is named."""
        result = CliRunner().invoke(
            kubetls, ["policy", "check", "--trust-domain", "X Y", "policy.yaml"]
        )
        assert result.exit_code == 2
        assert "--trust-domain" in result.stderr


class TestExplain:
    def ask(self, shell, status, path, *more, caller=WEB):
        return shell.json(status, "explain", "policy.yaml", "--from", caller, "--path", path, *more)

    def test_allowed(self, shell) -> None:
        """Status 0; the rule is named and matches."""
        found = self.ask(shell, 0, "/orders/42")
        assert found["decision"]["rule"] == "web-reads"
        assert [r["rule"] for r in found["rules"] if r["matches"]] == ["web-reads"]

    def test_denied(self, shell) -> None:
        """Status 1; each rule says what it misses, the closest first."""
        found = self.ask(shell, 1, "/orders/42", "--method", "POST")
        assert found["decision"]["kind"] == "no-rule-for-operation"
        assert [(rule["rule"], rule["misses"]) for rule in found["rules"]] == [
            ("own", ["path: expected /users/*, got /orders/42"]),
            ("no-deletes", ["method: expected DELETE, got POST"]),
            ("web-reads", ["method: expected GET, HEAD, got POST"]),
        ]

    def test_claims(self, shell) -> None:
        """`--claims` is what the edge would have verified."""
        assert self.ask(shell, 0, "/users/bob", "--claims", '{"sub": "bob"}')
        found = self.ask(shell, 1, "/users/bob")
        assert found["decision"]["needed"] == ["path.u == user.sub"]

    def test_forwarded(self, shell) -> None:
        """`--forwarded` is whom a proxy that is believed calls for."""
        text = (
            "version: 1\npolicies:\n- name: p\n  allow:\n  - name: partners\n"
            "    from: {namespace: shop}\n    to: {paths: /}\n"
            "    when: forwarded.trustDomain == 'partner.example'\n"
        )
        shell.write("edge.yaml", text)
        ask = ("explain", "edge.yaml", "--from", WEB, "--path", "/")
        assert shell.json(0, *ask, "--forwarded", "spiffe://partner.example/app")
        assert shell.json(1, *ask, "--forwarded", "spiffe://example.org/app")
        assert shell.json(1, *ask)

    def test_anonymous(self, shell) -> None:
        """The caller without certificate has a name here."""
        assert self.ask(shell, 1, "/", caller="anonymous")["decision"]["allowed"] is False

    def test_text(self, shell) -> None:
        """For people."""
        text = shell.status(0, "explain", "policy.yaml", "--from", WEB, "--path", "/orders/42")
        assert text.startswith("ALLOWED (allowed): rule 'web-reads' of policy 'p' allows\n")
        assert "matches allow p/web-reads  policy.yaml:6" in text

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--from", "web", "--path", "/"),
            ("--from", WEB, "--path", "/a/../b"),
            ("--from", WEB, "--path", "/", "--claims", "[1]"),
            ("--from", WEB, "--path", "/", "--claims", "{"),
            ("--from", WEB, "--path", "/", "--header", "x"),
            ("--from", WEB, "--path", "/", "--now", "today"),
            ("--from", WEB, "--path", "/", "--forwarded", "phone"),
        ],
    )
    def test_unusable_requests(self, shell, arguments) -> None:
        """Status 2, not an answer to another question."""
        shell.status(2, "explain", "policy.yaml", *arguments)


CASES = """
    version: 1
    cases:
      - {name: reads, request: {from: %s, method: GET, path: /orders/1}, expect: allow,
         rule: web-reads}
      - {name: own, request: {from: %s, method: GET, path: /users/bob, user: {sub: bob}},
         expect: allow}
      - {name: anonymous, request: {from: anonymous, method: GET, path: /orders/1}, expect: deny}
    """.replace("%s", f'"{WEB}"')


class TestTest:
    def test_passes(self, shell) -> None:
        """Status 0, with the rules that no case matches."""
        shell.write("cases.yaml", CASES)
        text = shell.status(0, "test", "cases.yaml", "policy.yaml")
        assert "no case matches rule p/no-deletes" in text
        assert "3 cases, 0 failed; 2 of 3 rules covered" in text

    def test_fails(self, shell) -> None:
        """Status 1, with expected and got."""
        shell.write("cases.yaml", CASES.replace("expect: deny", "expect: allow"))
        found = shell.json(1, "test", "cases.yaml", "policy.yaml")
        assert [c["name"] for c in found["cases"] if not c["passed"]] == ["anonymous"]

    def test_the_deciding_rule_can_be_expected(self, shell) -> None:
        """Allowed by another rule is a failure."""
        shell.write("cases.yaml", CASES.replace("rule: web-reads", "rule: own"))
        assert "expected rule 'own'" in shell.status(1, "test", "cases.yaml", "policy.yaml")

    def test_coverage_can_be_demanded(self, shell) -> None:
        """For CI."""
        shell.write("cases.yaml", CASES)
        shell.status(0, "test", "cases.yaml", "policy.yaml", "--min-coverage", "66")
        shell.status(1, "test", "cases.yaml", "policy.yaml", "--min-coverage", "67")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("expect: deny", "expect: no", "expected allow or deny"),
            ("from: anonymous, ", "", "expected from"),
            ("path: /orders/1}", "path: /a//b}", "400 before any policy"),
            ("method: GET", "methods: GET", "unknown field 'methods'"),
            ("version: 1", "version: 7", "expected version 1"),
        ],
    )
    def test_unusable_tables(self, shell, old, new, message) -> None:
        """Status 2, with file and line."""
        shell.write("cases.yaml", CASES.replace(old, new))
        assert message in shell.status(2, "test", "cases.yaml", "policy.yaml")


class TestDryRun:
    def test_shows_what_would_change(self, shell) -> None:
        """Status 1 when something does; the line of the recording is named."""
        shell.write("new.yaml", POLICY.replace("methods: GET", "methods: POST"))
        asked = [{"from": WEB, "method": m, "path": "/orders/1"} for m in ("GET", "PUT", "POST")]
        shell.write("recording.jsonl", "\n".join(map(json.dumps, asked)))
        both = ("--old", "policy.yaml", "--new", "new.yaml", "recording.jsonl")
        found = shell.json(1, "dry-run", *both)
        assert found["requests"] == 3
        assert [(c["line"], c["new"]["allowed"]) for c in found["changes"]] == [
            (1, False),
            (3, True),
        ]
        assert "line 1: allowed -> denied" in shell.status(1, "dry-run", *both)

    def test_no_change(self, shell) -> None:
        """Status 0."""
        shell.write("recording.jsonl", json.dumps({"from": WEB, "method": "GET", "path": "/"}))
        same = ("--old", "policy.yaml", "--new", "policy.yaml", "recording.jsonl")
        assert "1 requests, 0 decided differently" in shell.status(0, "dry-run", *same)

    def test_unusable_recording(self, shell) -> None:
        """Status 2, with the line."""
        shell.write("recording.jsonl", "\n{}\n")
        same = ("--old", "policy.yaml", "--new", "policy.yaml", "recording.jsonl")
        assert "recording.jsonl:2: " in shell.status(2, "dry-run", *same)


class TestGraph:
    def test_draws(self, shell) -> None:
        """Callers, rules and operations."""
        text = shell.status(0, "graph", "policy.yaml")
        assert text.startswith("flowchart LR\n")
        assert "example.org/ns/shop/sa/web" in text
        assert "DENY p/no-deletes" in text

    @pytest.mark.parametrize("form", ["mermaid", "svg"])
    def test_escapes(self, shell, form) -> None:
        """A condition cannot break out of its label."""
        shell.write("evil.yaml", rules(deny="""- {name: d, when: "user.a == '<b>\\"|]'"}"""))
        assert "<b>" not in shell.status(0, "graph", "evil.yaml", "--format", form)

    def test_svg(self, shell) -> None:
        """A picture: each caller once, a line for each thing that it may do, denies marked."""
        picture = shell.picture("policy.yaml")
        groups = picture.findall(f"{SVG}g")
        assert [group.get("class") for group in groups] == ["deny", "allow", "allow"]
        texts = [text.text for text in picture.iter(f"{SVG}text")]
        assert texts.count("example.org/ns/shop/sa/web") == 1
        assert "DENY p/no-deletes" in texts
        assert "p/own if path.u == user.sub" in texts
        assert [e.tag for e in picture.iter() if e.tag.endswith(("script", "a", "image"))] == []

    def test_svg_cuts_long_texts(self, shell) -> None:
        """Whole in the tooltip."""
        path = "/" + "a" * 300
        shell.write("long.yaml", rules(deny=f"- {{name: d, to: {{paths: {path}}}}}"))
        picture = shell.picture("long.yaml")
        titles = [each.text for each in picture.iter(f"{SVG}title")]
        assert f"any method {path}" in titles
        assert max(len(each.text) for each in picture.iter(f"{SVG}text")) < 60

    def test_json(self, shell) -> None:
        """The same arrows, for other tools."""
        arrows = shell.json(0, "graph", "policy.yaml")
        assert arrows[0] == {
            "caller": "example.org/ns/shop/sa/web",
            "target": "GET /orders/{id}",
            "rule": "p/web-reads",
            "conditions": [],
            "is_deny": False,
            "is_shadow": False,
        }
        assert [arrow["is_deny"] for arrow in arrows] == [False, False, True]


class TestSchema:
    def test_is_json(self, shell) -> None:
        """For an editor."""
        assert json.loads(shell.status(0, "schema"))["properties"]["version"] == {"const": 1}


MANIFEST = """
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {name: orders, namespace: shop}
    spec:
      selector: {matchLabels: {app: orders}}
      rules:
        - from: [{source: {principals: [example.org/ns/shop/sa/web]}}]
          to: [{operation: {methods: [GET], paths: [/orders/*]}}]
    """


class TestImport:
    def test_prints_a_policy(self, shell) -> None:
        """Which can be used at once."""
        shell.write("istio.yaml", MANIFEST)
        text = shell.status(0, "import", "istio.yaml", "--label", "app=orders")
        shell.write("imported.yaml", text)
        asked = ("explain", "imported.yaml", "--from", WEB, "--path")
        shell.status(0, *asked, "/orders/1")
        shell.status(1, *asked, "/orders")
        shell.status(1, *asked, "/orders/1", "--method", "HEAD")

    def test_a_selector_needs_labels(self, shell) -> None:
        """Status 2: whether the policy counts is not guessed."""
        shell.write("istio.yaml", MANIFEST)
        assert "labels of the workload" in shell.status(2, "import", "istio.yaml")
