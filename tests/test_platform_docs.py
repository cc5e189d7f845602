# SPDX-License-Identifier: Apache-2.0
"""The documentation of the control plane says what the code does: fields, names and reasons."""

from __future__ import annotations

import ast
import json
import re
import shlex
from itertools import chain
from pathlib import Path

import click
import jsonschema
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import webhook.endpoint.metrics
import webhook.injection.metrics
import webhook.metrics
import webhook.node.metrics
import webhook.secrets.metrics
from kubetls_sdk.metrics import METRICS
from tests.markdown import blocks
from webhook import choice, config_document, names, partner_document
from webhook.api import resources
from webhook.cli.command_line import webhook as commands
from webhook.config import KeyType, Mode, PlatformConfig
from webhook.injection import container, trust_store

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs/platform").glob("*.md"))
PACKAGES = ("delivery", "issuance", "node", "secrets", "signing", "trust")
CAMEL = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z][A-Za-z0-9]+)+")
# Words of Kubernetes in the code that are no reason of ours.
KUBERNETES = {"ExternalName", "PolicyAllows"}


def text_of(page):
    return (ROOT / f"docs/platform/{page}.md").read_text(encoding="utf-8")


def section(page, heading):
    """The text below a heading, up to the next one."""
    text = text_of(page)
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    end = re.compile(r"^## ", re.MULTILINE).search(text, start)
    return text[start : end.start() if end else None]


def rows(text, header):
    """The first cells of the table with a header row that begins so, without backticks."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {header} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append(line.split("|")[1].strip().strip("`"))
    return found


class TestConfiguration:
    @pytest.mark.parametrize(
        ("header", "fields"),
        [
            ("field", config_document._TOP),
            ("field of `zones`", config_document._ZONE),
            ("field of `partners`", partner_document.PARTNER_FIELDS),
            ("field of `endpoint`", partner_document.ENDPOINT_FIELDS),
            ("field of `refresh`", partner_document.REFRESH_FIELDS),
            ("field of `namespaces`", config_document._RULE),
            ("field of `lifetime`", config_document._LIFETIME),
        ],
    )
    def test_fields(self, header, fields):
        """Every field is in its table, and no other is."""
        found = rows(text_of("configuration"), header)
        assert sorted(found) == sorted(fields)

    @pytest.mark.parametrize(("field", "words"), [("modes", Mode), ("keyTypes", KeyType)])
    def test_words(self, field, words):
        """The words that a field may have are all there."""
        (row,) = re.findall(rf"^\| `{field}` \|[^|]*\|(.*)\|$", text_of("configuration"), re.M)
        assert re.findall(r"`([\w-]+)`", row) == [each.value for each in words]

    def test_defaults(self):
        """The defaults that are promised are those of an empty rule."""
        zones = [{"name": each, "trustDomain": f"{each}.example"} for each in ("default", "b")]
        document = {"version": 1, "zones": zones, "namespaces": [{"names": ["*"]}]}
        config = PlatformConfig.parse(yaml.safe_dump(document))
        rule = config.rules[0]
        page = text_of("configuration")
        assert rule.zones == ("default",)
        assert f"| `modes` | `[{rule.modes[0]}]` |" in page
        assert f"| `keyTypes` | `[{rule.key_types[0]}]` |" in page
        assert f"| `mountPaths` | `[{rule.mount_paths[0]}]` |" in page
        lifetime = choice.duration_text(rule.lifetime.default)
        assert lifetime == "1d"
        assert "`{default: 24h}`" in page
        propagation = choice.duration_text(config.zones["b"].propagation)
        assert f"| `propagation` | `{propagation}` |" in page
        assert config.zones["default"].signer_name == names.DEFAULT_SIGNER_NAME
        assert f"`{names.DEFAULT_SIGNER_NAME}` for the zone `default`" in page
        assert f"| `clusterDomain` | `{config.cluster_domain}` |" in page


class TestOverview:
    @pytest.mark.parametrize(
        "name",
        [
            names.VOLUME,
            names.DEFAULT_MOUNT_PATH,
            container.CREDENTIAL_FOLDER,
            container.TRUST_DOMAIN,
        ],
    )
    def test_names(self, name):
        """What a pod has is named as the injector names it."""
        assert f"`{name}`" in text_of("overview")


class TestAnnotations:
    def test_chosen(self):
        """Every annotation that an author may write is there, and no other is."""
        assert tuple(rows(text_of("annotations"), "annotation")) == choice.CHOSEN

    def test_written(self):
        """Every annotation that the injector writes is there, and no other is."""
        written = text_of("annotations").split("The injector writes")[1]
        assert sorted(rows(written, "annotation")) == sorted(choice.WRITTEN)

    def test_label(self):
        """The label is the code's."""
        assert rows(text_of("annotations"), "label") == [choice.INJECT]


