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
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

from kubetls_sdk._inner_context import InnerContext
from kubetls_sdk._verifying import (
    UnverifiedSSLObject,
    UnverifiedSSLSocket,
    VerifyingSSLObject,
    VerifyingSSLSocket,
)
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.expectation import AnyTrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kubetls_sdk.exceptions import PeerError
    from kubetls_sdk.expectation import ExpectedPeer
    from kubetls_sdk.source import Snapshot, Source

__all__ = (
    "ReloadingContext",
    "VerifyingSSLObject",
    "VerifyingSSLSocket",
    "client_context",
    "server_context",
)

_log = logging.getLogger(__name__)

_NOTING_SECONDS = 60.0

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
_SETTINGS = frozenset(  # once, when the context is made
    {"allow_tls12", "expect", "on_refusal", "optional", "server_side", "source"}
)
_STATE = frozenset({"_alpn_protocols", "_building", "_inner", "_noting_until", "_prepared"})


@runtime_checkable
class _TellsEarly(Protocol):
    """A source that tells of a snapshot before it is in force."""

    def subscribe_early(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Call `callback` with each snapshot before anyone can see it."""
        ...


class ReloadingContext(ssl.SSLContext):
    """An `ssl.SSLContext` that follows a source and verifies SPIFFE identities.

    Make one with `server_context` or `client_context`. It is shared freely between threads, event
    loops and connections.
    """

    sslobject_class = UnverifiedSSLObject
    sslsocket_class = UnverifiedSSLSocket

    source: Source
    expect: ExpectedPeer
    server_side: bool
    optional: bool
    allow_tls12: bool
    on_refusal: Callable[[PeerError], None] | None
    _alpn_protocols: tuple[str, ...]
    _building: threading.Lock
    _inner: InnerContext | None
    _noting_until: float
    _prepared: InnerContext | None

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
                self._inner = self._prepared = None

    def wrap_socket(self, sock: Any, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Wrap a socket as `ssl.SSLContext.wrap_socket` does; a `session` is not resumed."""
        kwargs["session"] = None
        create: Any = getattr(UnverifiedSSLSocket, "_create")  # noqa: B009 - as the ssl module does
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
        if name in _STATE or (name in _SETTINGS and name not in self.__dict__):
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
                    inner = self._inner = self._next()
        return inner

    def _next(self) -> InnerContext:
        prepared = self._prepared
        if prepared is not None and self._fits(prepared):
            self._prepared = None
            return prepared
        return self._build(self.source.snapshot)

    def _build(self, snapshot: Snapshot) -> InnerContext:
        return InnerContext.build(snapshot, self, notes_presented=self._notes_presented())

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
    on_refusal: Callable[[PeerError], None] | None = None,
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
        on_refusal: Called with the error when a handshake refuses a peer, for servers that tell
            nobody else; must not raise.

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
        on_refusal=on_refusal,
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
        on_refusal=None,
        _alpn_protocols=tuple(alpn_protocols),
    )


def _make(protocol: int, **settings: Any) -> ReloadingContext:
    source = settings["source"]
    if not hasattr(source, "subscribe"):
        raise ConfigurationError(
            f"expected a source, such as VolumeSource(directory), got {source!r}"
        )
    context = ReloadingContext(protocol)
    for name, value in settings.items():
        setattr(context, name, value)
    context._building = threading.Lock()  # noqa: SLF001
    context._inner = None  # noqa: SLF001
    context._prepared = None  # noqa: SLF001
    context._noting_until = 0.0  # noqa: SLF001
    context._current()  # noqa: SLF001 - what is wrong with the SVID shows here, not at a handshake
    _follow(context)
    return context


def _follow(context: ReloadingContext) -> None:
    """Build each new generation before a connection asks for it, so that none has to wait."""
    reference = weakref.ref(context)

    def prepare(snapshot: Snapshot) -> None:
        alive = reference()
        if alive is not None and not alive.allow_tls12:
            alive._prepared = alive._build(snapshot)  # noqa: SLF001

    def take(_: Snapshot) -> None:
        alive = reference()
        if alive is not None and not alive.allow_tls12:
            alive._current()  # noqa: SLF001

    source = context.source
    if isinstance(source, _TellsEarly):
        weakref.finalize(context, source.subscribe_early(prepare))
    weakref.finalize(context, source.subscribe(take))
