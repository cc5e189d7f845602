# SPDX-License-Identifier: Apache-2.0
"""The TLS objects of the ssl module, with the SPIFFE check as part of their handshake.

Rules:
    1. Before the check has passed, no application byte can be read or written.
    2. A handshake that took long is judged by the newest generation, not by the one it began with.
    3. Nothing resumed is accepted: a resumed session brings no chain to check.

Spec: X509-SVID §5; RFC 8446 §4.4.2.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography import x509

from kubetls_sdk._profile import MALFORMED, claimed_spiffe_id
from kubetls_sdk.exceptions import ConfigurationError, PeerError, PeerVerificationError
from kubetls_sdk.expectation import require
from kubetls_sdk.verification import recheck, verify_handshake_chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubetls_sdk._context import ReloadingContext
    from kubetls_sdk.source import Snapshot
    from kubetls_sdk.spiffe_id import SpiffeId
    from kubetls_sdk.verification import VerifiedPeer

__all__ = (
    "UnverifiedSSLObject",
    "UnverifiedSSLSocket",
    "VerifyingSSLObject",
    "VerifyingSSLSocket",
)

_ENCODING_DER = 2
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT and kin


class _Verifying:
    """What both TLS objects of the ssl module gain: the SPIFFE check as part of the handshake."""

    verified_peer: VerifiedPeer | None = None
    snapshot: Snapshot | None = None
    presented_leaf: bytes | None = None
    _reloading: ReloadingContext
    _sslobj: Any

    def _verify_peer(self) -> None:
        """Check the peer after OpenSSL's handshake; from here on data may flow.

        Raises:
            PeerVerificationError: The peer did not prove an identity that we trust.
            PeerUnauthorizedError: It proved another one than was asked for.
        """
        context = self._reloading
        if self._sslobj.session_reused:
            raise PeerVerificationError("it resumed a session, whose chain cannot be checked")
        chain = _verified_chain(self._sslobj)
        if chain or not context.optional:
            self.verified_peer = self._authenticate(chain)

    def _authenticate(self, chain: tuple[bytes, ...]) -> VerifiedPeer:
        context = self._reloading
        snapshot = self.snapshot
        if snapshot is None:
            raise PeerVerificationError("the connection was not made by its context")
        inner = self._sslobj.context
        peer: VerifiedPeer | None = inner.recall(chain)
        if peer is None:
            peer = verify_handshake_chain(chain, bundles=snapshot.bundles)
            inner.remember(chain, peer)
        current = context.source.snapshot
        if current is not snapshot:  # a root may have gone while the handshake was under way
            recheck(peer, bundles=current.bundles, now=datetime.now(UTC))
            self.snapshot = current
        require(context.expect, peer, own=current.trust_domain)
        return peer

    def _presented_id(self) -> SpiffeId | None:
        if self.presented_leaf is None:
            return None
        try:
            return claimed_spiffe_id(x509.load_der_x509_certificate(self.presented_leaf))
        except MALFORMED:
            return None

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn OpenSSL's refusal of the peer into ours; leave other TLS errors as they are."""
        try:
            yield
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except PeerError as err:
            self._tell(err)
            raise
        except ssl.SSLError as err:
            refusal = self._refusal(err)
            if refusal is None:
                raise
            self._tell(refusal)
            raise refusal from err

    def _tell(self, refusal: PeerError) -> None:
        if self._reloading.on_refusal is not None:
            self._reloading.on_refusal(refusal)

    def _refusal(self, err: ssl.SSLError) -> PeerVerificationError | None:
        if isinstance(err, ssl.SSLCertVerificationError):
            self._reloading._note_presented()  # noqa: SLF001
            return PeerVerificationError(
                _reason(err, self.snapshot), spiffe_id=self._presented_id()
            )
        if err.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return PeerVerificationError("it presented no certificate")
        return None


class VerifyingSSLObject(_Verifying, ssl.SSLObject):
    """An `ssl.SSLObject` whose handshake includes the SPIFFE check.

    Attributes:
        verified_peer: Who the peer is; None before the handshake, and for an anonymous client of a
            server that allows them.
        snapshot: The generation of the source that the peer was verified under.
    """

    @property
    def context(self) -> ssl.SSLContext:
        """The reloading context that made this connection; cannot be replaced."""
        return self._reloading

    @context.setter
    def context(self, ctx: ssl.SSLContext) -> NoReturn:
        raise ConfigurationError("expected no other context on a living connection")


