# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects that the control plane speaks about, and where the API server serves them.

Rules:
    1. A name that would change the path (`""`, `.`, `..`, with `/` or `%`) is refused: a delete of
       `""` would be a delete of the whole collection.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote

from webhook.api.errors import InvalidError

__all__ = (
    "CERTIFICATE_SIGNING_REQUESTS",
    "CLUSTER_TRUST_BUNDLES",
    "CLUSTER_TRUST_BUNDLES_V1BETA1",
    "CONFIG_MAPS",
    "CSI_DRIVERS",
    "CSI_NODES",
    "DEPLOYMENTS",
    "EVENTS",
    "LEASES",
    "MUTATING_WEBHOOK_CONFIGURATIONS",
    "NAMESPACES",
    "NODES",
    "PODS",
    "POD_CERTIFICATE_REQUESTS",
    "POD_CERTIFICATE_REQUESTS_V1BETA1",
    "SECRETS",
    "SELF_SUBJECT_ACCESS_REVIEWS",
    "SERVICES",
    "SERVICE_ACCOUNTS",
    "Resource",
)


class Resource(NamedTuple):
    """One kind of object, in one version of its API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, as it stands in an object's apiVersion; the core group has no name."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path of the API that serves it, whose document lists the API's resources."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    def collection(self, namespace: str | None) -> str:
        """The path of all objects, or of a namespace's.

        Raises:
            InvalidError: The namespace is no name, or the kind has none.
        """
        if namespace is None:
            return f"{self.root}/{self.plural}"
        if not self.namespaced:
            raise InvalidError(f"{self.kind} is cluster scoped, got namespace {namespace!r}")
        return f"{self.root}/namespaces/{_segment(namespace)}/{self.plural}"

    def path(self, name: str, *, namespace: str | None, subresource: str | None = None) -> str:
        """The path of one object.

        Raises:
            InvalidError: A name is none, or the namespace is missing or too much.
        """
        if self.namespaced and namespace is None:
            raise InvalidError(f"expected the namespace of {self.kind} {name!r}")
        path = f"{self.collection(namespace)}/{_segment(name)}"
        return f"{path}/{_segment(subresource)}" if subresource else path


def _segment(name: str) -> str:
    """Quote a name as one segment of a path, or refuse it."""
    if not isinstance(name, str) or name in {"", ".", ".."} or "/" in name or "%" in name:
        raise InvalidError(f"expected the name of an object, got {name!r}")
    return quote(name, safe=":")


_ADMISSION = "admissionregistration.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_STORAGE = "storage.k8s.io"

PODS: Final = Resource("", "v1", "pods", "Pod")
SERVICES: Final = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")

CSI_DRIVERS: Final = Resource(_STORAGE, "v1", "csidrivers", "CSIDriver", namespaced=False)
CSI_NODES: Final = Resource(_STORAGE, "v1", "csinodes", "CSINode", namespaced=False)

POD_CERTIFICATE_REQUESTS: Final = Resource(
    _CERTIFICATES, "v1", "podcertificaterequests", "PodCertificateRequest"
)
POD_CERTIFICATE_REQUESTS_V1BETA1: Final = POD_CERTIFICATE_REQUESTS._replace(version="v1beta1")
CERTIFICATE_SIGNING_REQUESTS: Final = Resource(
    _CERTIFICATES,
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    namespaced=False,
)
CLUSTER_TRUST_BUNDLES: Final = Resource(
    _CERTIFICATES, "v1", "clustertrustbundles", "ClusterTrustBundle", namespaced=False
)
CLUSTER_TRUST_BUNDLES_V1BETA1: Final = CLUSTER_TRUST_BUNDLES._replace(version="v1beta1")

MUTATING_WEBHOOK_CONFIGURATIONS: Final = Resource(
    _ADMISSION,
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
SELF_SUBJECT_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
)
