# SPDX-License-Identifier: Apache-2.0
"""Faults of the certificate and of its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kubetls_sdk import _pem
from kubetls_sdk._profile import (
    MALFORMED,
    ProfileViolation,
    claimed_spiffe_id,
    find_extension,
    leaf_spiffe_id,
)
from kubetls_sdk.diagnosis.finding import Finding
from kubetls_sdk.exceptions import VolumeError
from kubetls_sdk.svid import X509Svid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk.diagnosis.evidence import Evidence

__all__ = ("check_svid", "check_validity")

_LATE = 0.2  # Of the lifetime; whoever renews does so at a half or two thirds.


def check_svid(evidence: Evidence) -> Iterator[Finding]:
    """Do key and certificate make an X.509-SVID?"""
    content, volume = evidence.content, evidence.volume
    if volume is None or isinstance(content, VolumeError) or isinstance(volume.svid, X509Svid):
        return
    certificate, private_key = content.certificate.content, content.private_key.content
    if isinstance(certificate, VolumeError):
        return  # Reported with the files.
    path, found = content.certificate.path, volume.svid.message
    if not evidence.chain:
        yield Finding.of("malformed-certificate", found, path)
        return
    violation = _profile_finding(evidence.chain[0], path)
    if violation is not None:
        yield violation
    if isinstance(private_key, VolumeError):
        return
    key_fault = _key_fault(private_key, evidence.chain[0])
    if key_fault is not None:
        found = _KEY_FOUND[key_fault] if violation else found
        yield Finding.of(key_fault, found, content.private_key.path)
    elif violation is None:
        yield Finding.of("malformed-certificate", found, path)


def check_validity(evidence: Evidence) -> Iterator[Finding]:
    """Is the certificate valid now, and for long enough?"""
    if not evidence.chain or isinstance(evidence.content, VolumeError):
        return
    path, now = evidence.content.certificate.path, evidence.now
    start = max(each.not_valid_before_utc for each in evidence.chain)
    end = min(each.not_valid_after_utc for each in evidence.chain)
    clock = f"the clock says {now:%Y-%m-%dT%H:%M:%SZ}"
    if now < start:
        found = f"the certificate is valid from {start:%Y-%m-%dT%H:%M:%SZ}; {clock}"
        yield Finding.of("clock-skew", found, path)
    elif now > end:
        found = f"the certificate was valid until {end:%Y-%m-%dT%H:%M:%SZ}; {clock}"
        yield Finding.of("expired", found, path)
    elif end - now < (end - start) * _LATE:
        found = f"valid until {end:%Y-%m-%dT%H:%M:%SZ}, less than a fifth of its lifetime; {clock}"
        yield Finding.of("near-expiry", found, path)


_KEY_FOUND = {
    "unusable-key": "no usable private key is in the file",
    "key-mismatch": "expected the private key of the leaf certificate, got another key",
}


def _profile_finding(leaf: x509.Certificate, path: str) -> Finding | None:
    try:
        leaf_spiffe_id(leaf)
    except ProfileViolation as err:
        name = "not-an-svid" if claimed_spiffe_id(leaf) else "no-spiffe-id"
        return Finding.of(name, f"{err}{_dns_names(leaf)}", path)
    return None


def _dns_names(leaf: x509.Certificate) -> str:
    """The DNS names, for whoever mounted an ordinary certificate."""
    try:
        names = find_extension(leaf.extensions, x509.SubjectAlternativeName)
        found = names.value.get_values_for_type(x509.DNSName) if names else []
    except MALFORMED:
        found = []
    return f"; its DNS names are {found!r}" if found else ""


def _key_fault(text: bytes, leaf: x509.Certificate) -> str | None:
    try:
        keys = [b for b in _pem.blocks(text) if b.label.endswith("PRIVATE KEY")]
        (block,) = keys
        key = load_pem_private_key(_pem.encode(block.label, block.der), password=None)
        mine, theirs = key.public_key(), leaf.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "unusable-key"
    return None if mine == theirs else "key-mismatch"
