# SPDX-License-Identifier: Apache-2.0
"""TLS to a bundle endpoint of profile `https_spiffe`: its server proves one SPIFFE ID, we none.

Rules:
    1. The server is verified by the bundle of its own trust domain and no other, in the handshake.
    2. Nothing of ours is presented, and no web root is loaded.

Spec: SPIFFE Federation §5.2.2.4; X509-SVID §5.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from kubetls_sdk._openssl import load_authorities
from kubetls_sdk.bundle import TrustBundleSet
from kubetls_sdk.exceptions import PeerUnauthorizedError
from kubetls_sdk.verification import verify_handshake_chain

if TYPE_CHECKING:
    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.spiffe_id import SpiffeId

__all__ = ("EndpointContext",)

_ENCODING_DER = 2
_VERIFY_X509_PARTIAL_CHAIN = 0x80000


class _EndpointConnection(ssl.SSLObject):
    """A TLS object whose handshake includes the check of the server's SPIFFE ID."""

    context: Any

    def do_handshake(self) -> None:
        """Run the handshake and verify the server.

        Raises:
            PeerVerificationError: It is not authenticated.
            PeerUnauthorizedError: It is another one.
        """
        super().do_handshake()
        inner: Any = getattr(self, "_sslobj")  # noqa: B009 - the public method exists since 3.13
        chain = tuple(each.public_bytes(_ENCODING_DER) for each in inner.get_verified_chain() or ())
        peer = verify_handshake_chain(chain, bundles=self.context.bundles)
        if peer.spiffe_id != self.context.expected:
            raise PeerUnauthorizedError(
                expected=repr(str(self.context.expected)), spiffe_id=peer.spiffe_id
            )


class EndpointContext(ssl.SSLContext):
    """The settings of one fetch.

    Attributes:
        bundles: The bundle of the server's trust domain.
        expected: Who the server must be.
    """

    sslobject_class = _EndpointConnection
    bundles: TrustBundleSet
    expected: SpiffeId

    @classmethod
    def build(cls, expected: SpiffeId, bundle: TrustBundle) -> EndpointContext:
        """Make the context.

        Raises:
            BundleError: OpenSSL does not take an authority.
        """
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # The SPIFFE ID names the server, not the URL.
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= _VERIFY_X509_PARTIAL_CHAIN
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.bundles = TrustBundleSet([bundle])
        context.expected = expected
        load_authorities(context, bundle.authorities)
        return context
