# SPDX-License-Identifier: Apache-2.0
"""OpenSSL's own verdict on a chain: a handshake in memory, with the strictest checks."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from kubetls_sdk import TrustBundle, X509Svid
    from kubetls_sdk.testing import IssuedChain


def strict_handshake(
    presented: X509Svid | IssuedChain, bundle: TrustBundle, tmp_path: Path
) -> None:
    """Present a chain as a server to a client that checks with X509_STRICT, no host name.

    Raises:
        ssl.SSLError: OpenSSL refuses the chain.
    """
    pem = tmp_path / "presented.pem"
    pem.write_bytes(presented.private_key_pem() + presented.certificates_pem())
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pem)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    client_context.load_verify_locations(cadata=bundle.to_pem().decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() == "TLSv1.3"
    assert client.getpeercert(binary_form=True)
