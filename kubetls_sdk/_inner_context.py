# SPDX-License-Identifier: Apache-2.0
"""One generation of TLS settings: an `ssl.SSLContext` that is built once and never changed.

Rules:
    1. TLS 1.3, no session tickets, own authorities only; the web roots are never loaded.
    2. Not `VERIFY_X509_STRICT`, on any Python version: one behaviour for all (docs/explanation).

Spec: RFC 8446 §4.6.1 (tickets); RFC 5280 §6.1 (an intermediate may be the anchor).
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any

from kubetls_sdk._openssl import load_authorities, load_svid
from kubetls_sdk._trust_store import trusted_authorities

if TYPE_CHECKING:
    from kubetls_sdk._context import ReloadingContext
    from kubetls_sdk.source import Snapshot
    from kubetls_sdk.verification import VerifiedPeer

__all__ = ("InnerContext",)

_VERIFY_X509_PARTIAL_CHAIN = 0x80000
# SSL_OP_NO_TX_ and NO_RX_CERTIFICATE_COMPRESSION (RFC 8879), which OpenSSL has since 3.2: strangers
# get no decompressor to play with, and a refusal can read the certificate that it refuses.
_HAS_COMPRESSION = ssl.OPENSSL_VERSION_INFO >= (3, 2) and os.name == "posix"  # options of 64 bits
_PLAIN_CERTIFICATES = 3 << 32 if _HAS_COMPRESSION else 0
_REMEMBERED = 256
_HANDSHAKE, _CERTIFICATE, _TLS13 = 22, 11, 0x0304
# The property of the C type: the one in `ssl` wraps each call in enums, at each record.
_MSG_CALLBACK: Any = vars(ssl.SSLContext.__base__)["_msg_callback"]


class InnerContext(ssl.SSLContext):
    """The settings of one generation.

    Attributes:
        snapshot: The state of the source that they were built from.
        reloading: The context that they were built for.
        notes_presented: Whether the certificate that a peer presents is recorded.
    """

    snapshot: Snapshot
    reloading: ReloadingContext
    notes_presented: bool
    _peers: dict[tuple[bytes, ...], VerifiedPeer]

    @classmethod
    def build(
        cls, snapshot: Snapshot, reloading: ReloadingContext, *, notes_presented: bool
    ) -> InnerContext:
        """Build a context from a snapshot; takes about a millisecond, touches no shared state.

        Args:
            snapshot: The generation.
            reloading: The context whose settings and role it gets.
            notes_presented: Record the certificate that each peer presents, so that a refusal can
                name it; costs about a microsecond a request.

        Raises:
            CredentialError: OpenSSL does not take the key or a certificate.
        """
        role = ssl.PROTOCOL_TLS_SERVER if reloading.server_side else ssl.PROTOCOL_TLS_CLIENT
        context = cls(role)
        context.snapshot = snapshot
        context.reloading = reloading
        context.notes_presented = notes_presented
        context._peers = {}
        context.check_hostname = False  # The SPIFFE check in the handshake names the peer.
        context.verify_mode = ssl.CERT_OPTIONAL if reloading.optional else ssl.CERT_REQUIRED
        context.verify_flags |= _VERIFY_X509_PARTIAL_CHAIN
        context.minimum_version = (
            ssl.TLSVersion.TLSv1_2 if reloading.allow_tls12 else ssl.TLSVersion.TLSv1_3
        )
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | _PLAIN_CERTIFICATES
        if reloading.server_side:
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        if reloading.alpn_protocols:
            context.set_alpn_protocols(list(reloading.alpn_protocols))
        if notes_presented:
            _MSG_CALLBACK.__set__(context, note_presented_leaf)
        load_authorities(context, trusted_authorities(snapshot))
        svid = snapshot.svid
        load_svid(context, svid.private_key_pem() + svid.certificates_pem())
        return context

    def recall(self, verified_chain: tuple[bytes, ...]) -> VerifiedPeer | None:
        """Return what the SPIFFE rules made of the same bytes, when that was lately.

        Bytes and bundles decide alone, and the bundles of one generation do not change; OpenSSL
        has checked time and signatures for each connection. So the connections of a peer share
        one parsed certificate.
        """
        return self._peers.get(verified_chain)

    def remember(self, verified_chain: tuple[bytes, ...], peer: VerifiedPeer) -> None:
        """Keep a result for `recall`."""
        if len(self._peers) >= _REMEMBERED:
            self._peers = {}
        self._peers[verified_chain] = peer

    def _wrap_bio(self, *args: Any, owner: Any, session: Any = None, **kwargs: Any) -> Any:
        del session  # Nothing is resumed.
        owner._reloading, owner.snapshot = self.reloading, self.snapshot  # noqa: SLF001
        c_type: Any = super()
        return c_type._wrap_bio(*args, owner=owner, session=None, **kwargs)  # noqa: SLF001

    def _wrap_socket(self, *args: Any, owner: Any, session: Any = None, **kwargs: Any) -> Any:
        del session
        owner._reloading, owner.snapshot = self.reloading, self.snapshot  # noqa: SLF001
        c_type: Any = super()
        return c_type._wrap_socket(*args, owner=owner, session=None, **kwargs)  # noqa: SLF001


def presented_leaf(message: bytes, version: int) -> bytes | None:
    """Read the first certificate of a TLS Certificate message, as DER, or None.

    Spec: RFC 8446 §4.4.2; RFC 5246 §7.4.2.
    """
    start = 4  # the handshake header: type and 24-bit length
    if version >= _TLS13:
        start += 1 + message[start] if len(message) > start else 1
    start += 3  # the length of the list
    length = int.from_bytes(message[start : start + 3], "big")
    der = message[start + 3 : start + 3 + length]
    return der if length and len(der) == length else None


def note_presented_leaf(
    connection: Any, direction: str, version: int, content_type: int, msg_type: int, data: bytes
) -> None:
    """Remember the certificate that a peer presents, so that a refusal can name it."""
    if msg_type == _CERTIFICATE and content_type == _HANDSHAKE and direction == "read":
        connection.presented_leaf = presented_leaf(data, version)
