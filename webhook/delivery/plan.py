# SPDX-License-Identifier: Apache-2.0
"""What a pod's volume shall hold now. Pure: pod, Services, configuration and bundle are arguments.

Rules:
    1. The decision is the signer's own (`webhook.issuance.evaluation`): what it would not sign is
       not asked for.
    2. Two plans are equal when the same files would do for both.
    3. A partner that a pod asked for and may not see any more is left out, and ends nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from webhook.choice import PARTNERS, choose
from webhook.exceptions import AdmissionDenied, IssuanceError
from webhook.issuance.evaluation import NOT_ALLOWED, evaluate
from webhook.issuance.request import IssuanceRequest

if TYPE_CHECKING:
    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.svid import PrivateKey
    from webhook.api import Pod
    from webhook.choice import Choice
    from webhook.config import KeyType, PlatformConfig
    from webhook.delivery.zone_bundles import ZoneBundles
    from webhook.issuance.grant import Grant
    from webhook.issuance.service_names import ServiceIndex

__all__ = ("Plan", "plan_for")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pod's volume shall hold.

    Attributes:
        request: For the pod, as if it asked itself; it has no key yet.
        grant: What the certificate shall say; it has no key yet.
        key_type: Of the key.
        bundle: The zone's.
        partners: Bundles of partners that go with it; an empty one trusts nobody.
    """

    request: IssuanceRequest = field(compare=False)
    grant: Grant
    key_type: KeyType
    bundle: TrustBundle
    partners: tuple[TrustBundle, ...]

    def grant_for(self, key: PrivateKey) -> Grant:
        """The grant, with the key that was made for it."""
        return replace(self.grant, public_key=key.public_key())


def plan_for(
    pod: Pod, *, services: ServiceIndex, config: PlatformConfig, bundles: ZoneBundles
) -> Plan:
    """Decide what a pod's volume shall hold.

    Raises:
        IssuanceError: Nothing: the pod may not have what it asks for (final), or what that takes is
            not there yet (retryable).
    """
    choice = _choice(pod, config)
    request = _request(pod, choice)
    grant = evaluate(request, pod=pod, services=services, config=config)
    return Plan(
        request=request,
        # The next one is made as soon as a Service appears: no need to ask early.
        grant=replace(grant, refreshes_early=False),
        key_type=choice.key_type,
        bundle=bundles.bundle(choice.zone),
        partners=tuple(map(bundles.partner_bundle, choice.partners)),
    )


def _choice(pod: Pod, config: PlatformConfig) -> Choice:
    visible = {partner.name for partner in config.partners_of(pod.namespace)}
    asked = map(str.strip, pod.annotations.get(PARTNERS, "").split(","))
    partners = ",".join(name for name in asked if name in visible)
    try:
        return choose(config, pod.namespace, {**pod.annotations, PARTNERS: partners})
    except AdmissionDenied as err:
        raise IssuanceError(str(err), reason=NOT_ALLOWED) from err


def _request(pod: Pod, choice: Choice) -> IssuanceRequest:
    return IssuanceRequest(
        namespace=pod.namespace,
        pod_name=pod.name,
        pod_uid=pod.uid,
        service_account=pod.service_account,
        node_name=pod.node_name,
        signer_name=choice.zone.signer_name,
        public_key=cast("Any", None),  # It is made when it is known that it will be used.
        key_type=choice.key_type,
        requested_lifetime=choice.lifetime,
        annotations={},
    )
