# SPDX-License-Identifier: Apache-2.0
"""The seam between a source and every TLS user of Python: one `ssl.SSLContext` that reloads itself.

Anything that takes an `ssl.SSLContext` takes a `ReloadingContext`: uvicorn, hypercorn, httpx,
aiohttp, urllib3 and requests, asyncio, `http.server`.

Rules:
    1. Each new connection, accepted or connected, gets the settings of the source's current
       generation. A living context is never changed; a new one replaces it.
    2. The SPIFFE check is part of `do_handshake`. Before it has passed, no application byte can be
       read or written through the object.
    3. Callers cannot weaken it: what they add or lower is without effect or an error.
    4. Nothing is resumed: no tickets, and with TLS 1.2 no session cache outlives a connection.

Spec: X509-SVID §5; RFC 8446 §4.4.2, §4.6.1.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography import x509

from kubetls_sdk._inner_context import InnerContext
from kubetls_sdk._profile import claimed_spiffe_id
from kubetls_sdk.exceptions import ConfigurationError, PeerVerificationError
from kubetls_sdk.expectation import AnyTrusted, require
from kubetls_sdk.verification import recheck, verify_handshake_chain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubetls_sdk.expectation import ExpectedPeer
    from kubetls_sdk.source import Snapshot, Source
    from kubetls_sdk.spiffe_id import SpiffeId
    from kubetls_sdk.verification import VerifiedPeer

__all__ = (
    "ReloadingContext",
    "VerifyingSSLObject",
    "VerifyingSSLSocket",
    "client_context",
    "server_context",
)

_log = logging.getLogger(__name__)

_ENCODING_DER = 2
_NOTING_SECONDS = 60.0
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT and kin

# Setting these is what urllib3, requests and aiohttp do to any context: harmless here.
_WITHOUT_EFFECT = frozenset(
    {
        "check_hostname",
        "hostname_checks_common_name",
        "maximum_version",
        "minimum_version",
        "num_tickets",
        "options",
        "post_handshake_auth",
        "verify_flags",
        "verify_mode",
    }
)
_OWN = frozenset(
    {
        "_alpn_protocols",
        "_building",
        "_inner",
        "_noting_until",
        "allow_tls12",
        "expect",
        "optional",
        "server_side",
        "source",
    }
)


class _Verifying:
    """What both TLS objects of the ssl module gain: the SPIFFE check as part of the handshake."""

    verified_peer: VerifiedPeer | None = None
    snapshot: Snapshot | None = None
    presented_leaf: bytes | None = None
    _reloading: ReloadingContext
    _is_verified = False
    _sslobj: Any

    def _verify_peer(self) -> None:
        """Check the peer after OpenSSL's handshake; from here on data may flow.

        Raises:
            PeerVerificationError: The peer did not prove an identity that we trust.
            PeerUnauthorizedError: It proved another one than was asked for.
        """
        if self._is_verified:
            return
        context = self._reloading
        if self._sslobj.session_reused:
            raise PeerVerificationError("it resumed a session, whose chain cannot be checked")
        chain = _verified_chain(self._sslobj)
        if chain or not context.optional:
            self.verified_peer = self._authenticate(chain)
        self._is_verified = True

    def _authenticate(self, chain: Sequence[bytes]) -> VerifiedPeer:
        context = self._reloading
        snapshot = self.snapshot
        if snapshot is None:
            raise PeerVerificationError("the connection was not made by its context")
        peer = verify_handshake_chain(chain, bundles=snapshot.bundles)
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
        except ValueError:
            return None

    def _refused(self, err: ssl.SSLError) -> Exception:
        """Turn OpenSSL's refusal of the peer into ours; leave other TLS errors as they are."""
        if isinstance(err, ssl.SSLCertVerificationError):
            self._reloading._note_presented()  # noqa: SLF001
            return PeerVerificationError(
                _reason(err, self.snapshot), spiffe_id=self._presented_id()
            )
        if err.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return PeerVerificationError("it presented no certificate")
        return err

    def _check_verified(self) -> None:
        if not self._is_verified:
            raise PeerVerificationError("data was asked for before the handshake")


