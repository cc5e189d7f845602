# SPDX-License-Identifier: Apache-2.0
"""What one channel of one generation needs besides its resources: key, certificates, bootstrap.

Rules:
    1. The private key is handed over in memory: an anonymous file that exists only as a descriptor
       of this process, and is not inherited by programs that it starts.
    2. The roots are those of one trust domain; none is written as a CA that has signed nothing,
       since gRPC skips an empty file.
    3. Nothing is read from or put into the environment, so a user's own xDS goes on beside it.
    4. The same roots are there as a SPIFFE bundle map, by which gRPC also requires that a server
       has one SPIFFE ID and no other. It reads that only where the environment says
       `GRPC_EXPERIMENTAL_XDS_MTLS_SPIFFE=true`.

Spec: gRFC A27, A29 (certificate providers), A87 (SPIFFE bundle maps); memfd_create(2).
"""

from __future__ import annotations

import base64
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk._nobody import nobody_pem
from kubetls_sdk.client.xds.resources import PROVIDER
from kubetls_sdk.exceptions import SvidError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubetls_sdk.source import Snapshot
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("BOOTSTRAP_OPTION", "Material", "bootstrap")

BOOTSTRAP_OPTION = "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config"
"""gives one channel a bootstrap of its own. Were it gone from gRPC, channels would not connect."""

_MFD_NOEXEC_SEAL = 0x8
_NEVER = "31536000s"  # A generation never changes; the next one is another channel.


class Material:
    """Key, chain and roots of a generation, as files in memory; close it after its channel.

    All channels of a generation to one trust domain share them: see `shared`.

    Args:
        snapshot: Ours.
        trust_domain: The server's; its bundle alone is trusted.

    Raises:
        SvidError: gRPC cannot use the SVID.
    """

    def __init__(self, snapshot: Snapshot, trust_domain: TrustDomain) -> None:
        self._key = (id(snapshot), str(trust_domain))
        self._snapshot = snapshot  # as long as it is here, no other one has its id
        self._users = 1
        svid = snapshot.svid
        if isinstance(svid.private_key, ed25519.Ed25519PrivateKey):
            raise SvidError("expected an EC or RSA key, got Ed25519, which gRPC cannot use")
        bundle = snapshot.bundles.get(trust_domain)
        authorities = bundle.authorities if bundle is not None else ()
        roots = bundle.to_pem() if bundle is not None else b""
        self._descriptors = [
            _in_memory(svid.private_key_pem() + svid.certificates_pem()),
            _in_memory(roots or nobody_pem()),
            _in_memory(_bundle_map(trust_domain, authorities)),
        ]

    @classmethod
    def shared(cls, snapshot: Snapshot, trust_domain: TrustDomain) -> Material:
        """Those that another channel has made already, or new ones; each user closes them once.

        Raises:
            SvidError: gRPC cannot use the SVID.
        """
        key = (id(snapshot), str(trust_domain))
        with _sharing:
            found = _shared.get(key)
            if found is not None:
                found._users += 1  # noqa: SLF001 - one of ours
                if found._descriptors:  # noqa: SLF001 - else it was just collected
                    return found
            made = _shared[key] = cls(snapshot, trust_domain)
            return made

    @property
    def paths(self) -> tuple[str, str, str]:
        """Of the key with its chain, of the roots, and of the roots as a bundle map."""
        own, roots, bundle_map = self._descriptors
        return f"/proc/self/fd/{own}", f"/proc/self/fd/{roots}", f"/proc/self/fd/{bundle_map}"

    def close(self) -> None:
        """Give the memory back when this was the last user."""
        with _sharing:
            self._users -= 1
            if self._users > 0:
                return
            if _shared.get(self._key) is self:
                del _shared[self._key]
            while self._descriptors:
                os.close(self._descriptors.pop())


_sharing = threading.RLock()  # a finalizer may run in the thread that holds it
_shared: dict[tuple[int, str], Material] = {}


def _start_afresh() -> None:
    """What a forked child shares is its own."""
    global _sharing, _shared
    _sharing, _shared = threading.RLock(), {}


os.register_at_fork(after_in_child=_start_afresh)


def bootstrap(material: Material, server_uri: str) -> str:
    """Make the xDS bootstrap of a channel, as JSON."""
    own, roots, bundle_map = material.paths
    files = {
        "certificate_file": own,
        "private_key_file": own,
        "ca_certificate_file": roots,
        "spiffe_bundle_map_file": bundle_map,
        "refresh_interval": _NEVER,
    }
    server = {
        "server_uri": server_uri,
        "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    provider = {"plugin_name": "file_watcher", "config": files}
    return json.dumps(
        {
            "xds_servers": [server],
            "node": {"id": "kubetls"},
            "certificate_providers": {PROVIDER: provider},
        }
    )


def _bundle_map(trust_domain: TrustDomain, authorities: Iterable[x509.Certificate]) -> bytes:
    keys = [_entry(kty, each) for each in authorities if (kty := _key_type(each)) is not None]
    if not keys:
        keys = [_entry("EC", x509.load_pem_x509_certificate(nobody_pem()))]
    bundle = {"spiffe_sequence": 1, "keys": keys}
    return json.dumps({"trust_domains": {str(trust_domain): bundle}}).encode()


def _entry(kty: str, authority: x509.Certificate) -> dict[str, Any]:
    der = base64.b64encode(authority.public_bytes(Encoding.DER)).decode()
    return {"kty": kty, "use": "x509-svid", "x5c": [der]}


def _key_type(authority: x509.Certificate) -> str | None:
    """The JWK type of a key; None for one by which gRPC verifies nothing."""
    key = authority.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "EC"
    return "RSA" if isinstance(key, rsa.RSAPublicKey) else None


def _in_memory(content: bytes) -> int:
    descriptor = _new_file()
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return descriptor


def _new_file() -> int:
    try:  # Some systems allow no others.
        return os.memfd_create("kubetls", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError:  # Linux before 6.3 does not know them.
        return os.memfd_create("kubetls", os.MFD_CLOEXEC)
