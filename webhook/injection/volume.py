# SPDX-License-Identifier: Apache-2.0
"""The volume of a pod, for each delivery mode.

Rules:
    1. Every field that the API server would fill in is written, so that the volume in a stored pod
       is the one that was made.
    2. A volume of our name is ours only when it is exactly what would be added.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from webhook.choice import SECRET
from webhook.config import Mode
from webhook.names import (
    CREDENTIAL_BUNDLE,
    PARTNER_LABEL,
    PARTNER_SIGNER_NAME,
    TRUST_DOMAIN_LABEL,
    VOLUME,
    bundle_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.choice import Choice

__all__ = ("DEFAULT_MODE", "build_volume", "existing_secret", "secret_name")

DEFAULT_MODE: Final = 0o644
_SECRET = re.compile(r"kubetls-[0-9a-f]{20}", re.ASCII)


def secret_name(review_uid: str) -> str:
    """Name the Secret of a pod that has neither a name nor a UID yet."""
    return f"kubetls-{hashlib.sha256(review_uid.encode('ascii')).hexdigest()[:20]}"


def build_volume(choice: Choice, mode: Mode, *, secret: str) -> dict[str, Any]:
    """Make the volume.

    Args:
        choice: What the pod gets.
        mode: How.
        secret: Name of the Secret; only for that mode.
    """
    if mode is Mode.SECRET:
        source = {"secretName": secret, "defaultMode": DEFAULT_MODE}
        return {"name": VOLUME, "secret": source}
    sources = [_certificate(choice), _own_bundle(choice), *_partner_bundles(choice)]
    return {"name": VOLUME, "projected": {"sources": sources, "defaultMode": DEFAULT_MODE}}


def existing_secret(volume: Mapping[str, Any], annotations: Mapping[str, str]) -> str | None:
    """The name of the Secret of an earlier pass over the same pod; None: there was none."""
    source = volume.get("secret")
    name = source.get("secretName") if isinstance(source, dict) else None
    if not isinstance(name, str) or not _SECRET.fullmatch(name):
        return None
    return name if annotations.get(SECRET) == name else None


def _certificate(choice: Choice) -> dict[str, Any]:
    return {
        "podCertificate": {
            "signerName": choice.zone.signer_name,
            "keyType": choice.key_type.value,
            "maxExpirationSeconds": int(choice.lifetime.total_seconds()),
            "credentialBundlePath": CREDENTIAL_BUNDLE,
        }
    }


def _own_bundle(choice: Choice) -> dict[str, Any]:
    trust_domain = choice.zone.trust_domain
    return {
        "clusterTrustBundle": {
            "signerName": choice.zone.signer_name,
            "labelSelector": {"matchLabels": {TRUST_DOMAIN_LABEL: str(trust_domain)}},
            "path": bundle_file(trust_domain),
        }
    }


def _partner_bundles(choice: Choice) -> list[dict[str, Any]]:
    # By label, not by name: the kubelet of 1.37 notices that a bundle of a signer is gone at once
    # only where the volume selects by signer; by name it kept it for minutes.
    return [
        {
            "clusterTrustBundle": {
                "signerName": PARTNER_SIGNER_NAME,
                "labelSelector": {"matchLabels": {PARTNER_LABEL: partner.name}},
                "optional": True,
                "path": bundle_file(partner.trust_domain),
            }
        }
        for partner in choice.partners
    ]
