# SPDX-License-Identifier: Apache-2.0
"""What OpenSSL makes of credentials that `cryptography` has read: the two parsers differ.

Rules:
    1. Asked when a credential is read, so that a certificate which only OpenSSL refuses spoils its
       own bundle or SVID, and never the settings that all connections share.
    2. Key and certificate reach OpenSSL without a file on disk where the platform allows it.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.exceptions import BundleError, SvidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cryptography import x509

__all__ = ("check_authorities", "check_svid", "load_authorities", "load_svid")


def check_authorities(authorities: Iterable[x509.Certificate]) -> None:
    """Have OpenSSL read authorities.

    Raises:
        BundleError: It does not take one of them.
    """
    load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), authorities)


def check_svid(pem: bytes) -> None:
    """Have OpenSSL read an SVID.

    Args:
        pem: Key and chain.

    Raises:
        SvidError: It does not take the key or a certificate.
    """
    load_svid(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem)


def load_authorities(context: ssl.SSLContext, authorities: Iterable[x509.Certificate]) -> None:
    """Trust authorities in a context.

    Raises:
        BundleError: OpenSSL does not take one of them.
    """
    roots = b"".join(authority.public_bytes(Encoding.DER) for authority in authorities)
    if not roots:  # without any, OpenSSL's empty store refuses everybody
        return
    try:
        context.load_verify_locations(cadata=roots)
    except ssl.SSLError as err:
        raise BundleError(f"OpenSSL does not take an authority: {_reason(err)}") from None


def load_svid(context: ssl.SSLContext, pem: bytes) -> None:
    """Present an SVID in a context.

    Args:
        context: That presents it.
        pem: Key and chain.

    Raises:
        SvidError: OpenSSL does not take the key or a certificate.
    """
    with _pem_path(pem) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as err:
            raise SvidError(f"OpenSSL does not take the certificate: {_reason(err)}") from None


def _reason(err: ssl.SSLError) -> str:
    return err.reason or "it cannot be read"


@contextmanager
def _pem_path(pem: bytes) -> Iterator[str]:
    """Give OpenSSL a path to read a secret from: memory on Linux, else a private file."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
        descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as directory:  # created with mode 0700
        path = Path(directory) / "svid.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        yield str(path)
