# SPDX-License-Identifier: Apache-2.0
"""What the cluster can do, as the signer's leader found out; decides the delivery mode of a pod.

The injector has no rights at the API server: it reads this from a mounted ConfigMap.

Rules:
    1. Without the document, a cluster that has everything is assumed: pods wait for their
       volume rather than start without one.
    2. While one node is too old for pod certificates, that mode is never chosen: its pods would
       start there without credentials.
    3. Unknown fields are ignored: the one who writes may be newer than the one who reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetls_sdk.exceptions import ConfigurationError
from webhook.config import Mode
from webhook.exceptions import AdmissionDenied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webhook.choice import Choice

__all__ = ("Capabilities",)

_VERSIONS = ("v1", "v1beta1")
_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the cluster can do.

    Attributes:
        pod_certificates: Version of PodCertificateRequest that is served; None: none.
        cluster_trust_bundles: Version of ClusterTrustBundle that is served; None: none.
        old_nodes: Names of the nodes whose kubelet is too old for pod certificates.
    """

    pod_certificates: str | None = "v1"
    cluster_trust_bundles: str | None = "v1"
    old_nodes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Capabilities:
        """Read the JSON document.

        Raises:
            ConfigurationError: Not such a document.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as err:
            raise ConfigurationError(f"expected capabilities in JSON, got {err}") from None
        if not isinstance(document, dict):
            raise ConfigurationError("expected capabilities as a JSON object")
        return cls(
            _version(document, "podCertificates"),
            _version(document, "clusterTrustBundles"),
            _names(document, "oldNodes"),
        )

    def to_json(self) -> str:
        """Write the document, the same text for the same capabilities."""
        document = {
            "podCertificates": self.pod_certificates,
            "clusterTrustBundles": self.cluster_trust_bundles,
            "oldNodes": sorted(self.old_nodes),
        }
        return json.dumps(document, indent=1) + "\n"

    def mode_of(self, choice: Choice) -> Mode:
        """Decide how key, certificate and trust bundle reach a pod.

        Raises:
            AdmissionDenied: The cluster has none of the modes that the pod may have.
        """
        reasons = []
        for mode in choice.modes:
            reason = self._obstacle(choice) if mode is Mode.POD_CERTIFICATE else None
            if reason is None:
                return mode
            reasons.append(f"mode {mode.value}: {reason}")
        raise AdmissionDenied("; ".join(reasons))

    def _obstacle(self, choice: Choice) -> str | None:
        """Why pod certificates are not possible."""
        if choice.zone.external_signer is not None:
            return f"zone {choice.zone.name!r} has an external signer, which cannot issue them"
        if self.pod_certificates is None:
            return "the API server does not serve PodCertificateRequests"
        if self.cluster_trust_bundles is None:
            return "the API server does not serve ClusterTrustBundles"
        if self.old_nodes:
            return f"these nodes are too old for them: {_listed(self.old_nodes)}"
        return None


def _version(document: dict[str, Any], name: str) -> str | None:
    found = document.get(name)
    if found is not None and found not in _VERSIONS:
        raise ConfigurationError(f"expected {name} of v1, v1beta1 or null, got {found!r}")
    return None if found is None else str(found)


def _names(document: dict[str, Any], name: str) -> tuple[str, ...]:
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ConfigurationError(f"expected {name} to be a list of names")
    return tuple(found)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _MAX_LISTED
    shown = ", ".join(ordered[:_MAX_LISTED])
    return f"{shown} and {more} more" if more > 0 else shown
