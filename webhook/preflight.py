# SPDX-License-Identifier: Apache-2.0
"""What a cluster lacks for KubeTLS, before and after the installation.

Rules:
    1. It reads only, and says one thing a line; nothing secret is read.
    2. What cannot be found out, for want of a right, is a warning that names the right.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from webhook.api.client import ForbiddenError, NotFoundError
from webhook.api.discovery import first_served
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CLUSTER_TRUST_BUNDLES_V1BETA1,
    MUTATING_WEBHOOK_CONFIGURATIONS,
    NODES,
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
    SELF_SUBJECT_ACCESS_REVIEWS,
)
from webhook.config import Mode
from webhook.csi_findings import csi_findings
from webhook.finding import Finding, Verdict
from webhook.names import CSI_DRIVER, INJECTOR, PARTNER_SIGNER_NAME
from webhook.node_version import OLDEST_KUBELET, old_nodes
from webhook.zones.cluster_state import read_bundles
from webhook.zones.design import design_warnings, reach_findings
from webhook.zones.drift import bundle_findings
from webhook.zones.graph import Graph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from webhook.api.client import Api
    from webhook.config import PlatformConfig

__all__ = ("Finding", "Verdict", "preflight")

OLDEST_SERVER: Final = (1, 30)
_CERTIFICATES = "certificates.k8s.io"
_STORAGE = "storage.k8s.io"


class _Right(NamedTuple):
    verb: str
    group: str
    resource: str
    name: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        where = f"{resource}.{self.group}" if self.group else resource
        return f"{self.verb} {where}{f' {self.name!r}' if self.name else ''}"


async def preflight(api: Api, config: PlatformConfig) -> list[Finding]:
    """Look at everything, as the account that runs it.

    Raises:
        ApiError: The API server did not answer.
    """
    checks = (
        *(_server, _pod_certificates, _nodes, csi_findings),
        *(_rights, _injector, _bundles, _zones),
    )
    return [finding for check in checks async for finding in check(api, config)]


async def _server(api: Api, _config: PlatformConfig) -> AsyncIterator[Finding]:
    found = await api.version()
    text = f"Kubernetes {_text(found)}"
    if found < OLDEST_SERVER:
        yield _failure("API server", f"expected Kubernetes {_text(OLDEST_SERVER)} or newer: {text}")
    else:
        yield _ok("API server", text)


async def _pod_certificates(api: Api, config: PlatformConfig) -> AsyncIterator[Finding]:
    served = {
        "PodCertificateRequests": (POD_CERTIFICATE_REQUESTS, POD_CERTIFICATE_REQUESTS_V1BETA1),
        "ClusterTrustBundles": (CLUSTER_TRUST_BUNDLES, CLUSTER_TRUST_BUNDLES_V1BETA1),
    }
    needed = any(rule.modes == (Mode.POD_CERTIFICATE,) for rule in config.rules)
    for kind, versions in served.items():
        resource = await first_served(api, *versions)
        if resource is not None and resource.version == "v1":
            yield _ok(kind, "served as v1")
        elif resource is not None:
            yield _warning(kind, f"served as {resource.version} only, behind feature gates")
        elif needed:
            yield _failure(
                kind,
                "not served, and there are namespaces with the mode pod-certificate only:"
                " upgrade to Kubernetes 1.37, or list the mode csi or secret for them",
            )
        else:
            yield _warning(kind, "not served: pods get another mode of their rule")


async def _nodes(api: Api, _config: PlatformConfig) -> AsyncIterator[Finding]:
    try:
        nodes = (await api.list(NODES)).items
    except ForbiddenError:
        yield _warning("nodes", "not looked at: expected the right to list nodes")
        return
    old = old_nodes(nodes)
    if old:
        yield _warning(
            "nodes",
            f"older than {_text(OLDEST_KUBELET)}, so that no pod gets pod certificates:"
            f" {', '.join(old)}",
        )
    else:
        yield _ok("nodes", f"{len(nodes)}, all new enough for pod certificates")


async def _rights(api: Api, config: PlatformConfig) -> AsyncIterator[Finding]:
    missing = [str(right) for right in _wanted(config) if not await _may(api, right)]
    if missing:
        yield _failure("rights of the signer", f"missing here: {'; '.join(missing)}")
    else:
        yield _ok("rights of the signer", "complete")


def _wanted(config: PlatformConfig) -> list[_Right]:
    reads = [("", "pods"), ("", "services"), ("", "nodes")]
    reads += [
        (_CERTIFICATES, f"{kind}requests") for kind in ("podcertificate", "certificatesigning")
    ]
    reads.append((_STORAGE, "csinodes"))
    rights = [_Right("watch", group, resource) for group, resource in reads]
    rights += [
        _Right("get", _STORAGE, "csidrivers", CSI_DRIVER),
        _Right("update", _CERTIFICATES, "podcertificaterequests", subresource="status"),
        _Right("update", _CERTIFICATES, "certificatesigningrequests", subresource="approval"),
        _Right("update", _CERTIFICATES, "certificatesigningrequests", subresource="status"),
        _Right("create", _CERTIFICATES, "clustertrustbundles"),
        _Right("attest", _CERTIFICATES, "signers", PARTNER_SIGNER_NAME),
    ]
    for zone in config.zones.values():
        verbs = ("sign", "approve", "attest")
        rights += [_Right(verb, _CERTIFICATES, "signers", zone.signer_name) for verb in verbs]
        if zone.external_signer:
            rights.append(_Right("approve", _CERTIFICATES, "signers", zone.external_signer))
    return rights


async def _may(api: Api, right: _Right) -> bool:
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": right.resource,
        "subresource": right.subresource,
        "name": right.name,
    }
    review = {"spec": {"resourceAttributes": attributes}}
    answer = await api.create(SELF_SUBJECT_ACCESS_REVIEWS, review)
    return bool(answer["status"].get("allowed"))


async def _injector(api: Api, _config: PlatformConfig) -> AsyncIterator[Finding]:
    found = await _read("injector", lambda: api.get(MUTATING_WEBHOOK_CONFIGURATIONS, INJECTOR))
    if isinstance(found, Finding):
        yield found
    elif all(hook.get("clientConfig", {}).get("caBundle") for hook in found.get("webhooks", ())):
        yield _ok("injector", "registered, with the authority of its serving certificate")
    else:
        yield _failure("injector", "registered without caBundle: does the signer run?")


async def _bundles(api: Api, config: PlatformConfig) -> AsyncIterator[Finding]:
    try:
        bundles = await read_bundles(api)
    except ForbiddenError as err:
        yield _warning("trust bundles", f"not looked at: {err}")
        return
    for finding in bundle_findings(config, bundles or (), now=datetime.now(UTC)):
        if bundles is not None:
            yield finding


async def _zones(_api: Api, config: PlatformConfig) -> AsyncIterator[Finding]:
    graph = Graph.of(config)
    for finding in (*reach_findings(graph), *design_warnings(graph)):
        yield finding


async def _read(
    subject: str, read: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any] | Finding:
    try:
        return await read()
    except NotFoundError:
        return _warning(subject, "not there yet")
    except ForbiddenError as err:
        return _warning(subject, f"not looked at: {err}")


def _ok(subject: str, message: str) -> Finding:
    return Finding(Verdict.OK, subject, message)


def _warning(subject: str, message: str) -> Finding:
    return Finding(Verdict.WARNING, subject, message)


def _failure(subject: str, message: str) -> Finding:
    return Finding(Verdict.FAILURE, subject, message)


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
