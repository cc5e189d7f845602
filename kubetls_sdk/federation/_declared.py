# SPDX-License-Identifier: Apache-2.0
"""What is declared about partners in files: the federation file and the bundle files that it names.

Rules:
    1. A federation file that is gone declares nobody, and a bundle file that is gone trusts nobody,
       at once. One that cannot be read or used is an error, and its owner keeps the last good one.
    2. A federation file is used when two reads agree, so that none is used half written.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from kubetls_sdk._directory import read_directory
from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError, ConfigurationError, VolumeError
from kubetls_sdk.federation.bundle_document import parse_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubetls_sdk.federation.partner import Partner

__all__ = ("directories_of", "read_bundle", "read_partners")

_SETTLE_SECONDS = 0.05
_ATTEMPTS = 20
_pause = threading.Event()


def read_partners(path: str, last: bytes | None) -> tuple[bytes | None, tuple[Partner, ...]]:
    """Read a federation file.

    Args:
        path: Its absolute path.
        last: The content that is in force, which needs no second look.

    Returns:
        The content, None when the file is gone, and the partners that it declares.

    Raises:
        ConfigurationError: The file cannot be read or is not a valid one.
    """
    from kubetls_sdk.federation.document import parse_federation  # needs a YAML parser

    content = _settled(path, last)
    if content is None:
        return None, ()
    try:
        return content, parse_federation(content.decode("utf-8"), file=path)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: expected UTF-8") from None


def read_bundle(partner: Partner) -> TrustBundle | BundleError | None:
    """Read the bundle file of a partner; None when it is gone."""
    if isinstance(partner.bundle, TrustBundle):
        return partner.bundle
    path = os.fspath(partner.bundle or "")
    try:
        content = _read(path)
        return None if content is None else parse_bundle(partner.trust_domain, content)
    except VolumeError as err:
        return BundleError(str(err))
    except BundleError as err:
        return BundleError(err.message, path=path)


def directories_of(file: str | None, partners: Iterable[Partner]) -> list[str]:
    """The directories to watch."""
    bundles = (each.bundle for each in partners)
    paths = [
        os.fspath(each)
        for each in bundles
        if each is not None and not isinstance(each, TrustBundle)
    ]
    return list(dict.fromkeys(map(os.path.dirname, [*([file] if file else []), *paths])))


def _settled(path: str, last: bytes | None) -> bytes | None:
    try:
        content = _read(path)
        for _ in range(_ATTEMPTS):
            if content == last:
                return content
            _pause.wait(_SETTLE_SECONDS)
            before, content = content, _read(path)
            if content == before:
                return content
    except VolumeError as err:
        raise ConfigurationError(str(err)) from err
    raise ConfigurationError(f"{path}: expected a file at rest, got changes all the time")


def _read(path: str) -> bytes | None:
    """The content of a file, None when its directory was read and does not have it.

    Raises:
        VolumeError: Neither can be told.
    """
    directory, name = os.path.split(path)
    found = read_directory(directory, select=lambda each: each == name).files.get(name)
    if isinstance(found, VolumeError):
        raise found
    return found
