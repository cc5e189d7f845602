# SPDX-License-Identifier: Apache-2.0
"""From a pod of this node and its token to the files of its volume.

Rules:
    1. The kubelet says which pod it is, and the API server must say the same: this pod, of this
       account, on this node, neither ending nor ended.
    2. What is asked for is decided as the signer decides it. That is courtesy: the signer decides
       again, and knows of the pod only what the API server proved.
    3. The key is made here, in memory, and leaves in the files alone.
    4. What comes back counts only if it is the answer to what was asked for: our key, the pod's
       names, under the zone's own bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from webhook.api import NotFoundError, Pod
from webhook.api.resources import PODS
from webhook.config import Mode
from webhook.delivery.answer import verified
from webhook.delivery.keys import new_key
from webhook.delivery.plan import plan_for
from webhook.exceptions import IssuanceError
from webhook.issuance.allowed_mode import check_mode
from webhook.issuance.evaluation import POD_MISMATCH, POD_NOT_SEEN, POD_TERMINAL
from webhook.issuance.signing_request import empty_request, named_request
from webhook.node.contents import bundle_files, credential_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from webhook.api import Api, Informer
    from webhook.config import PlatformConfig
    from webhook.delivery.plan import Plan
    from webhook.delivery.zone_bundles import ZoneBundles
    from webhook.issuance.service_names import ServiceIndex
    from webhook.node.certifier import PodCertifier
    from webhook.node.publication import PodReference

__all__ = ("Identity", "IdentityIssuer")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a pod's volume holds.

    Attributes:
        files: By name.
        refresh_at: Unix time at which the next one is due.
        not_after: Unix time at which it expires.
        plan: What was asked for.
    """

    files: Mapping[str, bytes] = field(repr=False)
    refresh_at: float
    not_after: float
    plan: Plan


class IdentityIssuer:
    """Gets identities for the pods of one node.

    Args:
        api: The API server, as the node driver's own account.
        node_name: Of this node.
        pods: Of this node.
        services: Of the cluster.
        configuration: What is in force now.
        bundles: The zones'.
        certifier: Asks as the pod.
    """

    def __init__(
        self,
        api: Api,
        node_name: str,
        *,
        pods: Informer[Pod],
        services: ServiceIndex,
        configuration: Callable[[], PlatformConfig],
        bundles: ZoneBundles,
        certifier: PodCertifier,
    ) -> None:
        self._api = api
        self._node_name = node_name
        self._pods = pods
        self._services = services
        self._configuration = configuration
        self._bundles = bundles
        self._certifier = certifier

    async def issue(self, pod: PodReference, token: str) -> Identity:
        """Make a key, and get the certificate for it.

        Args:
            pod: Whose.
            token: Bound to that pod; it is not kept.

        Raises:
            IssuanceError: Final: the pod may not have it, or is gone. Retryable: what it takes is
                not there yet, or no signer answered.
            ApiError: The API server refused, or did not answer.
        """
        self.check_mode(pod)
        plan = self._plan(await self._seen(pod), pod)
        key = await new_key(plan.key_type)
        grant = plan.grant_for(key)
        is_external = grant.zone.external_signer is not None
        asked = named_request(grant, key) if is_external else empty_request(key)
        chain = await self._certifier.certify(pod, token, grant, asked)
        issued = verified(chain, grant, plan)
        self._check_alive(await self._seen(pod))
        return Identity(
            files={**credential_file(key, issued.chain_pem), **bundle_files(plan)},
            refresh_at=issued.begin_refresh_at.timestamp(),
            not_after=issued.not_after.timestamp(),
            plan=plan,
        )

    def check_mode(self, pod: PodReference) -> None:
        """Let a pod pass whose namespace may have this mode now.

        Raises:
            IssuanceError: It may not; final.
        """
        check_mode(pod.namespace, Mode.CSI, self._configuration())

    def plan(self, pod: PodReference) -> Plan | None:
        """What a pod's volume shall hold now; None while the pod is not seen, or no more.

        Of a pod that has its volume: that its namespace has lost the mode does not count here.

        Raises:
            IssuanceError: Nothing; see `issue`.
        """
        known = self._pods.get(pod.namespace, pod.name)
        if known is None or known.uid != pod.uid or known.has_ended or known.is_terminating:
            return None
        return self._plan(known, pod)

    def _plan(self, found: Pod, pod: PodReference) -> Plan:
        config = self._configuration()
        self._check_same(found, pod)
        self._check_alive(found)
        return plan_for(found, services=self._services, config=config, bundles=self._bundles)

    async def _seen(self, pod: PodReference) -> Pod:
        """The pod as we see it; asked for where we do not see it yet, or see its predecessor."""
        known = self._pods.get(pod.namespace, pod.name)
        if known is not None and known.uid == pod.uid:
            return known
        try:
            found = Pod.parse(await self._api.get(PODS, pod.name, namespace=pod.namespace))
        except NotFoundError as err:
            raise _gone() from err
        if found.uid != pod.uid:
            raise _gone()
        return found

    def _check_same(self, found: Pod, pod: PodReference) -> None:
        if not found.node_name:
            raise IssuanceError(
                "the pod is not seen on a node", reason=POD_NOT_SEEN, is_retryable=True
            )
        for what, expected, got in (
            ("node", self._node_name, found.node_name),
            ("service account", pod.service_account, found.service_account),
        ):
            if expected != got:
                raise IssuanceError(
                    f"expected a pod of {what} {expected!r}, got one of {got!r}",
                    reason=POD_MISMATCH,
                )

    def _check_alive(self, found: Pod) -> None:
        if found.is_terminating or found.has_ended:
            raise IssuanceError("the pod is terminating, or has ended", reason=POD_TERMINAL)


def _gone() -> IssuanceError:
    return IssuanceError("the pod is gone", reason=POD_TERMINAL)
