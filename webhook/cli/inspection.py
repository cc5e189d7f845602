# SPDX-License-Identifier: Apache-2.0
"""`preflight` and `policy`: commands that only read."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from webhook.cli.options import config_option, kubeconfig, read_platform

if TYPE_CHECKING:
    from pathlib import Path

    from webhook.preflight import Finding

__all__ = ("policy", "preflight")


@click.command(short_help="Say what the cluster lacks.")
@config_option
def preflight(config: Path) -> None:
    """Say what the cluster lacks; exit status 1 when it is not enough."""
    from webhook.preflight import Verdict

    findings = asyncio.run(_findings(config))
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        click.echo(f"{finding.verdict:<7}  {finding.subject:<{width}}  {finding.message}")
    sys.exit(any(finding.verdict is Verdict.FAILURE for finding in findings))


async def _findings(config: Path) -> list[Finding]:
    from webhook.api.client import Api
    from webhook.preflight import preflight as look

    async with await Api.connect(kubeconfig()) as api:
        return await look(api, read_platform(config))


@click.command(short_help="Print the injection as MutatingAdmissionPolicies.")
@config_option
def policy(config: Path) -> None:
    """Print the injection as MutatingAdmissionPolicies, for clusters without a webhook."""
    import yaml

    from webhook.injection.policy import build_policies

    yaml.safe_dump_all(build_policies(read_platform(config)), sys.stdout, sort_keys=False)
