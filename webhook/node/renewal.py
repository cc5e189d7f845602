# SPDX-License-Identifier: Apache-2.0
"""Brings a published volume up to date: other bundles, or another key and certificate.

Rules:
    1. What is new is whole before it replaces what is there; a failure changes nothing.
    2. Bundles are replaced first, and whether or not the pod can have another certificate: who is
       trusted no more waits for no signer. Key and certificate stay, if they stand under them.
    3. Afterwards all is compared once more: a change that came meanwhile is not missed, and one
       that needs yet another certificate comes back with the back-off of every failure.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from webhook.exceptions import IssuanceError
from webhook.names import CREDENTIAL_BUNDLE
from webhook.node import metrics
from webhook.node.certifier import TOKEN_REFUSED
from webhook.node.contents import Held, bundle_files, is_trusted
from webhook.node.errand import run_errand
from webhook.node.volume_store import UnknownVolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from webhook.delivery.plan import Plan
    from webhook.node.identity import IdentityIssuer
    from webhook.node.kept_volume import KeptVolume
    from webhook.node.volume_store import VolumeStore

__all__ = ("CHANGED", "Renewal")

_log = logging.getLogger(__name__)

CHANGED: Final = "ChangedMeanwhile"


class Renewal:
    """Renews volumes.

    Args:
        store: Where they lie.
        issuer: Gets identities.
        has: Whether a volume is still kept.
        now: Unix time.
    """

    def __init__(
        self,
        store: VolumeStore,
        issuer: IdentityIssuer,
        *,
        has: Callable[[KeptVolume], bool],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._has = has
        self._now = now

    def is_due(self, kept: KeptVolume) -> bool:
        """Whether there is something to be done for a volume now, as far as it can be."""
        pod = kept.publication.pod
        try:
            plan = self._issuer.plan(pod)
            if plan is None:
                return False
            if _needs_bundles(kept, plan):
                return True
            if not self._needs_identity(kept, plan):
                return False
            self._issuer.check_mode(pod)
        except IssuanceError:
            # Of what cannot be had, its owner is told once it is needed.
            return kept.held is None or self._now() >= kept.held.refresh_at
        return self._has_token(kept)

    async def bring_up_to_date(self, kept: KeptVolume) -> None:
        """Do what there is to be done.

        Raises:
            IssuanceError: What the pod shall have is not there yet, or it may not have it any more.
            ApiError: The API server refused, or did not answer.
            OSError: The disk or the kernel refused.
        """
        try:
            while self._has(kept):
                plan = self._issuer.plan(kept.publication.pod)
                if plan is None or not await self._renew(kept, plan):
                    return
        except UnknownVolumeError:
            return  # Unpublished meanwhile.

    async def _renew(self, kept: KeptVolume, plan: Plan) -> bool:
        """Do what comes next; False when there is nothing, or nothing can be done now."""
        is_outdated = _needs_bundles(kept, plan)
        if is_outdated and await self._replace_bundles(kept, plan):
            return True
        if not is_outdated and not self._needs_identity(kept, plan):
            return False
        self._issuer.check_mode(kept.publication.pod)
        if not self._has_token(kept):
            return False
        await self._replace_identity(kept)
        return True

    def _needs_identity(self, kept: KeptVolume, plan: Plan) -> bool:
        return kept.held is None or kept.held.needs_identity(plan, self._now())

    def _has_token(self, kept: KeptVolume) -> bool:
        """Whether a volume that needs a certificate has a token to ask with; else it waits."""
        has_one = kept.token is not None and kept.token.is_good_at(self._now())
        if not has_one and not kept.lacks_token:
            _log.info("pod %s waits for its next token", kept.publication.pod)
        kept.lacks_token = not has_one
        return has_one

    async def _replace_bundles(self, kept: KeptVolume, plan: Plan) -> bool:
        """Write other bundles beside the certificate; False when it does not stand under them."""
        files = await run_errand(self._store.read, kept.volume_id)
        if not is_trusted(files, plan, datetime.now(UTC)):
            return False
        await self._write(kept, {CREDENTIAL_BUNDLE: files[CREDENTIAL_BUNDLE], **bundle_files(plan)})
        metrics.REWRITTEN.labels(zone=plan.grant.zone.name).inc()
        _log.info("pod %s has new bundles", kept.publication.pod)
        return True

    async def _replace_identity(self, kept: KeptVolume) -> None:
        token, pod = kept.token, kept.publication.pod
        if token is None:
            return
        try:
            identity = await self._issuer.issue(pod, token.text)
        except IssuanceError as err:
            if err.reason == TOKEN_REFUSED and kept.token is token:
                kept.token = None
            raise
        if not self._has(kept):
            return
        await self._write(kept, identity.files)
        metrics.RENEWED.labels(zone=identity.plan.grant.zone.name).inc()
        _log.info("pod %s has a new certificate", pod)
        plan = self._issuer.plan(pod)
        if plan is not None and self._needs_identity(kept, plan):
            raise IssuanceError(
                "what the pod shall have has changed meanwhile", reason=CHANGED, is_retryable=True
            )

    async def _write(self, kept: KeptVolume, files: Mapping[str, bytes]) -> None:
        await run_errand(self._store.write, kept.volume_id, files)
        kept.held = Held.read(files)


def _needs_bundles(kept: KeptVolume, plan: Plan) -> bool:
    return kept.held is not None and kept.held.needs_bundles(plan)
