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

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509

from kubetls_sdk import _pem
from kubetls_sdk._directory import DirectoryRead, read_directory
from kubetls_sdk._layout import (
    LAYOUTS,
    Layout,
    bundle_file_name,
    default_directory,
    expected_files,
    is_known,
    named_domain,
    own_bundle_name,
    recognise,
)
from kubetls_sdk._openssl import check_svid
from kubetls_sdk._profile import MALFORMED, claimed_spiffe_id
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

_Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """Explicit paths, for credentials that no recognised layout fits.

    Attributes:
        certificate: The chain, leaf first.
        private_key: The key; None when it is in the certificate's file.
        own_bundle: The bundle of our own trust domain, or None.
        bundles: Further bundles, by name of their trust domain.
    """

    certificate: _Path
    private_key: _Path | None = None
    own_bundle: _Path | None = None
    bundles: Mapping[str, _Path] = field(default_factory=dict)

    def paths(self) -> list[str]:
        """All paths, absolute, without duplicates."""
        given = (self.certificate, self.private_key, self.own_bundle, *self.bundles.values())
        return list(dict.fromkeys(os.path.abspath(path) for path in given if path is not None))

    def directories(self) -> list[str]:
        """The directories that hold them, absolute, without duplicates."""
        return list(dict.fromkeys(map(os.path.dirname, self.paths())))


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One file of a read; the content is kept out of the `repr`, for it may be a private key.

    Attributes:
        path: Absolute, through the visible name.
        content: What it held, or the error that kept it from being read.
    """

    path: str
    content: bytes | VolumeError = field(repr=False)


@dataclass(frozen=True, slots=True)
class VolumeContent:
    """The bytes of one consistent read, by role.

    Attributes:
        directory: The directory that was read, or that of the certificate.
        layout: Name of the layout; None when the key and chain of no layout are there.
        certificate: The chain.
        private_key: The key; the same file as `certificate` when one holds both.
        own_bundle: The bundle that goes by no domain's name, or None when there is no such file.
        bundles: The others that are there, by their domain as the file name or the caller wrote it.
    """

    directory: str
    layout: str | None
    certificate: VolumeFile
    private_key: VolumeFile
    own_bundle: VolumeFile | None
    bundles: Mapping[str, tuple[VolumeFile, ...]]

    def fingerprint(self) -> bytes:
        """A digest that is equal when, and only when, the content is."""
        digest = hashlib.sha256(repr((self.directory, self.layout)).encode())
        files = [self.certificate, self.private_key]
        files += [] if self.own_bundle is None else [self.own_bundle]
        files += [file for name in sorted(self.bundles) for file in self.bundles[name]]
        for file in files:
            is_read = isinstance(file.content, bytes)
            text = file.content if isinstance(file.content, bytes) else str(file.content).encode()
            digest.update(repr((file.path, is_read, len(text))).encode() + text)
        return digest.digest()


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


def read_volume(source: _Path | VolumeFiles | None = None) -> VolumeContent:
    """Read all files of a volume as they were at one moment; parses nothing.

    Args:
        source: A directory in a recognised layout, explicit paths, or None for
            `default_directory()`.

    Raises:
        VolumeError: The volume has vanished: no directory, or an entirely empty or unreadable one,
            or one whose `..data` link is missing. What it held before is then unknown, not removed.
    """
    if isinstance(source, VolumeFiles):
        return _read_explicit(source)
    return _read_laid_out(default_directory() if source is None else os.path.abspath(source))


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


def _read_laid_out(directory: str) -> VolumeContent:
    read = read_directory(directory, select=is_known)
    nothing = VolumeError(f"expected {expected_files()}; found {read.listing()}", path=read.path)
    if read.is_blank:
        raise nothing
    named: dict[str, tuple[VolumeFile, ...]] = {}
    for name in sorted(read.files):
        domain = named_domain(name)
        if domain is not None:
            named[domain] = (*named.get(domain, ()), _file(read, name))
    layout = recognise(read.files)
    own = own_bundle_name(read.files)
    return VolumeContent(
        directory=directory,
        layout=layout.name if layout else None,
        certificate=_file(read, layout.certificate) if layout else VolumeFile(directory, nothing),
        private_key=_file(read, layout.private_key) if layout else VolumeFile(directory, nothing),
        own_bundle=_file(read, own) if own else None,
        bundles=named,
    )


def _file(read: DirectoryRead, name: str) -> VolumeFile:
    content = read.files[name] if name in read.files else _missing(read, name)
    return VolumeFile(os.path.join(read.path, name), content)


def _missing(read: DirectoryRead, name: str) -> VolumeError:
    message = f"expected this file, got none; found {read.listing()}"
    return VolumeError(message, path=os.path.join(read.path, name))


def _read_explicit(files: VolumeFiles) -> VolumeContent:
    found, missing = _read_paths(files)
    if not found:
        raise next(iter(missing.values()))
    there = {**missing, **found}

    def role(path: _Path) -> VolumeFile:
        full = os.path.abspath(path)
        return VolumeFile(full, there[full])

    own = files.own_bundle
    certificate = role(files.certificate)
    return VolumeContent(
        directory=os.path.dirname(certificate.path),
        layout="explicit",
        certificate=certificate,
        private_key=certificate if files.private_key is None else role(files.private_key),
        own_bundle=role(own) if own is not None and os.path.abspath(own) in found else None,
        bundles={
            domain: (role(path),)
            for domain, path in files.bundles.items()
            if os.path.abspath(path) in found
        },
    )


def _read_paths(
    files: VolumeFiles,
) -> tuple[dict[str, bytes | VolumeError], dict[str, VolumeError]]:
    """Read explicit paths, each directory once: what is there, and what is gone from it.

    Raises:
        VolumeError: None of the directories can be read.
    """
    found: dict[str, bytes | VolumeError] = {}
    missing: dict[str, VolumeError] = {}
    vanished: list[VolumeError] = []
    for directory in files.directories():
        paths = [path for path in files.paths() if os.path.dirname(path) == directory]
        try:
            read = _read_named(directory, {os.path.basename(path) for path in paths})
        except VolumeError as err:
            vanished.append(err)
            found.update(dict.fromkeys(paths, err))
            continue
        for path in paths:
            name = os.path.basename(path)
            if name in read.files:
                found[path] = read.files[name]
            else:
                missing[path] = _missing(read, name)
    if len(vanished) == len(files.directories()):
        raise vanished[0]
    return found, missing


def _read_named(directory: str, names: set[str]) -> DirectoryRead:
    read = read_directory(directory, select=names.__contains__)
    if read.is_blank:
        raise VolumeError(f"expected {sorted(names)}, found nothing", path=directory)
    return read


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
