# SPDX-License-Identifier: Apache-2.0
"""Keeps a Secret for each injected pod: made, renewed, and made anew when what it holds changes.

Rules:
    1. A pod belongs to one live replica. What is known of its Secret is in memory alone: who takes
       a pod over, or was restarted, writes its Secret anew.
    2. Pods that wait to start come at once. Those that run have a Secret already, with at least
       half of its life left: after a restart they are spread over some minutes.
    3. A change of Services, roots, partners or configuration that changes a pod's plan writes its
       Secret at once.
    4. What a signer returns is checked against what was asked for, whoever it is.
    5. Nothing is given up while the pod lives; a pod without our injection gets nothing.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509

from webhook.api import ApiError, ConflictError, NotFoundError
from webhook.api.backoff import Backoff
from webhook.api.events import reference
from webhook.api.resources import PODS
from webhook.exceptions import IssuanceError
from webhook.issuance.returned import verify_returned
from webhook.issuance.signing_request import empty_request, named_request
from webhook.metrics import QUEUE
from webhook.secrets import metrics
from webhook.secrets.certifier import signing_request
from webhook.secrets.content import files, secret
from webhook.secrets.injection import is_injected
from webhook.secrets.keys import new_key
from webhook.secrets.plan import plan_for
from webhook.secrets.writer import ForeignSecretError
from webhook.signing.audit import AuditLog
from webhook.signing.worklist import Again, Lane, Worklist

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.api import EventRecorder, Informer, Pod, Service
    from webhook.config import PlatformConfig
    from webhook.issuance.grant import Grant
    from webhook.issuance.profile import Issued
    from webhook.issuance.service_names import ServiceIndex
    from webhook.secrets.certifier import Certifier
    from webhook.secrets.plan import Plan
    from webhook.secrets.writer import SecretWriter, Version
    from webhook.secrets.zone_bundles import ZoneBundles
    from webhook.signing.requests import Key
    from webhook.signing.shares import Replicas

__all__ = ("SecretIssuer",)

_log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 120.0
_SPREAD_SECONDS: Final = 300.0
_NEWS_SECONDS: Final = 60.0
"""A change is news to who takes a pod over: longer than it takes to find a replica dead."""
_REQUESTER: Final = "kubetls-secret-issuer"


@dataclass(frozen=True, slots=True)
class Held:
    """What this replica wrote for a pod.

    Attributes:
        version: Of the Secret.
        plan: What it holds.
        refresh_at: Unix time at which the next certificate is due.
        not_after: Unix time at which the certificate expires.
    """

    version: Version
    plan: Plan
    refresh_at: float
    not_after: float


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
        self._replicas = replicas
        self._events = events
        self._audit = AuditLog()
        self._now = now
        self._injected: dict[str, set[Key]] = {}
        self._held: dict[str, Held] = {}
        self._due: dict[str, float] = {}
        self._touched: dict[str, float] = {}
        self.worklist: Worklist[Key] = Worklist(
            self._keep,
            limit=limit,
            backoff=lambda: Backoff(initial=_FIRST_SECONDS, maximum=_LONGEST_SECONDS),
        )
        pods.subscribe(self._pod_changed)
        services[0].subscribe(self._service_changed)
        metrics.HELD.set_function(lambda: len(self._held))
        QUEUE.labels(queue="secret").set_function(lambda: self.worklist.waiting)

    def look(self, *, at_everything: bool = False) -> None:
        """Take up what is due.

        Args:
            at_everything: Compare each pod's plan with what it has, too: bundles or the
                configuration have changed.
        """
        for key in [key for keys in self._injected.values() for key in keys]:
            pod = self._pods.get(*key)
            if pod is not None and self._is_ours(pod) and (at_everything or self._is_due(pod)):
                self._add(pod)
                if at_everything:
                    self.worklist.hurry(key)

    def _is_ours(self, pod: Pod) -> bool:
        is_ours = self._replicas.owns(pod.uid)
        if not is_ours:
            self._held.pop(pod.uid, None)
            self._due.pop(pod.uid, None)
        return is_ours

    def _is_due(self, pod: Pod) -> bool:
        held = self._held.get(pod.uid)
        if held is not None:
            return self._now() >= held.refresh_at
        if pod.phase != "Running" or self._now() - self._touched.get(pod.uid, 0) < _NEWS_SECONDS:
            return True
        spread = random.uniform(0.0, _SPREAD_SECONDS)  # noqa: S311 - spreads load, guards nothing
        return self._now() >= self._due.setdefault(pod.uid, self._now() + spread)

    def _add(self, pod: Pod) -> None:
        held = self._held.get(pod.uid)
        lane = Lane.RENEWAL if pod.phase == "Running" else Lane.NEW
        deadline = held.not_after if held is not None else None
        self.worklist.add((pod.namespace, pod.name), lane=lane, deadline=deadline)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is not None and (new is None or new.uid != old.uid):
            for known in (self._held, self._due, self._touched):
                known.pop(old.uid, None)
        pod = new or old
        if pod is None:
            return
        key = (pod.namespace, pod.name)
        if new is None or not _wants_secret(new):
            self._injected.get(pod.namespace, set()).discard(key)
            self.worklist.forget(key)
            return
        self._injected.setdefault(pod.namespace, set()).add(key)
        if old is not None and (old.labels, old.node_name) != (new.labels, new.node_name):
            self._touch(new)
        elif old is None and self._is_ours(new) and self._is_due(new):
            self._add(new)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        service = new or old
        for key in self._injected.get(service.namespace, ()) if service is not None else ():
            pod = self._pods.get(*key)
            is_selected = pod is not None and any(
                each is not None and each.selects(pod.labels) for each in (old, new)
            )
            if pod is not None and is_selected:
                self._touch(pod)

    def _touch(self, pod: Pod) -> None:
        """What the pod's Secret shall hold may have changed."""
        self._touched[pod.uid] = self._now()
        if self._is_ours(pod):
            self._add(pod)
            self.worklist.hurry((pod.namespace, pod.name))

    async def _keep(self, key: Key, attempt: int) -> None:
        pod = self._pods.get(*key)
        if pod is None or not _wants_secret(pod) or not self._is_ours(pod):
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
            self._held.pop(pod.uid, None)
            raise Again("the Secret has changed in between") from err
        except ApiError as err:
            await self._complain(pod, err.reason or "Unreachable", err, attempt)
            raise Again(str(err), at_least=err.retry_after or 0.0) from err

    async def _write(self, pod: Pod) -> None:
        plan = self._plan(pod)
        held = self._held.get(pod.uid)
        if held is not None and held.plan == plan and self._now() < held.refresh_at:
            return
        key = await new_key(plan.key_type)
        grant = plan.grant_for(key)
        is_external = grant.zone.external_signer is not None
        asked = named_request(grant, key) if is_external else empty_request(key)
        chain = await self._certifier.certify(signing_request(pod, grant, asked))
        issued = _verified(chain, grant, plan)
        body = secret(pod, plan.name, files(plan, key, issued.chain_pem))
        version = await self._writer.write(body, held.version if held is not None else None)
        self._due.pop(pod.uid, None)
        refresh, end = issued.begin_refresh_at.timestamp(), issued.not_after.timestamp()
        self._held[pod.uid] = Held(version, plan, refresh, end)
        metrics.WRITTEN.labels(zone=grant.zone.name).inc()
        _log.info("Secret %s/%s is written, until %s", pod.namespace, plan.name, issued.not_after)
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
        if self._plan(pod) != plan:
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


def _wants_secret(pod: Pod) -> bool:
    """Whether a pod waits for our Secret, or has one: it is on a node, which mounts the volume."""
    return is_injected(pod) and bool(pod.node_name) and not (pod.has_ended or pod.is_terminating)


def _verified(chain_pem: bytes, grant: Grant, plan: Plan) -> Issued:
    """Accept what came back only if it is what was asked for; nothing else is ever retried here."""
    try:
        expected = grant if grant.zone.external_signer else _shortened(chain_pem, grant)
        return verify_returned(chain_pem, expected, plan.bundle, datetime.now(UTC))
    except IssuanceError as err:
        raise IssuanceError(str(err), reason=err.reason, is_retryable=True) from err


def _shortened(chain_pem: bytes, grant: Grant) -> Grant:
    """Our own signer gives less where its authority ends sooner: take that, and never more."""
    try:
        leaf = x509.load_pem_x509_certificate(chain_pem)
    except ValueError:
        return grant
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return replace(grant, lifetime=min(lifetime, grant.lifetime))
