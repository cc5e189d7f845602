# SPDX-License-Identifier: Apache-2.0
"""What the cluster can do, as the signer's leader found out; decides the delivery mode of a pod.

The injector has no rights at the API server: it reads this from a mounted ConfigMap.

Rules:
    1. Without the document, a cluster that has everything is assumed: pods wait for their
       volume rather than start without one.
    2. While one node is too old for pod certificates, that mode is never chosen: its pods would
       start there without credentials.
    3. A node without our CSI driver makes its pods wait, and starts none without credentials. So
       another mode is preferred to `csi` then, but nothing is refused for it.
    4. Unknown fields are ignored: the one who writes may be newer than the one who reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetls_sdk.exceptions import ConfigurationError
from webhook.choice import TRUST_STORE
from webhook.config import Mode, TrustStore
from webhook.exceptions import AdmissionDenied
from webhook.names import CSI_DRIVER

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
        csi_driver: Whether our CSI driver is registered with the cluster.
        nodes_without_driver: Names of the nodes on which it has been missing for some time.
    """

    pod_certificates: str | None = "v1"
    cluster_trust_bundles: str | None = "v1"
    old_nodes: tuple[str, ...] = ()
    csi_driver: bool = True
    nodes_without_driver: tuple[str, ...] = ()

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
            _flag(document, "csiDriver"),
            _names(document, "nodesWithoutDriver"),
        )

    def to_json(self) -> str:
        """Write the document, the same text for the same capabilities."""
        document = {
            "podCertificates": self.pod_certificates,
            "clusterTrustBundles": self.cluster_trust_bundles,
            "oldNodes": sorted(self.old_nodes),
            "csiDriver": self.csi_driver,
            "nodesWithoutDriver": sorted(self.nodes_without_driver),
        }
        return json.dumps(document, indent=1) + "\n"

    def mode_of(self, choice: Choice) -> Mode:
        """Decide how key, certificate and trust bundle reach a pod.

        Raises:
            AdmissionDenied: The cluster has none of the modes that the pod may have.
        """
        reasons = {mode: self._obstacle(mode, choice) for mode in choice.modes}
        possible = [mode for mode, reason in reasons.items() if reason is None]
        if not possible:
            raise AdmissionDenied(
                "; ".join(f"mode {mode.value}: {reason}" for mode, reason in reasons.items())
            )
        return next((mode for mode in possible if not self.may_wait(mode)), possible[0])

    def may_wait(self, mode: Mode) -> bool:
        """Tell whether there are nodes on which a pod of this mode would wait."""
        return mode is Mode.CSI and bool(self.nodes_without_driver)

    def _obstacle(self, mode: Mode, choice: Choice) -> str | None:
        """Why a pod cannot have a mode."""
        if mode is Mode.SECRET:
            return None
        if choice.zone.external_signer is not None:
            return f"zone {choice.zone.name!r} has an external signer, which cannot issue them"
        return self._csi_obstacle(choice) if mode is Mode.CSI else self._certificate_obstacle()

    def _certificate_obstacle(self) -> str | None:
        if self.pod_certificates is None:
            return "the API server does not serve PodCertificateRequests"
        return self._projection_obstacle()

    def _csi_obstacle(self, choice: Choice) -> str | None:
        if not self.csi_driver:
            return f"CSI driver {CSI_DRIVER} is not installed"
        # The driver's volume has the key in it, so the trust store is a projected one here too.
        reason = self._projection_obstacle() if choice.trust_store is TrustStore.INTERNAL else None
        return reason and f"{TRUST_STORE} '{TrustStore.INTERNAL}' is not possible there: {reason}"

    def _projection_obstacle(self) -> str | None:
        """Why the kubelets cannot give pods what they project."""
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


def _flag(document: dict[str, Any], name: str) -> bool:
    found = document.get(name, False)
    if not isinstance(found, bool):
        raise ConfigurationError(f"expected {name} to be true or false")
    return found


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
