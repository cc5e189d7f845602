# SPDX-License-Identifier: Apache-2.0
"""`kubetls policy`: check, explain, test, import and draw policies.

Rules:
    1. Exit status 0: allowed or passed; 1: denied, failed or found; 2: input that cannot be used.
    2. The commands only translate; what they do is `kubetls_sdk.authz`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kubetls_sdk.authz.case_table import parse_cases, run_cases
from kubetls_sdk.authz.drawing import svg
from kubetls_sdk.authz.explanation import explain as explain_request
from kubetls_sdk.authz.graph import arrows, mermaid
from kubetls_sdk.authz.istio import import_istio
from kubetls_sdk.authz.lint import lint
from kubetls_sdk.authz.recorded import RecordedRequest
from kubetls_sdk.authz.schema import policy_schema
from kubetls_sdk.cli.policy_report import (
    case_lines,
    decision_fields,
    explanation_fields,
    explanation_lines,
    finding_lines,
    table_fields,
)
from kubetls_sdk.exceptions import ConfigurationError, PolicyError, SpiffeIdError
from kubetls_sdk.policy_file import read_policies
from kubetls_sdk.spiffe_id import TrustDomain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubetls_sdk.authz.policy_set import PolicySet

__all__ = ("policy",)

_path = click.Path(path_type=Path)
_files = click.argument("files", nargs=-1, required=True, type=_path)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_trust_domain = click.option(
    "--trust-domain",
    required=True,
    envvar="KUBETLS_TRUST_DOMAIN",
    metavar="NAME",
    callback=lambda _context, _option, value: _domain(value),
    help="Our own trust domain, which namespaces and service accounts belong to.",
)


@click.group()
def policy() -> None:
    """Check and try out authorization policies."""


@policy.command()
@_files
@_trust_domain
@_as_json
@click.option("--strict", is_flag=True, help="Warnings are failures: exit status 1.")
def check(files: tuple[Path, ...], trust_domain: TrustDomain, as_json: bool, strict: bool) -> None:
    """Load policy FILES and find what is probably not meant."""
    policies = read_policies(*files, trust_domain=trust_domain)
    findings = lint(policies)
    rules = sum(len(each.rules) for each in policies.policies)
    if as_json:
        _print_json({"rules": rules, "findings": [dataclasses.asdict(each) for each in findings]})
    else:
        found = f"{_count(rules, 'rule')}, {_count(len(findings), 'warning')}"
        click.echo("\n".join([*finding_lines(findings), found]))
    sys.exit(1 if strict and findings else 0)


def _request_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--from", "caller", required=True, metavar="ID", help="Or `anonymous`."),
        click.option("--method", default="GET", show_default=True, help="Or WEBSOCKET, GRPC."),
        click.option("--path", "path", required=True, help="Decoded, as the application sees it."),
        click.option("--claims", metavar="JSON", help="Verified claims of the end user."),
        click.option("--header", "headers", multiple=True, metavar="NAME:VALUE"),
        click.option("--host", metavar="HOST"),
        click.option("--port", type=int),
        click.option("--source", metavar="ADDRESS", help="Of the connection's other end."),
        click.option("--now", metavar="TIME", help="Such as 2026-12-31T18:00:00Z."),
        click.option("--forwarded", metavar="ID", help="On whose behalf a believed proxy calls."),
    ):
        command = option(command)
    return command


@policy.command()
@_files
@_trust_domain
@_request_options
@_as_json
def explain(
    files: tuple[Path, ...], trust_domain: TrustDomain, as_json: bool, **request: Any
) -> None:
    """Say what the policy FILES decide about one request, and what each rule says."""
    policies = read_policies(*files, trust_domain=trust_domain)
    asked = _asked(**request)
    reason = asked.refusal()
    if reason is not None:
        raise ConfigurationError(f"this request gets 400 before any policy: {reason}")
    explained = explain_request(policies, asked.caller, asked.method, asked.path, asked.details)
    if as_json:
        _print_json(explanation_fields(explained))
    else:
        click.echo("\n".join(explanation_lines(explained)))
    sys.exit(0 if explained.decision.allowed else 1)


@policy.command()
@click.argument("cases", type=_path)
@click.argument("files", nargs=-1, required=True, type=_path)
@_trust_domain
@_as_json
@click.option(
    "--min-coverage", type=click.IntRange(0, 100), default=0, help="Percent of rules that match."
)
def test(
    cases: Path,
    files: tuple[Path, ...],
    trust_domain: TrustDomain,
    as_json: bool,
    min_coverage: int,
) -> None:
    """Run the table CASES against the policy FILES; report rules that no case matches."""
    policies = read_policies(*files, trust_domain=trust_domain)
    result = run_cases(policies, parse_cases(_text(cases), file=str(cases)))
    if as_json:
        _print_json(table_fields(result))
    else:
        click.echo("\n".join(case_lines(result)))
    covered = 100 * (result.rule_count - len(result.uncovered))
    sys.exit(0 if result.is_passed and covered >= min_coverage * result.rule_count else 1)


@policy.command("import")
@click.argument("manifest", type=_path)
@_trust_domain
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Of the workload.")
def import_(manifest: Path, trust_domain: TrustDomain, labels: tuple[str, ...]) -> None:
    """Convert Istio AuthorizationPolicy manifests; print a policy file.

    What cannot be carried over is an error. Istio allows everything when no ALLOW policy selects a
    workload; here nothing is allowed then.
    """
    pairs = dict(_pair(label, "=", "--label") for label in labels) if labels else None
    text = _text(manifest)
    click.echo(
        import_istio(text, file=str(manifest), trust_domain=trust_domain, labels=pairs), nl=False
    )


@policy.command()
@_files
@_trust_domain
@click.option(
    "--format", "form", type=click.Choice(["mermaid", "svg"]), default="mermaid", show_default=True
)
@_as_json
def graph(files: tuple[Path, ...], trust_domain: TrustDomain, form: str, as_json: bool) -> None:
    """Draw who may call what, as a Mermaid flowchart or an SVG picture."""
    policies = read_policies(*files, trust_domain=trust_domain)
    if as_json:
        _print_json([dataclasses.asdict(arrow) for arrow in arrows(policies)])
    else:
        click.echo((svg if form == "svg" else mermaid)(policies), nl=False)


@policy.command()
def schema() -> None:
    """Print the JSON Schema of the policy format, for editors."""
    _print_json(policy_schema())


@policy.command("dry-run")
@click.option("--old", "old", required=True, multiple=True, type=_path, help="Policy in force.")
@click.option("--new", "new", required=True, multiple=True, type=_path, help="Policy to try.")
@click.argument("recording", type=click.File("r", encoding="utf-8"))
@_trust_domain
@_as_json
def dry_run(
    old: tuple[Path, ...],
    new: tuple[Path, ...],
    recording: Any,
    trust_domain: TrustDomain,
    as_json: bool,
) -> None:
    """Decide recorded requests by two policies; show where they differ (exit status 1).

    RECORDING has one JSON object a line: from, method, path, and optionally user, headers, host,
    port, source, now.
    """
    before = read_policies(*old, trust_domain=trust_domain)
    after = read_policies(*new, trust_domain=trust_domain)
    count, changes = 0, []
    for number, request in _recorded(recording):
        count += 1
        pair = [_decide(each, request) for each in (before, after)]
        if pair[0]["allowed"] is not pair[1]["allowed"]:
            changes.append({"line": number, "old": pair[0], "new": pair[1]})
    if as_json:
        _print_json({"requests": count, "changes": changes})
    else:
        for change in changes:
            click.echo(_change_line(change))
        click.echo(f"{count} requests, {len(changes)} decided differently")
    sys.exit(1 if changes else 0)


def _decide(policies: PolicySet, request: RecordedRequest) -> dict[str, Any]:
    decision = policies.decide(request.caller, request.method, request.path, request.details)
    return decision_fields(decision)


def _change_line(change: dict[str, Any]) -> str:
    words = ("denied", "allowed")
    old, new = change["old"], change["new"]
    return (
        f"line {change['line']}: {words[old['allowed']]} -> {words[new['allowed']]} "
        f"({old['reason']} -> {new['reason']})"
    )


def _recorded(lines: Any) -> Iterator[tuple[int, RecordedRequest]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield number, RecordedRequest.parse(_object(json.loads(line)))
        except (ValueError, ConfigurationError, SpiffeIdError) as err:
            raise PolicyError(str(err), file=str(lines.name), line=number) from err


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError("expected a JSON object")
    return value


def _asked(
    *, caller: str, claims: str | None, headers: tuple[str, ...], **rest: Any
) -> RecordedRequest:
    fields = {name: value for name, value in rest.items() if value is not None}
    fields["from"] = caller
    if claims is not None:
        try:
            fields["user"] = _object(json.loads(claims))
        except ValueError as err:
            raise click.BadParameter("expected a JSON object", param_hint="--claims") from err
    named: dict[str, list[str]] = {}
    for header in headers:
        name, value = _pair(header, ":", "--header")
        named.setdefault(name, []).append(value.strip())
    fields["headers"] = named
    return RecordedRequest.parse(fields)


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name:
        raise click.BadParameter(f"expected NAME{separator}VALUE, got {text!r}", param_hint=option)
    return name, value


def _domain(text: str) -> TrustDomain:
    try:
        return TrustDomain.parse(text)
    except SpiffeIdError as err:
        raise click.BadParameter(str(err), param_hint="--trust-domain") from err


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise PolicyError("expected UTF-8", file=str(path)) from err


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