class TestTrustStore:
    def test_variables(self):
        """Every variable of the trust store is there, in its order, and no other is."""
        assert rows(text_of("trust-store"), "variable") == list(trust_store.VARIABLES)

    @pytest.mark.parametrize("name", [names.TRUST_STORE_VOLUME, *names.TRUST_STORE_PLACES])
    def test_names(self, name):
        """Volume and places are the injector's."""
        assert f"`{name}`" in text_of("trust-store")


class TestMetrics:
    @pytest.mark.parametrize(
        ("heading", "module"),
        [
            ("## Signer", webhook.metrics),
            ("## Injector", webhook.injection.metrics),
            ("## Secret issuer", webhook.secrets.metrics),
            ("## CSI driver", webhook.node.metrics),
            ("## Bundle endpoint", webhook.endpoint.metrics),
        ],
    )
    def test_tables(self, heading, module):
        """Every metric is in its part's table, with kind and labels, and no other is."""
        pattern = r"^\| `(kubetls_\w+)` \| (\w+) \| ([^|]*) \|"
        found = re.findall(pattern, section("monitoring", heading), re.MULTILINE)
        assert sorted(found) == sorted(map(_row, _metrics(module)))

    def test_alerts_use_metrics_that_exist(self):
        """No alert waits for a metric that nobody has."""
        modules = (
            webhook.metrics,
            webhook.endpoint.metrics,
            webhook.injection.metrics,
            webhook.node.metrics,
            webhook.secrets.metrics,
        )
        known = {_row(metric)[0] for module in modules for metric in _metrics(module)}
        known |= {metric.name for metric in METRICS}  # of the SDK, in the pods
        used = set(chain(*(re.findall(r"\bkubetls_\w+", page.read_text()) for page in PAGES)))
        assert used - known == set()


class TestReasons:
    def test_events_and_reasons(self):
        """Every reason and Event of the code is in a table, and no other is."""
        events = rows(text_of("troubleshooting"), "event")
        reasons = rows(text_of("troubleshooting"), "reason")
        assert sorted(events + reasons) == sorted(_reasons_in_code())

    def test_events(self):
        """The Events are those that the code writes."""
        source = "".join(path.read_text() for path in _sources())
        written = re.findall(r'"(?:Normal|Warning)",\s*"(\w+)"', source)
        assert sorted(set(written)) == sorted(rows(text_of("troubleshooting"), "event"))


class TestCommands:
    def test_they_exist(self):
        """Every command of ours that is shown exists, with every option that is shown."""
        found = [
            command.split(" -m webhook ", 1)[1].split(" > ")[0]
            for page in PAGES
            for block in blocks(page, ROOT)
            if block.language == "console"
            for command in block.commands()
            if " -m webhook " in command
        ]
        assert len(found) > 5
        for command in found:
            _parse(commands, shlex.split(command))


class TestExamples:
    @pytest.mark.parametrize(
        "block",
        [
            pytest.param(block, id=str(block))
            for page in PAGES
            for block in blocks(page, ROOT)
            if block.title in {"values.yaml", "platform.yaml"}
        ],
    )
    def test_they_are_valid(self, block):
        """Values pass the chart's schema, and a configuration is one."""
        if block.title == "platform.yaml":
            assert PlatformConfig.parse(block.code).rules
            return
        schema = json.loads((ROOT / "webhook/manifests/chart/values.schema.json").read_text())
        jsonschema.validate(yaml.safe_load(block.code), schema)


def _metrics(module):
    return [each for each in vars(module).values() if isinstance(each, MetricWrapperBase)]


def _row(metric):
    name = metric._name + ("_total" if metric._type == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "none"
    return name, metric._type, labels


def _sources():
    return [path for each in PACKAGES for path in sorted((ROOT / "webhook" / each).glob("*.py"))]


def _reasons_in_code():
    """Every literal like a reason that names neither a class of ours nor a kind of Kubernetes."""
    kinds = {each.kind for each in vars(resources).values() if isinstance(each, resources.Resource)}
    trees = [ast.parse(path.read_text()) for path in _sources()]
    exported = {
        element.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for element in node.value.elts
    }
    found = {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and CAMEL.fullmatch(node.value)
    }
    return found - exported - kinds - KUBERNETES


def _parse(command, words):
    """Let click parse a command line without running it."""
    if isinstance(command, click.Group):
        _, rest, _ = command.make_parser(click.Context(command)).parse_args(args=list(words))
        _parse(command.commands[rest[0]], rest[1:])
        return
    command.make_parser(click.Context(command)).parse_args(args=list(words))
