# SPDX-License-Identifier: Apache-2.0
"""A development CA on disk.

Rules:
    1. Keys are in files of mode 0600 in a directory of mode 0700, from the first byte on.
    2. The list of roots is replaced by a rename, last, so that a reader sees all of it or none.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing.authority import Authority
from kubetls_sdk.testing.root_pool import RootPool

__all__ = ("CA_FILE", "load", "replace_file", "save")

CA_FILE = "authority.json"


def save(directory: str | os.PathLike[str], trust_domain: TrustDomain, pool: RootPool) -> None:
    """Write the roots, then the list of them, then remove the files of retired roots.

    Raises:
        OSError: A file cannot be written.
    """
    place = Path(directory)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.chmod(0o700)
    names = [f"root-{root.certificate.serial_number:x}" for root in pool.roots]
    for name, root in zip(names, pool.roots, strict=True):
        _write_root(place, name, root)
    document = {"trust_domain": str(trust_domain), "roots": names, "active": pool.active}
    replace_file(place / CA_FILE, json.dumps(document, indent=2).encode() + b"\n")
    for file in place.glob("root-*"):
        if file.name.partition(".")[0] not in names:
            file.unlink()


def load(directory: str | os.PathLike[str]) -> tuple[TrustDomain, RootPool]:
    """Read what `save` wrote: the name and the roots.

    Raises:
        ConfigurationError: The directory holds no development CA, or a broken one.
    """
    file = Path(directory) / CA_FILE
    try:
        document = json.loads(file.read_bytes())
        roots = tuple(_read_root(file.parent, name) for name in document["roots"])
        return TrustDomain(document["trust_domain"]), RootPool(roots, document["active"])
    except FileNotFoundError as err:
        missing = Path(err.filename).name
        raise ConfigurationError(
            f"expected a development CA in {str(file.parent)!r}, but {missing!r} is missing"
        ) from None
    except (ValueError, KeyError, TypeError) as err:
        # The cause is left out: a parser's message may quote a key file.
        raise ConfigurationError(
            f"{file}: expected a development CA, got {type(err).__name__}"
        ) from None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file for its owner only; a reader sees the old content or the new, never a part."""
    following = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(following, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    following.replace(path)


def _write_root(place: Path, name: str, root: Authority) -> None:
    key = root.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_file(place / f"{name}.key.pem", key)
    replace_file(place / f"{name}.pem", root.certificate.public_bytes(Encoding.PEM))


def _read_root(place: Path, name: Any) -> Authority:
    if not isinstance(name, str) or Path(name).name != name:
        raise TypeError("expected a file name of a root")
    certificate = x509.load_pem_x509_certificate((place / f"{name}.pem").read_bytes())
    key = serialization.load_pem_private_key(
        (place / f"{name}.key.pem").read_bytes(), password=None
    )
    if not isinstance(
        key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    ):
        raise TypeError("expected a key of a root")
    if key.public_key() != certificate.public_key():
        raise ValueError("expected the key of the root")
    return Authority(certificate, key, is_root=True)
