# SPDX-License-Identifier: Apache-2.0
"""A keeper of volumes without a cluster: writes what it is told, when it is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from webhook.node.errand import run_errand

if TYPE_CHECKING:
    from pathlib import Path

    from webhook.node.publication import Publication
    from webhook.node.volume_store import VolumeStore

FILES = {"credential-bundle.pem": b"key and chain", "example.org.trust-bundle.pem": b"roots"}


class VolumesDouble:
    """Publishes into a store, once `gate` is open, unless `failure` is set.

    Attributes:
        gate: Closed, publications wait at it.
        failure: What the next publication raises.
        tokens: Those that came, in order.
        calls: What was called, in order.
        most_at_once: How many publications were under way at the same time.
    """

    def __init__(self, store: VolumeStore) -> None:
        self.store = store
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_ready = True
        self.failure: BaseException | None = None
        self.unpublish_failure: BaseException | None = None
        self.tokens: list[str] = []
        self.calls: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._published: dict[str, Publication] = {each.volume_id: each for each in store}

    def published(self, volume_id: str) -> Publication | None:
        return self._published.get(volume_id)

    async def publish(self, publication: Publication, token: str) -> None:
        self.tokens.append(token)
        self.calls.append(f"publish {publication.volume_id}")
        if publication.volume_id in self._published:
            self._fail()
            return
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await run_errand(self.store.create, publication)
            await self.gate.wait()
            self._fail()
            await run_errand(self.store.write, publication.volume_id, FILES)
            await run_errand(self.store.expose, publication.volume_id)
        finally:
            self._at_once -= 1
        self._published[publication.volume_id] = publication

    async def unpublish(self, volume_id: str, target: Path) -> None:
        self.calls.append(f"unpublish {volume_id}")
        if self.unpublish_failure is not None:
            failure, self.unpublish_failure = self.unpublish_failure, None
            raise failure
        await run_errand(self.store.remove, volume_id, target)
        if self.store.get(volume_id) is None:
            self._published.pop(volume_id, None)

    def _fail(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
