# SPDX-License-Identifier: Apache-2.0
"""The mounted volume: the contract between whoever issues credentials and the application.

Layouts are recognised by the files that are there, in this order of preference when a volume
holds several (pod certificates can write one key both ways):

=================  =======================================================  ===================
layout             our key and chain                                        our own bundle
=================  =======================================================  ===================
`spiffe`           `credential-bundle.pem`                                  (named bundles only)
`kubernetes-tls`   `tls.key`, `tls.crt`                                     `ca.crt`
`spiffe-helper`    `svid_key.pem`, `svid.pem`                               `svid_bundle.pem`
`explicit`         any paths, see `VolumeFiles`                             any path
=================  =======================================================  ===================

In each, `<trust-domain>.trust-bundle.pem` (or `.json`, `.jwks`: the content decides) is the bundle
of that trust domain.

Rules:
    1. One read gives one consistent result, or a `VolumeError` when the volume has vanished.
    2. SVID and trust are separate answers, since their failure rules differ.
    3. A bundle that is not in the result is *gone*; one that could not be used is an error in it.
    4. A named bundle of our own domain goes before `ca.crt` and `svid_bundle.pem`, which issuers
       fill with whatever they like. Two named ones of a domain must hold the same authorities.
    5. `ca.crt` belongs to the trust domain of the leaf beside it, and to no other.

Spec: SPIFFE filesystem delivery (draft); Kubernetes projected volumes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from kubetls_sdk import _pem
from kubetls_sdk._layout import LAYOUTS, Layout, bundle_file_name, default_directory
from kubetls_sdk._openssl import check_svid
from kubetls_sdk._profile import MALFORMED, claimed_spiffe_id
from kubetls_sdk._volume_content import VolumeContent, VolumeFile, VolumeFiles, read_volume
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import (
    BundleError,
    CredentialError,
    SpiffeIdError,
    SvidError,
    VolumeError,
)
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.svid import X509Svid

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "LAYOUTS",
    "Layout",
    "Volume",
    "VolumeContent",
    "VolumeFile",
    "VolumeFiles",
    "bundle_file_name",
    "default_directory",
    "parse_volume",
    "read_volume",
)


@dataclass(frozen=True, slots=True)
class Volume:
    """What one consistent read of a volume means.

    Attributes:
        directory: The directory that was read.
        layout: Name of the layout; None when no key and chain are there.
        svid: Our SVID (its time of validity unchecked), or why there is none.
        bundles: The trust bundle of each domain that has one, or why it cannot be used.
        misnamed: Bundle files whose name holds no trust domain; they count for nobody.
    """

    directory: str
    layout: str | None
    svid: X509Svid | CredentialError
    bundles: Mapping[TrustDomain, TrustBundle | CredentialError]
    misnamed: tuple[CredentialError, ...] = ()


def parse_volume(
    content: VolumeContent,
    *,
    trust_domain: TrustDomain | None = None,
    last_trust_domain: TrustDomain | None = None,
) -> Volume:
    """Parse what was read. Never raises: each part carries its own error.

    Args:
        content: The bytes of one read.
        trust_domain: Refuse an SVID of any other trust domain, when given.
        last_trust_domain: Whose bundle `ca.crt` is when the certificate beside it cannot be read.
    """
    svid = _svid(content)
    leaf_domain = _leaf_domain(content, svid)
    foreign = leaf_domain is not None and trust_domain not in (None, leaf_domain)
    if foreign and isinstance(svid, X509Svid):
        svid = _foreign(content.certificate, trust_domain, leaf_domain)
    bundles, misnamed = _named_bundles(content.bundles)
    own = trust_domain or leaf_domain or last_trust_domain
    if content.own_bundle is not None and own is not None and own not in bundles:
        bundles[own] = (
            _foreign(content.own_bundle, trust_domain, leaf_domain)
            if foreign
            else _bundle(own, (content.own_bundle,))
        )
    return Volume(content.directory, content.layout, svid, bundles, misnamed)


def _svid(content: VolumeContent) -> X509Svid | CredentialError:
    certificate, private_key = content.certificate, content.private_key
    if isinstance(certificate.content, VolumeError):
        return certificate.content
    if isinstance(private_key.content, VolumeError):
        return private_key.content
    place = certificate.path
    if private_key.path != place:
        place = f"{place} with {os.path.basename(private_key.path)}"
    try:
        svid = X509Svid.from_pem(certificates=certificate.content, private_key=private_key.content)
        check_svid(svid.private_key_pem() + svid.certificates_pem())
    except SvidError as err:
        return SvidError(err.message, path=place)
    return svid


def _leaf_domain(content: VolumeContent, svid: X509Svid | CredentialError) -> TrustDomain | None:
    """The trust domain that the certificate on disk claims, whether or not it can be used."""
    if isinstance(svid, X509Svid):
        return svid.spiffe_id.trust_domain
    text = content.certificate.content
    if isinstance(text, VolumeError):
        return None
    try:
        ders = [block.der for block in _pem.blocks(text) if block.label == "CERTIFICATE"]
        claimed = claimed_spiffe_id(x509.load_der_x509_certificate(ders[0])) if ders else None
    except MALFORMED:
        return None
    return claimed.trust_domain if claimed else None


def _foreign(
    file: VolumeFile, expected: TrustDomain | None, got: TrustDomain | None
) -> CredentialError:
    message = f"expected an SVID of {str(expected)!r} in this volume, got one of {str(got)!r}"
    return SvidError(message, path=file.path)


def _named_bundles(
    named: Mapping[str, tuple[VolumeFile, ...]],
) -> tuple[dict[TrustDomain, TrustBundle | CredentialError], tuple[CredentialError, ...]]:
    bundles: dict[TrustDomain, TrustBundle | CredentialError] = {}
    misnamed: list[CredentialError] = []
    for name, files in named.items():
        try:
            domain = TrustDomain.parse(name)
        except SpiffeIdError as err:
            misnamed += [BundleError(f"name of the bundle: {err}", path=f.path) for f in files]
        else:
            bundles[domain] = _bundle(domain, files)
    return bundles, tuple(misnamed)


def _bundle(domain: TrustDomain, files: tuple[VolumeFile, ...]) -> TrustBundle | CredentialError:
    parsed: list[TrustBundle] = []
    for file in files:
        if isinstance(file.content, VolumeError):
            return file.content
        try:
            parsed.append(TrustBundle.parse(domain, file.content))
        except BundleError as err:
            return BundleError(err.message, path=file.path)
    if any(other.authorities != parsed[0].authorities for other in parsed[1:]):
        names = " and ".join(os.path.basename(file.path) for file in files)
        message = f"expected the same authorities in {names}, got different ones"
        return BundleError(message, path=files[0].path)
    return parsed[0]
