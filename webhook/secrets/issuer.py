# SPDX-License-Identifier: Apache-2.0
"""Keeps a Secret for each injected pod: made, renewed, and made anew when what it holds changes.

Rules:
    1. What a signer returns is checked against what was asked for, whoever it is.
    2. Nothing is given up while the pod lives; a pod without our injection gets nothing.
    3. What changes while a Secret is written makes it be written once more.
    4. The pod's owner is told of what does not pass within a moment.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from webhook.api import ApiError, ConflictError, NotFoundError
from webhook.api.backoff import Backoff
from webhook.api.events import reference
from webhook.api.resources import PODS
from webhook.delivery.answer import verified
from webhook.delivery.keys import new_key
from webhook.delivery.plan import plan_for
from webhook.exceptions import IssuanceError
from webhook.issuance.signing_request import empty_request, named_request
from webhook.metrics import QUEUE
from webhook.secrets import metrics
from webhook.secrets.certifier import signing_request
from webhook.secrets.content import files, secret
from webhook.secrets.injection import secret_name
from webhook.secrets.roster import Held, Roster
from webhook.secrets.writer import ForeignSecretError
from webhook.signing.audit import AuditLog
from webhook.signing.worklist import Again, Lane, Worklist

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.api import EventRecorder, Informer, Pod, Service
    from webhook.config import PlatformConfig
    from webhook.delivery.plan import Plan
    from webhook.delivery.zone_bundles import ZoneBundles
    from webhook.issuance.service_names import ServiceIndex
    from webhook.secrets.certifier import Certifier
    from webhook.secrets.writer import SecretWriter
    from webhook.signing.requests import Key
    from webhook.signing.shares import Replicas

__all__ = ("SecretIssuer",)

_log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 120.0
_REQUESTER: Final = "kubetls-secret-issuer"


class SecretIssuer:
    """The controller of Secrets.

    Args:
        pods: All pods.
        services: All Services, and their index.
        configuration: What is in force now.
        bundles: The zones'.
        certifier: Gets certificates.
        writer: Writes Secrets.
        replicas: Among which the pods are divided.
        events: Where Events go.
        limit: How many pods are worked on at once.
        now: Unix time.
    """

    def __init__(
        self,
        pods: Informer[Pod],
        services: tuple[Informer[Service], ServiceIndex],
        *,
        configuration: Callable[[], PlatformConfig],
        bundles: ZoneBundles,
        certifier: Certifier,
        writer: SecretWriter,
        replicas: Replicas,
        events: EventRecorder,
        limit: int = 16,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._pods = pods
        self._index = services[1]
        self._configuration = configuration
        self._bundles = bundles
        self._certifier = certifier
        self._writer = writer
        self._events = events
        self._audit = AuditLog()
        self._now = now
        self.worklist: Worklist[Key] = Worklist(
            self._keep,
            limit=limit,
            backoff=lambda: Backoff(initial=_FIRST_SECONDS, maximum=_LONGEST_SECONDS),
        )
        self.roster = Roster(pods, replicas, take=self._take, drop=self.worklist.forget, now=now)
        pods.subscribe(self.roster.pod_changed)
        services[0].subscribe(self.roster.service_changed)
        metrics.HELD.set_function(lambda: len(self.roster.held))
        QUEUE.labels(queue="secret").set_function(lambda: self.worklist.waiting)

    def look(self, *, at_everything: bool = False) -> None:
        """Take up what is due; with `at_everything`, compare what all pods have, too."""
        self.roster.look(at_everything=at_everything)

    def _take(self, pod: Pod, *, at_once: bool) -> None:
        held = self.roster.held.get(pod.uid)
        lane = Lane.RENEWAL if pod.phase == "Running" else Lane.NEW
        deadline = held.not_after if held is not None else None
        key = (pod.namespace, pod.name)
        self.worklist.add(key, lane=lane, deadline=deadline)
        if at_once:
            self.worklist.hurry(key)

    async def _keep(self, key: Key, attempt: int) -> None:
        pod = self._pods.get(*key)
        if pod is None or not self.roster.has(pod):
            return
        try:
            await self._write(pod)
        except (IssuanceError, ForeignSecretError) as err:
            reason = err.reason if isinstance(err, IssuanceError) else "ForeignSecret"
            await self._complain(pod, reason, err, attempt)
            if isinstance(err, IssuanceError) and not err.is_retryable:
                raise Again(str(err), at_least=_LONGEST_SECONDS) from err
            raise Again(str(err)) from err
        except (ConflictError, NotFoundError) as err:
            self.roster.held.pop(pod.uid, None)
            raise Again("the Secret has changed in between") from err
        except ApiError as err:
            await self._complain(pod, err.reason or "Unreachable", err, attempt)
            raise Again(str(err), at_least=err.retry_after or 0.0) from err

    async def _write(self, pod: Pod) -> None:
        name, plan = secret_name(pod, self._configuration()), self._plan(pod)
        held = self.roster.held.get(pod.uid)
        if held is not None and held.plan == plan and self._now() < held.refresh_at:
            return
        key = await new_key(plan.key_type)
        grant = plan.grant_for(key)
        is_external = grant.zone.external_signer is not None
        asked = named_request(grant, key) if is_external else empty_request(key)
        chain = await self._certifier.certify(signing_request(pod, grant, asked))
        issued = verified(chain, grant, plan)
        body = secret(pod, name, files(plan, key, issued.chain_pem))
        version = await self._writer.write(body, held.version if held is not None else None)
        metrics.WRITTEN.labels(zone=grant.zone.name).inc()
        _log.info("Secret %s/%s is written, until %s", pod.namespace, name, issued.not_after)
        if is_external:
            self._audit.issued(
                replace(plan.request, public_key=grant.public_key),
                grant,
                issued,
                now=datetime.now(UTC),
                requester=_REQUESTER,
                kind="CertificateSigningRequest",
                signer=grant.zone.external_signer or "",
            )
        refresh, end = issued.begin_refresh_at.timestamp(), issued.not_after.timestamp()
        self._remember(pod, Held(version, plan, refresh, end))

    def _remember(self, pod: Pod, held: Held) -> None:
        """Keep what was written, unless the pod has gone meanwhile.

        Raises:
            Again: It is not what the pod, as it is now, shall have.
        """
        now = self._pods.get(pod.namespace, pod.name)
        if now is None or now.uid != pod.uid:
            raise Again("the pod has gone while its Secret was written")
        self.roster.held[pod.uid] = held
        if self.roster.has(now) and self._plan(now) != held.plan:
            raise Again("what the Secret shall hold has changed while it was written")

    def _plan(self, pod: Pod) -> Plan:
        config = self._configuration()
        return plan_for(pod, services=self._index, config=config, bundles=self._bundles)

    async def _complain(self, pod: Pod, reason: str, err: Exception, attempt: int) -> None:
        """Tell the pod's owner; not of what passes within a moment."""
        metrics.POSTPONED.labels(reason=reason).inc()
        is_fleeting = isinstance(err, IssuanceError | ApiError) and err.is_retryable
        if is_fleeting and attempt == 0:
            return
        await self._events.event(
            reference(PODS, pod), "Warning", "SecretNotWritten", f"{reason}: {err}", action="Write"
        )