class VerifyingSSLObject(_Verifying, ssl.SSLObject):
    """An `ssl.SSLObject` whose handshake includes the SPIFFE check.

    Attributes:
        verified_peer: Who the peer is; None before the handshake, and for an anonymous client of a
            server that allows them.
        snapshot: The generation of the source that the peer was verified under.
    """

    def do_handshake(self) -> None:
        """Run the handshake and verify the peer.

        Raises:
            PeerVerificationError: The peer is not authenticated.
            PeerUnauthorizedError: The peer is not the one that was asked for.
            ssl.SSLError: Anything else that goes wrong in TLS, as without us.
        """
        try:
            self._sslobj.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as err:
            refusal = self._refused(err)
            if refusal is err:
                raise
            raise refusal from err
        self._verify_peer()
        # From now on the plain methods, with no check on the way of the data.
        self.read = super().read  # type: ignore[method-assign]
        self.write = super().write  # type: ignore[method-assign]

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the ssl module's name
        """Read decrypted data; an error before the handshake is complete."""
        self._check_verified()
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        """Write data to be encrypted; an error before the handshake is complete."""
        self._check_verified()
        return super().write(data)

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

    def do_handshake(self, block: bool = False) -> None:
        """Run the handshake and verify the peer.

        Raises:
            PeerVerificationError: The peer is not authenticated.
            PeerUnauthorizedError: The peer is not the one that was asked for.
            ssl.SSLError: Anything else that goes wrong in TLS, as without us.
        """
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as err:
            refusal = self._refused(err)
            if refusal is err:
                raise
            raise refusal from err
        self._verify_peer()

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the ssl module's name
        """Read decrypted data; an error before the handshake is complete."""
        self._check_verified()
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        """Write data to be encrypted; an error before the handshake is complete."""
        self._check_verified()
        return super().write(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send data; an error before the handshake is complete."""
        if self._sslobj is not None:
            self._check_verified()
        return super().send(data, flags)

    @property
    def context(self) -> ssl.SSLContext:
        """The reloading context that made this connection; cannot be replaced."""
        return self._reloading

    @context.setter
    def context(self, ctx: ssl.SSLContext) -> NoReturn:
        raise ConfigurationError("expected no other context on a living connection")


class ReloadingContext(ssl.SSLContext):
    """An `ssl.SSLContext` that follows a source and verifies SPIFFE identities.

    Make one with `server_context` or `client_context`. It is shared freely between threads, event
    loops and connections.
    """

    sslobject_class = VerifyingSSLObject
    sslsocket_class = VerifyingSSLSocket

    source: Source
    expect: ExpectedPeer
    server_side: bool
    optional: bool
    allow_tls12: bool
    _alpn_protocols: tuple[str, ...]
    _building: threading.Lock
    _inner: InnerContext | None
    _noting_until: float

    @property
    def verify_mode(self) -> ssl.VerifyMode:  # type: ignore[override]
        """`CERT_REQUIRED`, or `CERT_OPTIONAL` where anonymous clients are allowed."""
        return ssl.CERT_OPTIONAL if self.optional else ssl.CERT_REQUIRED

    @property
    def check_hostname(self) -> bool:  # type: ignore[override]
        """True for clients: the handshake names the peer, so nobody has to do it again."""
        return not self.server_side

    @property
    def alpn_protocols(self) -> tuple[str, ...]:
        """The application protocols that new connections offer, in order of preference."""
        return self._alpn_protocols

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer these protocols on new connections, in this order."""
        protocols = tuple(alpn_protocols)
        with self._building:
            if protocols != self._alpn_protocols:
                self._alpn_protocols = protocols
                self._inner = None

    def wrap_socket(self, sock: Any, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Wrap a socket as `ssl.SSLContext.wrap_socket` does; a `session` is not resumed."""
        kwargs["session"] = None
        create: Any = getattr(VerifyingSSLSocket, "_create")  # noqa: B009 - as the ssl module does
        wrapped: VerifyingSSLSocket = create(sock, *args, context=self._current(), **kwargs)
        wrapped._reloading = self  # noqa: SLF001 - for accept and connect, which come later
        return wrapped

    def load_verify_locations(self, *args: Any, **kwargs: Any) -> None:
        """Without effect: trust comes from the source alone."""
        del args, kwargs
        _log.debug("load_verify_locations has no effect on a reloading context")

    load_default_certs = load_verify_locations
    set_default_verify_paths = load_verify_locations

    def load_cert_chain(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible: the SVID comes from the source.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError("expected no certificate to be loaded: the source has the SVID")

    set_ciphers = load_cert_chain
    set_npn_protocols = load_cert_chain
    set_servername_callback = load_cert_chain
    load_dh_params = load_cert_chain
    set_ecdh_curve = load_cert_chain
    set_psk_client_callback = load_cert_chain
    set_psk_server_callback = load_cert_chain

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        elif name in _WITHOUT_EFFECT:
            _log.debug("setting %s has no effect on a reloading context", name)
        else:
            raise ConfigurationError(f"expected no change of {name!r} on a reloading context")

    def __reduce__(self) -> NoReturn:
        raise TypeError("expected no pickling of a TLS context: make one in each process")

    def _current(self) -> InnerContext:
        """Return the settings of the current generation; build them if nobody has yet."""
        inner = self._inner
        if inner is None or not self._fits(inner):
            with self._building:
                inner = self._inner
                if inner is None or not self._fits(inner):
                    inner = InnerContext.build(
                        self.source.snapshot, self, notes_presented=self._notes_presented()
                    )
                    self._inner = inner
        return inner

    def _fits(self, inner: InnerContext) -> bool:
        # With TLS 1.2 each connection has settings of its own: a session cache that is shared with
        # nobody has nothing to resume (RFC 5246 §7.3).
        return (
            inner.snapshot is self.source.snapshot
            and not self.allow_tls12
            and inner.notes_presented is self._notes_presented()
        )

    def _notes_presented(self) -> bool:
        """Clients always record the server's certificate; servers for a while after a refusal.

        OpenSSL tells nothing of a certificate that it refuses. Recording it costs each request a
        microsecond, so a server starts to when there is something to find out.
        """
        until = self._noting_until
        return not self.server_side or (until > 0 and time.monotonic() < until)

    def _note_presented(self) -> None:
        self._noting_until = time.monotonic() + _NOTING_SECONDS

    def _wrap_bio(self, *args: Any, **kwargs: Any) -> Any:
        return self._current()._wrap_bio(*args, **kwargs)  # noqa: SLF001

    def _wrap_socket(self, *args: Any, **kwargs: Any) -> Any:
        return self._current()._wrap_socket(*args, **kwargs)  # noqa: SLF001


def server_context(
    source: Source,
    *,
    optional: bool = False,
    allow_tls12: bool = False,
    expect: ExpectedPeer | None = None,
    alpn_protocols: Iterable[str] = (),
) -> ReloadingContext:
    """Make the context of a server that authenticates its clients by X.509-SVID.

    Args:
        source: Our SVID and whom we trust; asked at each handshake.
        optional: Let clients without a certificate in, for a migration. One that presents a
            certificate is verified all the same.
        allow_tls12: Also accept TLS 1.2. Each connection then builds its own settings, about a
            millisecond, so that no session can be resumed.
        expect: Whom to accept; by default every workload that our bundles vouch for, since a
            policy decides next.
        alpn_protocols: Application protocols by preference, such as `("h2", "http/1.1")`.

    Raises:
        NotReadyError: The source has nothing yet.
        SvidError: OpenSSL does not take the SVID.
    """
    return _make(
        ssl.PROTOCOL_TLS_SERVER,
        source=source,
        expect=expect if expect is not None else AnyTrusted(),
        server_side=True,
        optional=optional,
        allow_tls12=allow_tls12,
        _alpn_protocols=tuple(alpn_protocols),
    )


def client_context(
    source: Source,
    *,
    expect: ExpectedPeer,
    allow_tls12: bool = False,
    alpn_protocols: Iterable[str] = (),
) -> ReloadingContext:
    """Make the context of a client that presents our SVID and requires a certain server.

    Args:
        source: Our SVID and whom we trust; asked at each handshake.
        expect: Who the server must prove to be; see `kubetls_sdk.expectation`.
        allow_tls12: Also accept TLS 1.2.
        alpn_protocols: Application protocols by preference.

    Raises:
        NotReadyError: The source has nothing yet.
        SvidError: OpenSSL does not take the SVID.
    """
    return _make(
        ssl.PROTOCOL_TLS_CLIENT,
        source=source,
        expect=expect,
        server_side=False,
        optional=False,
        allow_tls12=allow_tls12,
        _alpn_protocols=tuple(alpn_protocols),
    )


def _make(protocol: int, **settings: Any) -> ReloadingContext:
    context = ReloadingContext(protocol)
    for name, value in settings.items():
        setattr(context, name, value)
    context._building = threading.Lock()  # noqa: SLF001
    context._inner = None  # noqa: SLF001
    context._noting_until = 0.0  # noqa: SLF001
    context._current()  # noqa: SLF001 - what is wrong with the SVID shows here, not at a handshake
    _follow(context)
    return context


def _follow(context: ReloadingContext) -> None:
    """Build each new generation when it comes, so that no connection has to wait for it."""
    reference = weakref.ref(context)

    def prepare(_: Snapshot) -> None:
        alive = reference()
        if alive is not None:
            alive._current()  # noqa: SLF001

    weakref.finalize(context, context.source.subscribe(prepare))


def _verified_chain(sslobj: Any) -> list[bytes]:
    """The path that OpenSSL validated, leaf first, as DER; empty without a peer certificate.

    The public method exists since Python 3.13; 3.11 and 3.12 have the same one on the inner object.
    """
    chain = sslobj.get_verified_chain()
    return [certificate.public_bytes(_ENCODING_DER) for certificate in chain or ()]


def _reason(err: ssl.SSLCertVerificationError, snapshot: Snapshot | None) -> str:
    """OpenSSL's reason; an unknown issuer also says what we trust and since when."""
    if err.verify_code not in _UNKNOWN_ISSUER or snapshot is None:
        return str(err.verify_message)
    domains = ", ".join(sorted(map(str, snapshot.bundles))) or "no trust domain"
    return (
        f"its issuer is unknown ({err.verify_message}); trust bundles of {domains},"
        f" last changed {snapshot.created_at:%Y-%m-%dT%H:%M:%SZ}"
    )
