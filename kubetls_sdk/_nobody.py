# SPDX-License-Identifier: Apache-2.0
"""An authority that has signed nothing, for TLS stacks that cannot be told to trust nobody.

gRPC takes the absence of roots as a wish for the system's own, and its file watcher skips empty
files. A valid certificate whose key was thrown away trusts nobody and is neither.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

__all__ = ("nobody_pem",)

_LIFETIME = timedelta(days=36500)


@lru_cache(1)
def nobody_pem() -> bytes:
    """PEM of the authority of this process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody is trusted")])
    start = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=start,
        not_valid_after=start + _LIFETIME,
    ).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
