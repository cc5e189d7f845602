# SPDX-License-Identifier: Apache-2.0
"""How a volume may be laid out: names of files and directories, and nothing else.

Rules:
    1. A layout is recognised by the files that are there; nobody configures it.
    2. A layout that is there in full goes before one that is there in part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = (
    "BUNDLE_SUFFIXES",
    "LAYOUTS",
    "Layout",
    "bundle_file_name",
    "default_directory",
    "expected_files",
    "is_known",
    "named_domain",
    "own_bundle_name",
    "recognise",
)

BUNDLE_SUFFIXES = (".trust-bundle.json", ".trust-bundle.jwks", ".trust-bundle.pem")
"""What follows the trust domain in the name of a bundle file."""

_VARIABLES = ("KUBETLS_DIR", "SPIFFE_CREDENTIAL_FOLDER")
_DIRECTORIES = (
    "/run/secrets/workload-spiffe-credentials",
    "/var/run/secrets/workload-spiffe-credentials",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of one way to lay out a volume.

    Attributes:
        name: What messages and `kubetls inspect` call it.
        certificate: File name of the chain, leaf first.
        private_key: File name of the key; the same as `certificate` when one file holds both.
        own_bundle: File name of the bundle of our own trust domain, or None.
    """

    name: str
    certificate: str
    private_key: str
    own_bundle: str | None = None


LAYOUTS = (
    Layout("spiffe", "credential-bundle.pem", "credential-bundle.pem"),
    Layout("kubernetes-tls", "tls.crt", "tls.key", "ca.crt"),
    Layout("spiffe-helper", "svid.pem", "svid_key.pem", "svid_bundle.pem"),
)
"""The layouts that are recognised, most preferred first."""

_KNOWN_NAMES = frozenset(
    name for each in LAYOUTS for name in (each.certificate, each.private_key, each.own_bundle)
)


def default_directory(environment: Mapping[str, str] | None = None) -> str:
    """The directory to use when none is given.

    `$KUBETLS_DIR`, `$SPIFFE_CREDENTIAL_FOLDER`, else whichever of
    `/run/secrets/workload-spiffe-credentials` and the same under `/var` exists.
    """
    variables = os.environ if environment is None else environment
    for name in _VARIABLES:
        if variables.get(name):
            return os.path.abspath(variables[name])
    return next(filter(os.path.isdir, _DIRECTORIES), _DIRECTORIES[0])


def bundle_file_name(trust_domain: TrustDomain) -> str:
    """The name of the PEM file that holds the bundle of a trust domain."""
    return f"{trust_domain}.trust-bundle.pem"


def named_domain(file_name: str) -> str | None:
    """What a bundle's file name calls its trust domain, valid or not; None for other files."""
    for suffix in BUNDLE_SUFFIXES:
        if file_name.endswith(suffix):
            return file_name.removesuffix(suffix)
    return None


def is_known(file_name: str) -> bool:
    """Tell whether a file of this name means anything in any layout."""
    return file_name in _KNOWN_NAMES or named_domain(file_name) is not None


def recognise(file_names: Iterable[str]) -> Layout | None:
    """The layout of a volume with these files, or None when no key and no chain is among them."""
    there = set(file_names)
    needed = [(each, {each.certificate, each.private_key}) for each in LAYOUTS]
    whole = [each for each, names in needed if names <= there]
    part = [each for each, names in needed if names & there]
    return next(iter(whole + part), None)


def own_bundle_name(file_names: Iterable[str]) -> str | None:
    """The file with the bundle of our own trust domain, when it goes by no domain's name."""
    there = set(file_names)
    layout = recognise(there)
    candidates = LAYOUTS if layout is None else (layout,)
    return next((each.own_bundle for each in candidates if each.own_bundle in there), None)


def expected_files() -> str:
    """The keys and chains of all layouts, for a message about a volume without any."""
    pairs = (dict.fromkeys((each.private_key, each.certificate)) for each in LAYOUTS)
    return ", or ".join(" and ".join(map(repr, pair)) for pair in pairs)
