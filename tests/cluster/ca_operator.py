# SPDX-License-Identifier: Apache-2.0
"""The operator of a zone's CA pool, who gives orders with an administrator's kubeconfig."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from webhook.api import Api
from webhook.config import PlatformConfig
from webhook.trust.ca_store import CaStore
from webhook.trust.rotation import CaOrders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from webhook.trust.ca_pool import CaPool
    from webhook.trust.ca_status import PoolStatus


class Operator:
    """Gives orders about a zone with an administrator's kubeconfig."""

    def __init__(self, kubeconfig: Path, config: Path, zone: str = "default") -> None:
        self._kubeconfig = kubeconfig
        self._config = config
        self._zone = zone

    def order(self, give: Callable[[CaOrders], Awaitable[PoolStatus]]) -> PoolStatus:
        """Give an order."""

        async def given(api: Api) -> PoolStatus:
            config = PlatformConfig.parse(self._config.read_text())
            return await give(CaOrders(api, config, self._zone))

        return self._run(given)

    def pool(self) -> CaPool | None:
        """The pool of the zone, as it is stored."""

        async def read(api: Api) -> CaPool | None:
            stored = await CaStore(api).read(self._zone)
            return None if stored is None else stored.pool

        return self._run(read)

    def states(self) -> list[str]:
        """The states of the pool's entries."""
        pool = self.pool()
        return [] if pool is None else [entry.state.value for entry in pool.entries]

    def _run(self, ask: Callable[[Api], Awaitable[Any]]) -> Any:
        async def asked() -> Any:
            async with await Api.connect(self._kubeconfig) as api:
                return await ask(api)

        return asyncio.run(asked())
