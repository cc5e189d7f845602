# SPDX-License-Identifier: Apache-2.0
"""What in a configuration of zones can hardly be meant so. Pure.

Rules:
    1. It is about what the configuration allows; a namespace or a pod is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhook.finding import Finding, Verdict
from webhook.zones.graph import Reach
from webhook.zones.sentences import group_text, reach_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webhook.config import Zone
    from webhook.zones.graph import Graph

__all__ = ("design_warnings", "reach_findings")


def design_warnings(graph: Graph) -> Iterator[Finding]:
    """Tell what has no effect, and trust that is not returned."""
    used = {name for group in graph.groups if group.names for name in group.rule.zones}
    asked = {ask.partner.name for group in graph.groups for ask in group.asks}
    for zone in graph.zones:
        if zone.name not in used:
            yield _warning(f"zone {zone.name}", "no rule gives it to any namespace")
        yield from _one_sided(graph, zone)
    for group in graph.groups:
        if not group.names:
            yield _warning(f"rule {group.number}", f"decides nothing, {group_text(group)}")
    for name in sorted(graph.config.partners.keys() - asked):
        yield _warning(f"partner {name}", "no namespace with a rule may ask for it")


def _one_sided(graph: Graph, zone: Zone) -> Iterator[Finding]:
    for other in graph.zones:
        if graph.reach(zone, other.trust_domain) is Reach.ONE_SIDED:
            message = f"may trust zone {other.name}, which does not trust back: no connection"
            yield _warning(f"zone {zone.name}", message)


def reach_findings(graph: Graph) -> Iterator[Finding]:
    """Say of each zone whom its workloads can reach, and whom they cannot."""
    for zone in graph.zones:
        can, cannot = reach_text(graph, zone)
        message = f"can reach {'; '.join(can)}"
        if cannot:
            message += f"; CANNOT reach {', '.join(cannot)}"
        yield Finding(Verdict.OK, f"zone {zone.name}", message)


def _warning(subject: str, message: str) -> Finding:
    return Finding(Verdict.WARNING, subject, message)
