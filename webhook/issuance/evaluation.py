# SPDX-License-Identifier: Apache-2.0
"""The decision: is this request the pod's, and what may its namespace have?

Admission is convenience; this is enforcement. Whatever a pod's author wrote by hand is decided
again here, from the platform's configuration.

Rules:
    1. Pure. The pod is the API server's, read after the request; nothing is believed of the request
       that the pod does not confirm.
    2. A refusal is final for the pod: what a stale view of the cluster could cause is retryable.
    3. The namespace's rule bounds zone, key type and lifetime; what the pod chose only narrows
       them. A rule that was narrowed since shortens lifetimes; it ends no pod.
    4. The signer's annotations are refused: we know none.
    5. A pod's name may be anybody's host name, and clients that find no DNS name in a certificate
       compare the common name: it stands beside DNS names only.

Spec: certificates.k8s.io/v1 PodCertificateRequest: reasons of conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubetls_sdk.exceptions import SpiffeIdError
from kubetls_sdk.spiffe_id import SpiffeId
from webhook.choice import LIFETIME, ZONE, choose
from webhook.config import SHORTEST_LIFETIME
from webhook.exceptions import AdmissionDenied, IssuanceError
from webhook.issuance.common_name import common_name
from webhook.issuance.csr import INVALID_REQUEST
from webhook.issuance.grant import Grant
from webhook.issuance.public_key import UNSUPPORTED_KEY_TYPE
from webhook.issuance.service_names import vouched_names

if TYPE_CHECKING:
    from datetime import timedelta

    from webhook.api.objects import Pod
    from webhook.config import NamespaceRule, PlatformConfig, Zone
    from webhook.issuance.request import IssuanceRequest
    from webhook.issuance.service_names import ServiceIndex, VouchedNames

__all__ = (
    "INVALID_ANNOTATIONS",
    "LIFETIME_TOO_SHORT",
    "NOT_ALLOWED",
    "POD_MISMATCH",
    "POD_NOT_SEEN",
    "POD_TERMINAL",
    "Grant",
    "evaluate",
)

INVALID_ANNOTATIONS: Final = "InvalidUnverifiedUserAnnotations"
LIFETIME_TOO_SHORT: Final = "LifetimeTooShort"
NOT_ALLOWED: Final = "NotAllowedInNamespace"
POD_MISMATCH: Final = "PodMismatch"
POD_NOT_SEEN: Final = "PodNotSeen"
POD_TERMINAL: Final = "PodTerminal"


def evaluate(
    request: IssuanceRequest, *, pod: Pod | None, services: ServiceIndex, config: PlatformConfig
) -> Grant:
    """Decide what a request is granted.

    Args:
        request: With verified fields and a proven key.
        pod: The pod of that namespace and name as it is now; None when there is none (yet).
        services: Of the cluster, now.
        config: The platform's.

    Raises:
        IssuanceError: Retryable when the pod is not seen yet, or another one of its name is;
            otherwise final.
    """
    pod = _same_pod(request, pod)
    _check_state(pod)
    rule, zone = _check_zone(request, pod, config)
    _check_request(request, rule)
    vouched = vouched_names(
        pod, services, cluster_domain=config.cluster_domain, short_names=rule.short_names
    )
    # Pending is young: no container of it runs yet. The kubelet cannot be told to ask again before
    # the refresh point, so a pod whose Service comes after it asks soon.
    return Grant(
        zone=zone,
        spiffe_id=_spiffe_id(request, zone),
        common_name=common_name(request.pod_name) if vouched.names else None,
        dns_names=vouched.names,
        public_key=request.public_key,
        lifetime=_lifetime(request, pod, config, rule),
        refreshes_early=not vouched.services and pod.phase == "Pending",
        warnings=_warnings(vouched),
    )


def _same_pod(request: IssuanceRequest, pod: Pod | None) -> Pod:
    if pod is None:
        raise _not_yet(f"pod {request.pod_name!r} is not seen", POD_NOT_SEEN)
    if (pod.namespace, pod.name) != (request.namespace, request.pod_name):
        raise _denied("expected the pod that the request names, got another", POD_MISMATCH)
    if pod.uid != request.pod_uid:
        # A successor of the same name, or its predecessor in a view that is behind.
        raise _not_yet("expected the pod's UID, got one of another pod of its name", POD_MISMATCH)
    if not pod.node_name:
        raise _not_yet("the pod is not seen on a node", POD_NOT_SEEN)
    for what, expected, got in (
        ("node", pod.node_name, request.node_name),
        ("service account", pod.service_account, request.service_account),
    ):
        if expected != got:
            raise _denied(f"expected the pod's {what} {expected!r}, got {got!r}", POD_MISMATCH)
    return pod


def _check_state(pod: Pod) -> None:
    if pod.is_mirror:
        raise _denied("a mirror of a static pod has no identity", NOT_ALLOWED)
    if pod.is_terminating:
        raise _denied("the pod is terminating", POD_TERMINAL)
    if pod.has_ended:
        raise _denied(f"the pod has ended: {pod.phase}", POD_TERMINAL)


def _check_zone(
    request: IssuanceRequest, pod: Pod, config: PlatformConfig
) -> tuple[NamespaceRule, Zone]:
    rule = config.rule_for(request.namespace)
    zone = config.zone_of_signer(request.signer_name)
    if rule is None or zone is None or zone.name not in rule.zones:
        raise _denied(
            f"signer {request.signer_name!r} is not one of namespace {request.namespace!r}",
            NOT_ALLOWED,
        )
    if ZONE in pod.annotations:
        chosen = _chosen_zone(pod, config)
        if chosen != zone.name:
            raise _denied(
                f"expected the signer of the pod's zone {chosen!r}, got {request.signer_name!r}",
                NOT_ALLOWED,
            )
    return rule, zone


def _chosen_zone(pod: Pod, config: PlatformConfig) -> str:
    try:
        return choose(config, pod.namespace, {ZONE: pod.annotations[ZONE]}).zone.name
    except AdmissionDenied as err:
        raise _denied(str(err), NOT_ALLOWED) from err


def _check_request(request: IssuanceRequest, rule: NamespaceRule) -> None:
    if request.annotations:
        raise _denied("expected no annotations for the signer", INVALID_ANNOTATIONS)
    if request.key_type not in rule.key_types:
        allowed = ", ".join(rule.key_types)
        raise _denied(
            f"expected a key of {allowed} in namespace {request.namespace!r},"
            f" got {request.key_type}",
            UNSUPPORTED_KEY_TYPE,
        )


def _spiffe_id(request: IssuanceRequest, zone: Zone) -> SpiffeId:
    names = (request.namespace, request.service_account)
    if any("/" in name for name in names):
        raise _denied("expected names without '/'", INVALID_REQUEST)
    try:
        return SpiffeId(zone.trust_domain, "/ns/{}/sa/{}".format(*names))
    except SpiffeIdError as err:
        raise _denied(f"no SPIFFE ID: {err}", INVALID_REQUEST) from err


def _lifetime(
    request: IssuanceRequest, pod: Pod, config: PlatformConfig, rule: NamespaceRule
) -> timedelta:
    chosen = _chosen_lifetime(pod, config, rule)
    lifetime = min(request.requested_lifetime, rule.lifetime.maximum, chosen)
    if lifetime < SHORTEST_LIFETIME:
        raise _denied("expected a lifetime of at least 1h", LIFETIME_TOO_SHORT)
    return lifetime


def _chosen_lifetime(pod: Pod, config: PlatformConfig, rule: NamespaceRule) -> timedelta:
    if LIFETIME not in pod.annotations:
        return rule.lifetime.default
    try:
        return choose(config, pod.namespace, {LIFETIME: pod.annotations[LIFETIME]}).lifetime
    except AdmissionDenied:
        # It was admitted under an earlier rule: the pod lives on with what it may have now.
        return rule.lifetime.default


def _warnings(vouched: VouchedNames) -> tuple[str, ...]:
    if not vouched.left_out:
        return ()
    return (f"{vouched.left_out} DNS names of its Services are too long or too many: left out",)


def _denied(message: str, reason: str) -> IssuanceError:
    return IssuanceError(message, reason=reason)


def _not_yet(message: str, reason: str) -> IssuanceError:
    return IssuanceError(message, reason=reason, is_retryable=True)
