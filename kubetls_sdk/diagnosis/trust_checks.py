# SPDX-License-Identifier: Apache-2.0
"""Faults of the trust bundles, and of what they say about our own certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from kubetls_sdk._profile import MALFORMED, find_extension
from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.diagnosis.finding import Finding
from kubetls_sdk.diagnosis.name_text import subject_text
from kubetls_sdk.exceptions import PeerVerificationError, VolumeError
from kubetls_sdk.verification import verify_svid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.diagnosis.evidence import Evidence
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = (
    "check_authorities",
    "check_bundles",
    "check_issuer",
    "check_separation",
    "check_trust_domain",
)


def check_bundles(evidence: Evidence) -> Iterator[Finding]:
    """Are there bundles, and can they be used?"""
    volume = evidence.volume
    if volume is None:
        return
    if not any(role == "bundle" for role, _ in evidence.roles()):
        yield Finding.of("missing-bundle", "no bundle file is there", evidence.directory)
    for err in volume.misnamed:
        yield Finding.of("misnamed-bundle", err.message, str(err.path))
    for domain, bundle in volume.bundles.items():
        if isinstance(bundle, TrustBundle):
            if not bundle:
                yield _empty(evidence, domain)
        elif not isinstance(bundle, VolumeError):
            yield Finding.of("unusable-bundle", bundle.message, str(bundle.path))


def check_trust_domain(evidence: Evidence, expected: TrustDomain | None) -> Iterator[Finding]:
    """Is the certificate of the expected trust domain, and is that one's bundle here?"""
    own, volume = evidence.trust_domain, evidence.volume
    if own is None or volume is None or isinstance(evidence.content, VolumeError):
        return
    path = evidence.content.certificate.path
    if expected is not None and own != expected:
        found = f"expected a certificate of {str(expected)!r}, got one of {str(own)!r}"
        yield Finding.of("wrong-trust-domain", found, path)
    if volume.bundles and own not in volume.bundles:
        others = ", ".join(repr(str(domain)) for domain in volume.bundles)
        found = f"the certificate is of {str(own)!r}, the bundles of {others}"
        yield Finding.of("wrong-trust-domain", found, path)


def check_issuer(evidence: Evidence) -> Iterator[Finding]:
    """Does our own certificate chain to our own bundle, as every peer will ask?"""
    svid, bundles = evidence.svid, evidence.bundles
    if svid is None or isinstance(evidence.content, VolumeError):
        return
    own = svid.spiffe_id.trust_domain
    if not bundles.get(own):
        return  # Reported with the bundles.
    at = min(max(evidence.now, svid.not_before), svid.not_after)  # Expiry is reported on its own.
    try:
        verify_svid(svid.chain, bundles=bundles, now=at)
    except PeerVerificationError as err:
        signer = next((b.trust_domain for b in bundles.values() if _signed(b, evidence)), None)
        if signer is not None and signer != own:
            found = f"the certificate names {str(own)!r}, its issuer is one of {str(signer)!r}"
            yield Finding.of("wrong-trust-domain", found, evidence.content.certificate.path)
        else:
            found = f"{err.reason}; {_trust_age(evidence)}"
            yield Finding.of("untrusted-issuer", found, evidence.content.certificate.path)


def check_authorities(evidence: Evidence) -> Iterator[Finding]:
    """Is each authority valid, and does everybody's TLS stack take it?"""
    for domain, bundle in evidence.bundles.items():
        for authority in bundle.authorities:
            name = f"authority {subject_text(authority)!r} of {str(domain)!r}"
            if evidence.now > authority.not_valid_after_utc:
                end = f"{authority.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
                yield Finding.of("expired-authority", f"{name} was valid until {end}")
            lacks = _authority_lacks(authority)
            if lacks:
                yield Finding.of("lax-certificate", f"{name} lacks {' and '.join(lacks)}")
    if evidence.svid is not None:
        leaf = evidence.svid.leaf
        if not find_extension(leaf.extensions, x509.AuthorityKeyIdentifier):
            found = f"leaf {subject_text(leaf)!r} lacks an authority key identifier"
            yield Finding.of("lax-certificate", found)


def check_separation(evidence: Evidence) -> Iterator[Finding]:
    """Does an authority speak for one trust domain only?"""
    seen: dict[x509.Certificate, TrustDomain] = {}
    for domain, bundle in evidence.bundles.items():
        for authority in bundle.authorities:
            first = seen.setdefault(authority, domain)
            if first != domain:
                both = f"{str(first)!r} and {str(domain)!r}"
                found = f"authority {subject_text(authority)!r} is in the bundles of {both}"
                yield Finding.of("shared-authority", found)


def _empty(evidence: Evidence, domain: TrustDomain) -> Finding:
    own = evidence.trust_domain
    found = f"the bundle of {str(domain)!r} has no authority"
    files = [f.path for role, f in evidence.roles() if role == "bundle" and f.content == b""]
    path = next((p for p in files if f"/{domain}." in p), next(iter(files), None))
    is_partner = own is not None and domain != own  # Withdrawn trust in a partner is legal.
    return Finding.of("empty-bundle", found, path, severity="warning" if is_partner else None)


def _signed(bundle: TrustBundle, evidence: Evidence) -> bool:
    """Tell whether an authority of this bundle issued our chain, whatever its domain."""
    svid = evidence.svid
    if svid is None:
        return False
    renamed = TrustBundle(svid.spiffe_id.trust_domain, bundle.authorities)
    at = min(max(evidence.now, svid.not_before), svid.not_after)
    try:
        verify_svid(svid.chain, bundles=TrustBundleSet([renamed]), now=at)
    except PeerVerificationError:
        return False
    return True


def _trust_age(evidence: Evidence) -> str:
    paths = [file.path for role, file in evidence.roles() if role == "bundle"]
    changes = [when for path in paths if (when := evidence.files[path].modified_at)]
    if not changes:
        return "the age of the bundles is unknown"
    return f"the bundles were written at {max(changes):%Y-%m-%dT%H:%M:%SZ}"


def _authority_lacks(authority: x509.Certificate) -> list[str]:
    try:
        extensions = authority.extensions
        constraints = find_extension(extensions, x509.BasicConstraints)
        has_identifier = find_extension(extensions, x509.SubjectKeyIdentifier)
        usage = find_extension(extensions, x509.KeyUsage)
    except MALFORMED:
        return ["readable extensions"]
    asked = {
        "a subject key identifier": has_identifier is not None,
        "critical basicConstraints": constraints is not None and constraints.critical,
        "keyUsage with keyCertSign": usage is not None and usage.value.key_cert_sign,
    }
    return [what for what, is_there in asked.items() if not is_there]
