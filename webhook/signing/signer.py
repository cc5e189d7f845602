# SPDX-License-Identifier: Apache-2.0
"""Decides about requests and signs: the part that is the same for every kind of request.

Rules:
    1. Whoever asks, the pod is looked up and compared, and the platform's configuration decides.
    2. The usual request costs no call to the API server: pods and Services are known already.
    3. A refusal is for ever, so it is never made from what is merely known: pod and configuration
       are read afresh first.
    4. What may pass by itself (the pod is not seen yet, the API server is silent or out of sight)
       is `Again`: names of a Service of long ago are not certified.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from webhook.api import ApiError, NotFoundError, Pod
from webhook.api.resources import PODS
from webhook.exceptions import IssuanceError
from webhook.issuance.evaluation import NOT_ALLOWED, evaluate
from webhook.issuance.profile import issue
from webhook.signing.worklist import Again

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.api import Api, Informer
    from webhook.config import PlatformConfig
    from webhook.issuance.grant import Grant
    from webhook.issuance.profile import Issued
    from webhook.issuance.request import IssuanceRequest
    from webhook.issuance.service_names import ServiceIndex
    from webhook.trust.ca_pool import CaPool

__all__ = ("OTHER_DOMAIN", "LiveConfiguration", "Pools", "Signer")

OTHER_DOMAIN: Final = "CaPoolOfOtherDomain"


class Pools(Protocol):
    """Where the zones' authorities come from."""

    def pool(self, zone: str) -> CaPool:
        """The pool of a zone, by its name.

        Raises:
            IssuanceError: There is none yet; retryable.
        """


class LiveConfiguration(Protocol):
    """The platform's configuration, which changes."""

    @property
    def current(self) -> PlatformConfig:
        """What is in force."""

    async def fresh(self) -> PlatformConfig:
        """What is in force, read afresh."""


class Signer:
    """Makes certificates of requests.

    Args:
        api: To read a pod afresh.
        pods: All pods.
        services: All Services.
        configuration: The platform's.
        pools: Of the authorities that sign.
        now: Aware UTC time.
        is_blind: Whether pods or Services were out of sight for long: then nothing is decided.
    """

    def __init__(
        self,
        api: Api,
        *,
        pods: Informer[Pod],
        services: ServiceIndex,
        configuration: LiveConfiguration,
        pools: Pools,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        is_blind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._api = api
        self._services = services
        self._pools = pools
        self._is_blind = is_blind
        self.pods = pods
        self.configuration = configuration
        self.now = now

    async def decide(self, request: IssuanceRequest, *, attempt: int = 0) -> Grant:
        """Decide what the requester gets.

        Args:
            request: What is asked for.
            attempt: How often it was tried in vain. The first time, a pod that is not known as
                the request describes it is waited for; later it is read.

        Raises:
            Again: What it takes is not there yet.
            IssuanceError: It is refused, for ever unless `is_retryable`.
        """
        if self._is_blind():
            raise Again("pods or Services are out of sight")
        pod = self.pods.get(request.namespace, request.pod_name)
        if not _is_pod_of(request, pod):
            if attempt == 0:
                raise Again("the pod is not seen yet")
            pod = await self.read_pod(request.namespace, request.pod_name)
        try:
            return self._evaluate(request, pod, self.configuration.current)
        except IssuanceError as err:
            if err.is_retryable:
                raise
        pod = await self.read_pod(request.namespace, request.pod_name)
        return self._evaluate(request, pod, await self.configuration.fresh())

    def issue(self, grant: Grant) -> tuple[Issued, str]:
        """Sign what was granted.

        Returns:
            The certificate, and the name of the authority that signed it.

        Raises:
            IssuanceError: The zone has no authority yet, or none of ours, or that of another
                trust domain.
        """
        if grant.zone.external_signer is not None:
            raise IssuanceError(
                f"zone {grant.zone.name!r} has an external signer: its pods need Secret mode",
                reason=NOT_ALLOWED,
            )
        pool = self._pools.pool(grant.zone.name)
        if pool.trust_domain != grant.zone.trust_domain:
            raise IssuanceError(
                f"the CA pool of zone {grant.zone.name!r} is of another trust domain",
                reason=OTHER_DOMAIN,
                is_retryable=True,
            )
        authority = pool.active
        return issue(grant, authority, now=self.now()), authority.name

    async def read_pod(self, namespace: str, name: str) -> Pod | None:
        """Read a pod afresh; None: there is none.

        Raises:
            Again: The API server did not answer.
        """
        try:
            return Pod.parse(await self._api.get(PODS, name, namespace=namespace))
        except NotFoundError:
            return None
        except ApiError as err:
            raise Again(str(err), at_least=err.retry_after or 0.0) from err

    def _evaluate(self, request: IssuanceRequest, pod: Pod | None, config: PlatformConfig) -> Grant:
        return evaluate(request, pod=pod, services=self._services, config=config)


def _is_pod_of(request: IssuanceRequest, pod: Pod | None) -> bool:
    return pod is not None and (pod.uid, pod.node_name) == (request.pod_uid, request.node_name)
