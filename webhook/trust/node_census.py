# SPDX-License-Identifier: Apache-2.0
"""Which nodes cannot have which delivery mode, as the leader sees them.

Rules:
    1. A node without the CSI driver counts only after some minutes: each new node, and each one
       whose driver is being replaced, is without it for a while.
    2. Nodes that the last leader named count at once, so that a change of leaders changes nothing.
    3. Windows nodes do not count: their pods are not injected.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from webhook.api.informer import Informer
from webhook.api.resources import CSI_NODES, NODES
from webhook.names import CSI_DRIVER
from webhook.node_version import is_windows, old_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from webhook.api.client import Api

__all__ = ("NodeCensus", "has_driver")

_GRACE_SECONDS: Final = 300.0


class _Node(NamedTuple):
    name: str
    is_old: bool


class NodeCensus:
    """The nodes, and where our CSI driver is registered.

    Args:
        api: The API server.
        changed: Called when the nodes that are too old for pod certificates change.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        api: Api,
        *,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = Informer(api, NODES, _parse)
        self._drivers = Informer(api, CSI_NODES, _with_driver)
        self._changed = changed
        self._clock = clock
        self._lacking_since: dict[str, float] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._nodes.subscribe(self._hear)
        await self._stack.enter_async_context(self._nodes)
        await self._stack.enter_async_context(self._drivers)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._stack.aclose()

    async def wait(self, seconds: float) -> None:
        """Wait until all was seen, at most for so long."""
        with suppress(TimeoutError):
            seen = asyncio.gather(self._nodes.synced(), self._drivers.synced())
            await asyncio.wait_for(seen, seconds)

    @property
    def is_synced(self) -> bool:
        """Whether the nodes were seen."""
        return self._nodes.is_synced

    @property
    def old(self) -> tuple[str, ...]:
        """Names of those that are too old for pod certificates."""
        return tuple(sorted(node.name for node in self._nodes.values() if node.is_old))

    def remember(self, without_driver: Iterable[str]) -> None:
        """Take over the nodes that were found to lack the driver before."""
        self._lacking_since = dict.fromkeys(without_driver, -math.inf)

    def without_driver(self) -> tuple[str, ...]:
        """Names of those that have lacked the driver for some minutes; ask often."""
        now = self._clock()
        if self._nodes.is_synced and self._drivers.is_synced:
            lacking = {node.name for node in self._nodes.values()} - set(self._drivers.values())
            self._lacking_since = {name: self._lacking_since.get(name, now) for name in lacking}
        since = self._lacking_since.items()
        return tuple(sorted(name for name, at in since if now - at >= _GRACE_SECONDS))

    def _hear(self, before: _Node | None, after: _Node | None) -> None:
        if any(node is not None and node.is_old for node in (before, after)):
            self._changed()


def has_driver(csi_node: Mapping[str, Any]) -> bool:
    """Tell whether our driver is registered on a node, by its CSINode."""
    drivers = (csi_node.get("spec") or {}).get("drivers") or ()
    return any(each.get("name") == CSI_DRIVER for each in drivers)


def _parse(node: Mapping[str, Any]) -> _Node | None:
    if is_windows(node):
        return None
    return _Node(node["metadata"]["name"], bool(old_nodes([node])))


def _with_driver(csi_node: Mapping[str, Any]) -> str | None:
    name: str = csi_node["metadata"]["name"]
    return name if has_driver(csi_node) else None
