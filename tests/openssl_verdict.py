# SPDX-License-Identifier: Apache-2.0
"""OpenSSL's own verdict on a chain, by TLS handshakes in memory: the oracle of the path tests.

Verifies as the handshakes of KubeTLS do: partial chains, the default security level, not strict.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PARTIAL_CHAIN = 0x80000


class Oracle:
    """Presents chains from a file in `directory`, as a server and as a client.

    Args:
        directory: Where the presented chain and key are written for OpenSSL.
        server: PEM of any chain and key, for the server when the client presents the chain.
    """

    def __init__(self, directory: Path, server: bytes) -> None:
        self._file = directory / "presented.pem"
        self._server = directory / "server.pem"
        self._server.write_bytes(server)

    def accepts(
        self,
        chain: Sequence[bytes],
        key: Any,
        authorities: Sequence[bytes],
        *,
        is_client: bool = True,
    ) -> bool:
        """Whether OpenSSL accepts the chain from a server and, if asked, from a client as well.

        Raises:
            ssl.SSLError: OpenSSL cannot even present the chain.
        """
        self._file.write_bytes(pem(chain, key))
        return self._accepts_server(authorities) and (
            not is_client or self._accepts_client(authorities)
        )

    def _accepts_server(self, authorities: Sequence[bytes]) -> bool:
        presenter = _presenter(ssl.PROTOCOL_TLS_SERVER, self._file)
        verifier = _verifier(ssl.PROTOCOL_TLS_CLIENT, authorities)
        return verifier is not None and _is_handshake_good(verifier, presenter)

    def _accepts_client(self, authorities: Sequence[bytes]) -> bool:
        presenter = _presenter(ssl.PROTOCOL_TLS_CLIENT, self._file)
        verifier = _verifier(ssl.PROTOCOL_TLS_SERVER, authorities)
        if verifier is None:
            return False
        verifier.load_cert_chain(self._server)
        return _is_handshake_good(presenter, verifier)


def pem(chain: Sequence[bytes], key: Any) -> bytes:
    """Chain and key in one text."""
    text = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    text += [ssl.DER_cert_to_PEM_cert(each).encode() for each in chain]
    return b"".join(text)


def _presenter(role: int, file: Path) -> ssl.SSLContext:
    try:
        return _presenter_at(role, file, "")
    except ssl.SSLError:  # Too weak for ourselves: but that is for the verifier to judge.
        return _presenter_at(role, file, "DEFAULT:@SECLEVEL=0")


def _presenter_at(role: int, file: Path, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(role)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if ciphers:
        context.set_ciphers(ciphers)
    context.load_cert_chain(file)
    return context


def _verifier(role: int, authorities: Sequence[bytes]) -> ssl.SSLContext | None:
    context = ssl.SSLContext(role)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags = (context.verify_flags | _PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=b"".join(authorities))
    except (ssl.SSLError, ValueError):
        return None
    return context


def _is_handshake_good(client: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, True))
    done = [False, False]
    for _ in range(6):  # A TLS 1.3 handshake takes three turns.
        for number, end in enumerate(ends):
            try:
                done[number] = done[number] or end.do_handshake() is None
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
        if all(done):
            return True
    return False
