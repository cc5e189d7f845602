# SPDX-License-Identifier: Apache-2.0
"""The volumes of a pod, for each delivery mode.

Rules:
    1. Every field that the API server would fill in is written, so that the volume in a stored pod
       is the one that was made.
    2. A volume of one of our names is ours only when it is exactly what would be added.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from webhook.choice import SECRET
from webhook.config import Mode, TrustStore
from webhook.injection.trust_store import FILES
from webhook.names import (
    CREDENTIAL_BUNDLE,
    CSI_DRIVER,
    TRUST_DOMAIN_LABEL,
    TRUST_STORE_VOLUME,
    VOLUME,
    bundle_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.choice import Choice

__all__ = ("DEFAULT_MODE", "SECRET_BUNDLE", "build_volumes", "existing_secret", "secret_name")

DEFAULT_MODE: Final = 0o644
SECRET_BUNDLE: Final = "ca.crt"  # noqa: S105 - a name, not a secret
"""The key of the zone's bundle in a pod's Secret."""

_SECRET = re.compile(r"kubetls-[0-9a-f]{20}", re.ASCII)


def secret_name(review_uid: str) -> str:
    """Name the Secret of a pod that has neither a name nor a UID yet."""
    return f"kubetls-{hashlib.sha256(review_uid.encode('ascii')).hexdigest()[:20]}"


def build_volumes(choice: Choice, mode: Mode, *, secret: str) -> list[dict[str, Any]]:
    """Make the volumes: the one with the identity, and the trust store if the pod has one.

    Args:
        choice: What the pod gets.
        mode: How.
        secret: Name of the Secret; only for that mode.
    """
    if mode is Mode.SECRET:
        items = [{"key": SECRET_BUNDLE, "path": file} for file in FILES]
        identity = _of_secret(VOLUME, secret)
        store = _of_secret(TRUST_STORE_VOLUME, secret, items=items)
    else:
        identity = _of_driver() if mode is Mode.CSI else _of_pod_certificate(choice)
        store = _projected(TRUST_STORE_VOLUME, [_own_bundle(choice, file) for file in FILES])
    return [identity, store] if choice.trust_store is TrustStore.INTERNAL else [identity]


def existing_secret(volume: Mapping[str, Any], annotations: Mapping[str, str]) -> str | None:
    """The name of the Secret of an earlier pass over the same pod; None: there was none."""
    source = volume.get("secret")
    name = source.get("secretName") if isinstance(source, dict) else None
    if not isinstance(name, str) or not _SECRET.fullmatch(name):
        return None
    return name if annotations.get(SECRET) == name else None


def _of_secret(name: str, secret: str, **more: Any) -> dict[str, Any]:
    source = {"secretName": secret, "defaultMode": DEFAULT_MODE, **more}
    return {"name": name, "secret": source}


def _of_driver() -> dict[str, Any]:
    # No attributes: the driver reads what the pod chose from the pod itself, as the signer does.
    return {"name": VOLUME, "csi": {"driver": CSI_DRIVER, "readOnly": True}}


def _of_pod_certificate(choice: Choice) -> dict[str, Any]:
    own = _own_bundle(choice, bundle_file(choice.zone.trust_domain))
    return _projected(VOLUME, [_certificate(choice), own, *_partner_bundles(choice)])


def _projected(name: str, sources: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "projected": {"sources": sources, "defaultMode": DEFAULT_MODE}}


def _certificate(choice: Choice) -> dict[str, Any]:
    return {
        "podCertificate": {
            "signerName": choice.zone.signer_name,
            "keyType": choice.key_type.value,
            "maxExpirationSeconds": int(choice.lifetime.total_seconds()),
            "credentialBundlePath": CREDENTIAL_BUNDLE,
        }
    }


def _own_bundle(choice: Choice, file: str) -> dict[str, Any]:
    label = str(choice.zone.trust_domain)
    return {
        "clusterTrustBundle": {
            "signerName": choice.zone.signer_name,
            "labelSelector": {"matchLabels": {TRUST_DOMAIN_LABEL: label}},
            "path": file,
        }
    }


def _partner_bundles(choice: Choice) -> list[dict[str, Any]]:
    # By label, not by name: the kubelet of 1.37 notices that a bundle of a signer is gone at once
    # only where the volume selects by signer; by name it kept it for minutes.
    return [
        {
            "clusterTrustBundle": {
                "signerName": partner.signer_name,
                "labelSelector": {"matchLabels": partner.labels},
                "optional": True,
                "path": bundle_file(partner.trust_domain),
            }
        }
        for partner in choice.partners
    ]
