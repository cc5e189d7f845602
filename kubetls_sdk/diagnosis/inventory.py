# SPDX-License-Identifier: Apache-2.0
"""What is mounted, as one JSON document of a stable shape.

Rules:
    1. Keys are only ever added; `format` grows when one changes its meaning.
    2. Times are UTC in ISO 8601, lengths of time are seconds, fingerprints SHA-256 of the DER.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from kubetls_sdk._profile import claimed_spiffe_id
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.diagnosis.name_text import issuer_text, subject_text
from kubetls_sdk.exceptions import VolumeError
from kubetls_sdk.svid import X509Svid

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from kubetls_sdk.diagnosis.evidence import Evidence
    from kubetls_sdk.exceptions import CredentialError
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("FORMAT", "describe")

FORMAT = 1

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def describe(evidence: Evidence) -> dict[str, Any]:
    """Describe a volume; holds no private key.

    `usable` tells whether the SVID is valid now and our own trust domain has an authority.
    """
    content, volume = evidence.content, evidence.volume
    return {
        "format": FORMAT,
        "directory": evidence.directory,
        "layout": None if isinstance(content, VolumeError) else content.layout,
        "generation": evidence.generation,
        "usable": _is_usable(evidence),
        "spiffe_id": _claimed(evidence),
        "svid": _svid(evidence),
        "bundles": [
            _bundle(domain, bundle, evidence)
            for domain, bundle in (volume.bundles.items() if volume else ())
        ],
        "files": [_file(evidence, role, file.path) for role, file in evidence.roles()],
        "errors": [{"path": str(e.path), "message": e.message} for e in _errors(evidence)],
    }


def _is_usable(evidence: Evidence) -> bool:
    svid = evidence.svid
    if svid is None or not svid.is_valid_at(evidence.now):
        return False
    return bool(evidence.bundles.get(svid.spiffe_id.trust_domain))


def _claimed(evidence: Evidence) -> str | None:
    claimed = claimed_spiffe_id(evidence.chain[0]) if evidence.chain else None
    return str(claimed) if claimed else None


def _svid(evidence: Evidence) -> dict[str, Any] | None:
    svid = evidence.svid
    if svid is None:
        return None
    return {
        "spiffe_id": str(svid.spiffe_id),
        "trust_domain": str(svid.spiffe_id.trust_domain),
        "dns_names": list(svid.dns_names),
        "key_type": _key_type(svid.leaf.public_key()),
        "not_before": _time(svid.not_before),
        "not_after": _time(svid.not_after),
        "seconds_remaining": int((svid.not_after - evidence.now).total_seconds()),
        "is_valid": svid.is_valid_at(evidence.now),
        "chain": [_certificate(each, evidence.now) for each in svid.chain],
    }


def _bundle(
    domain: TrustDomain, bundle: TrustBundle | CredentialError, evidence: Evidence
) -> dict[str, Any]:
    usable = bundle if isinstance(bundle, TrustBundle) else None
    return {
        "trust_domain": str(domain),
        "is_own": domain == evidence.trust_domain,
        "is_usable": usable is not None,
        "sequence": usable.sequence if usable else None,
        "refresh_hint": usable.refresh_hint if usable else None,
        "authorities": [
            _certificate(each, evidence.now) for each in (usable.authorities if usable else ())
        ],
    }


def _certificate(certificate: x509.Certificate, now: datetime) -> dict[str, Any]:
    end = certificate.not_valid_after_utc
    return {
        "subject": subject_text(certificate),
        "issuer": issuer_text(certificate),
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(SHA256()).hex(),
        "not_before": _time(certificate.not_valid_before_utc),
        "not_after": _time(end),
        "seconds_remaining": int((end - now).total_seconds()),
    }


def _file(evidence: Evidence, role: str, path: str) -> dict[str, Any]:
    facts = evidence.files[path]
    return {
        "name": os.path.basename(path),
        "role": role,
        "bytes": facts.size,
        "modified_at": _time(facts.modified_at) if facts.modified_at else None,
        "is_linked": facts.is_linked,
    }


def _errors(evidence: Evidence) -> list[CredentialError]:
    content, volume = evidence.content, evidence.volume
    if isinstance(content, VolumeError):
        return [content]
    if volume is None:
        return []
    found = [] if isinstance(volume.svid, X509Svid) else [volume.svid]
    found += [b for b in volume.bundles.values() if not isinstance(b, TrustBundle)]
    return [*found, *volume.misnamed]


def _key_type(key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {_CURVES.get(key.curve.name, key.curve.name)}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else type(key).__name__


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