class VerifyingSSLSocket(_Verifying, ssl.SSLSocket):
    """An `ssl.SSLSocket` whose handshake includes the SPIFFE check.

    Attributes:
        verified_peer: Who the peer is; None before the handshake, and for an anonymous client of a
            server that allows them.
        snapshot: The generation of the source that the peer was verified under.
    """

    @property
    def context(self) -> ssl.SSLContext:
        """The reloading context that made this connection; cannot be replaced."""
        return self._reloading

    @context.setter
    def context(self, ctx: ssl.SSLContext) -> NoReturn:
        raise ConfigurationError("expected no other context on a living connection")


class _Closed:
    """What data goes through before the handshake is complete: nothing does."""

    def read(self, *_: Any) -> NoReturn:
        """Refuse."""
        raise _too_early()

    write = read


class UnverifiedSSLObject(VerifyingSSLObject):
    """The object until its handshake is complete; then it becomes a plain `VerifyingSSLObject`.

    Changing the class leaves no check, and no reference cycle, on the way of the data.
    """

    _open: Any = _Closed()

    def do_handshake(self) -> None:
        """Run the handshake and verify the peer.

        Raises:
            PeerVerificationError: The peer is not authenticated.
            PeerUnauthorizedError: The peer is not the one that was asked for.
            ssl.SSLError: Anything else that goes wrong in TLS, as without us.
        """
        with self._refusing():
            super().do_handshake()
            self._verify_peer()
        self._open = self._sslobj
        self.__class__ = VerifyingSSLObject  # type: ignore[assignment]

    # uvloop keeps these two methods from before the handshake and calls them for all data. So each
    # is one call that asks no question: until the handshake is complete, `_open` refuses.

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002
        """Read as `ssl.SSLObject.read` does; refuse until the handshake is complete."""
        if buffer is not None:
            return self._open.read(len, buffer)
        return self._open.read(len)

    def write(self, data: Any) -> Any:
        """Write as `ssl.SSLObject.write` does; refuse until the handshake is complete."""
        return self._open.write(data)


class UnverifiedSSLSocket(VerifyingSSLSocket):
    """The socket until its handshake is complete; then it becomes a plain `VerifyingSSLSocket`."""

    def do_handshake(self, block: bool = False) -> None:
        """Run the handshake and verify the peer.

        Raises:
            PeerVerificationError: The peer is not authenticated.
            PeerUnauthorizedError: The peer is not the one that was asked for.
            ssl.SSLError: Anything else that goes wrong in TLS, as without us.
        """
        with self._refusing():
            super().do_handshake(block)
            self._verify_peer()
        self.__class__ = VerifyingSSLSocket  # type: ignore[assignment]

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002
        """Refuse until the handshake is complete; uvloop keeps this method from before it."""
        if type(self) is not VerifyingSSLSocket:
            raise _too_early()
        return VerifyingSSLSocket.read(self, len, buffer)

    def write(self, data: Any) -> int:
        """Refuse until the handshake is complete; uvloop keeps this method from before it."""
        if type(self) is not VerifyingSSLSocket:
            raise _too_early()
        return VerifyingSSLSocket.write(self, data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Refuse on a connection; an unconnected socket answers with its own error."""
        if self._sslobj is not None and type(self) is not VerifyingSSLSocket:
            raise _too_early()
        return VerifyingSSLSocket.send(self, data, flags)


def _too_early() -> PeerVerificationError:
    return PeerVerificationError("data was asked for before the handshake")


def _verified_chain(sslobj: Any) -> tuple[bytes, ...]:
    """The path that OpenSSL validated, leaf first, as DER; empty without a peer certificate.

    The public method exists since Python 3.13; 3.11 and 3.12 have the same one on the inner object.
    """
    chain = sslobj.get_verified_chain()
    return tuple([certificate.public_bytes(_ENCODING_DER) for certificate in chain or ()])


def _reason(err: ssl.SSLCertVerificationError, snapshot: Snapshot | None) -> str:
    """OpenSSL's reason; an unknown issuer also says what we trust and since when."""
    if err.verify_code not in _UNKNOWN_ISSUER or snapshot is None:
        return str(err.verify_message)
    domains = ", ".join(sorted(map(str, snapshot.bundles))) or "no trust domain"
    return (
        f"its issuer is unknown ({err.verify_message}); trust bundles of {domains},"
        f" last changed {snapshot.created_at:%Y-%m-%dT%H:%M:%SZ}"
    )
