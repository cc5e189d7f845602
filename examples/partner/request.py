# SPDX-License-Identifier: Apache-2.0
"""The partner without a CA makes a key, which never leaves it, and a CSR, which it sends us.

    python request.py acme

It writes `acme/tls.key` and `acme.csr`. With OpenSSL it is one command:
`openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj / -keyout .. -out ..`
"""

import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def main(name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, SHA256())
    Path(name).mkdir(mode=0o700)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with open(f"{name}/tls.key", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write(pem)
    Path(f"{name}.csr").write_bytes(request.public_bytes(Encoding.PEM))


if __name__ == "__main__":
    main(sys.argv[1])
