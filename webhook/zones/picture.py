# SPDX-License-Identifier: Apache-2.0
"""All that the writers show: the graph, and what a cluster has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from webhook.finding import Finding, Verdict
from webhook.zones.census import census
from webhook.zones.design import design_warnings
from webhook.zones.drift import bundle_findings, pod_findings
from webhook.zones.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from webhook.config import PlatformConfig
    from webhook.zones.census import NamespaceCensus
    from webhook.zones.cluster_state import ClusterState

__all__ = ("Picture",)


@dataclass(frozen=True, slots=True)
class Picture:
    """What is shown.

    Attributes:
        graph: Of the configuration.
        places: The cluster's namespaces; None: only the configuration was looked at.
        findings: What is hardly meant so in the configuration, and what was found in the cluster.
    """

    graph: Graph
    places: tuple[NamespaceCensus, ...] | None = None
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(
        cls, config: PlatformConfig, state: ClusterState | None = None, *, now: datetime
    ) -> Picture:
        """Make it.

        Args:
            config: The platform's.
            state: What the cluster has; None: nobody looked.
            now: Aware UTC time.
        """
        graph = Graph.of(config)
        warnings = tuple(design_warnings(graph))
        if state is None:
            return cls(graph, findings=warnings)
        places = census(config, state)
        found = _findings(config, state, places, now)
        return cls(graph, places, (*warnings, *found))

    def places_of(self, group: int | None) -> tuple[NamespaceCensus, ...]:
        """The cluster's namespaces that a rule decides about; None: those without a rule."""
        return tuple(each for each in self.places or () if each.group == group)


def _findings(
    config: PlatformConfig,
    state: ClusterState,
    places: tuple[NamespaceCensus, ...],
    now: datetime,
) -> Iterator[Finding]:
    for name in state.unseen:
        yield Finding(Verdict.WARNING, name, f"not looked at: expected the right to list {name}")
    if state.bundles is not None:
        yield from bundle_findings(config, state.bundles, now=now)
    elif "bundles" not in state.unseen:
        yield Finding(Verdict.WARNING, "bundles", "ClusterTrustBundles are not served here")
    yield from pod_findings(places)
