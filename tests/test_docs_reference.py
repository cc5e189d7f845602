# SPDX-License-Identifier: Apache-2.0
"""The reference says what the code has: options, fields, metrics, faults, errors, and no more."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from pathlib import Path

import click
import pytest

from kubetls_sdk import audit
from kubetls_sdk.authz import attribute
from kubetls_sdk.authz.condition import Operator
from kubetls_sdk.authz.schema import policy_schema
from kubetls_sdk.cli.command_line import kubetls
from kubetls_sdk.diagnosis import FAULTS
from kubetls_sdk.federation import Partner
from kubetls_sdk.federation.document import ENDPOINT_FIELDS, PARTNER_FIELDS
from kubetls_sdk.metrics import METRICS

ROOT = Path(__file__).parent.parent
COMMANDS = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
POLICY = (ROOT / "docs/reference/policy.md").read_text(encoding="utf-8")
OPTION = re.compile(r"--[a-z][a-z0-9-]*")


def commands(group, path):
    """Every command that does something, by what a person types."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def options(command):
    return [each for each in command.params if isinstance(each, click.Option)]


def section(text, heading):
    """What stands below a heading, up to the next one of its level."""
    level = heading.split()[0]
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?=^{level} |\Z)", text, re.M | re.S)
    assert found, heading
    return found[1]


def rows(text):
    """The cells of the rows of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(text):
    """What the first cells name."""
    return [n for row in rows(text) for n in re.findall(r"`([\w.<>]+)`", row[0])]


COMMAND_PARAMETERS = [pytest.param(p, c, id=p) for p, c in commands(kubetls, "kubetls")]
SERVE = {
    option.opts[0]: option
    for option in options(dict(commands(kubetls, "kubetls"))["kubetls serve"])
}


class TestCommands:
    @pytest.mark.parametrize(("path", "command"), COMMAND_PARAMETERS)
    def test_options(self, path, command):
        """Each command is there, with exactly its options."""
        shown = [row[0] for row in rows(COMMANDS) if re.match(rf"`{path}[ `]", row[0])]
        if f"\n## {path}\n" in COMMANDS:
            below = section(COMMANDS, f"## {path}")
            shown = [row[0] for row in rows(below) if row[0].startswith("`--")] or [
                re.search(r"```text\n(.*?)```", below, re.S)[1]
            ]
        assert shown, f"{path} is not in the reference"
        named = {option for text in shown for option in OPTION.findall(text)}
        assert named == {o for each in options(command) for o in (*each.opts, *each.secondary_opts)}

    @pytest.mark.parametrize(
        "row", rows(section(COMMANDS, "## kubetls serve"))[1:], ids=lambda r: r[0]
    )
    def test_serve(self, row):
        """Defaults and meanings of `kubetls serve` are those of its help."""
        option = SERVE[OPTION.findall(row[0])[0]]
        assert re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", row[2]).startswith(option.help)
        assert row[1] == _default(option)

    def test_groups(self):
        """No command is described that does not exist."""
        known = [path for path, _ in commands(kubetls, "kubetls")]
        shown = re.findall(r"^\| `(kubetls [a-z-]+ [a-z-]+)", COMMANDS, re.MULTILINE)
        assert [path for path in shown if path not in known] == []


class TestPolicyFormat:
    RULE = policy_schema()["$defs"]["rule"]["properties"]
    POLICY = policy_schema()["properties"]["policies"]["items"]["properties"]

    @pytest.mark.parametrize(
        ("heading", "fields"),
        [
            ("## Policy", POLICY),
            ("## Rule", RULE),
            ("### from", RULE["from"]["anyOf"][0]["properties"]),
            ("### to", RULE["to"]["anyOf"][0]["properties"]),
        ],
        ids=["policy", "rule", "from", "to"],
    )
    def test_fields(self, heading, fields):
        """Every field of the schema is in its table, and no other is."""
        found = names(section(POLICY, heading).split("\n### ")[0])
        assert sorted(found) == sorted(fields)

    @pytest.mark.parametrize(("field", "values"), [("mode", POLICY), ("user", RULE)])
    def test_words(self, field, values):
        """The words that a field may have are all there."""
        (row,) = (row for row in rows(POLICY) if row[0] == f"`{field}`")
        assert set(values[field]["enum"]) <= set(re.findall(r"`(\w+)`", row[1]))

    def test_attributes(self):
        """Conditions may speak of exactly these things."""
        found = names(section(POLICY, "### when"))
        assert {name.split(".")[0] for name in found} == set(attribute.ROOTS)

    def test_operators(self):
        """Every operator is named, and no other is."""
        line = re.search(r"Operators: (.*?)\. Texts", POLICY, re.DOTALL)[1]
        assert re.findall(r"`([^`]+)`", line) == [each.value for each in Operator]


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


def _default(option: click.Option) -> str:
    value = option.default
    if isinstance(value, bool):
        return "`on`" if value else "none"
    if isinstance(value, list | tuple):
        return f"`{', '.join(value)}`" if value else "none"
    return f"`{value}`" if isinstance(value, str | int | float) and value != "" else "none"
