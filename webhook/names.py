# SPDX-License-Identifier: Apache-2.0
"""The names that the control plane's parts, its manifests and pods share.

Spec: SPIFFE filesystem delivery (draft) for the folder and the files in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = (
    "CAPABILITIES_KEY",
    "CAPABILITIES_MAP",
    "CA_SECRET_TYPE",
    "CONFIGURATION_KEY",
    "CONFIGURATION_MAP",
    "CREDENTIAL_BUNDLE",
    "CSI_DRIVER",
    "DEFAULT_MOUNT_PATH",
    "DEFAULT_SIGNER_NAME",
    "INJECTOR",
    "NODE_LABEL",
    "PARTNER_LABEL",
    "PARTNER_SIGNER_NAME",
    "PREFIX",
    "SERVING_SECRET",
    "SYSTEM_NAMESPACE",
    "TRUST_DOMAIN_LABEL",
    "TRUST_STORE_PLACES",
    "TRUST_STORE_VOLUME",
    "VOLUME",
    "WORKLOAD_SECRET_TYPE",
    "annotation",
    "bundle_file",
    "bundle_name",
    "ca_secret",
    "partner_bundle_name",
)

PREFIX: Final = "kubetls.gauntletwizard.net"
SYSTEM_NAMESPACE: Final = "kubetls-system"
DEFAULT_SIGNER_NAME: Final = f"{PREFIX}/workload"
PARTNER_SIGNER_NAME: Final = f"{PREFIX}/partner"
CSI_DRIVER: Final = f"csi.{PREFIX}"

VOLUME: Final = "kubetls"
TRUST_STORE_VOLUME: Final = f"{VOLUME}-trust-store"
DEFAULT_MOUNT_PATH: Final = "/run/secrets/workload-spiffe-credentials"
TRUST_STORE_PLACES: Final = ("/etc/ssl/certs", "/etc/pki/ca-trust/extracted/pem")
CREDENTIAL_BUNDLE: Final = "credential-bundle.pem"

CONFIGURATION_MAP: Final = "kubetls-config"
CONFIGURATION_KEY: Final = "platform.yaml"
CAPABILITIES_MAP: Final = "kubetls-capabilities"
CAPABILITIES_KEY: Final = "capabilities.json"
INJECTOR: Final = "kubetls-injector"
SERVING_SECRET: Final = "kubetls-webhook-tls"  # noqa: S105 - the name of a Secret, not a secret
WORKLOAD_SECRET_TYPE: Final = f"{PREFIX}/workload"
CA_SECRET_TYPE: Final = f"{PREFIX}/ca-pool"

TRUST_DOMAIN_LABEL: Final = f"{PREFIX}/trust-domain"
PARTNER_LABEL: Final = f"{PREFIX}/partner"
NODE_LABEL: Final = f"{PREFIX}/node"


def annotation(name: str) -> str:
    """Name one of our annotations or labels, such as `zone`."""
    return f"{PREFIX}/{name}"


def bundle_file(trust_domain: TrustDomain) -> str:
    """Name the file of a trust domain's bundle in the volume."""
    return f"{trust_domain}.trust-bundle.pem"


def bundle_name(signer_name: str, trust_domain: TrustDomain) -> str:
    """Name the ClusterTrustBundle of a zone's authorities."""
    return f"{signer_name.replace('/', ':')}:{trust_domain}"


def partner_bundle_name(partner: str) -> str:
    """Name the ClusterTrustBundle of a partner."""
    return f"{PARTNER_SIGNER_NAME.replace('/', ':')}:{partner}"


def ca_secret(zone: str) -> str:
    """Name the Secret of a zone's CA pool."""
    return f"kubetls-ca-{zone}"
