# SPDX-License-Identifier: Apache-2.0
"""Identities under servers that are not ours: from the chain in the ASGI `tls` extension.

Rules:
    1. Such a server proved that the peer holds the key; who the peer is, is verified here.
    2. An error that the server reports is a refusal, whatever the chain says.
    3. A verified chain is remembered, and rechecked at each request like a connection of ours.
       Its WebSockets end like ours; its HTTP streams are beyond our reach.

Spec: ASGI TLS Extension 0.2, and the draft of 0.3 that only has `client_cert_chain`.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509

from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.exceptions import CredentialError, PeerVerificationError
from kubetls_sdk.server.connection import EXTENSION, PeerConnection
from kubetls_sdk.server.refusal import Refusal
from kubetls_sdk.server.refusal_log import LogQuota, log, log_refusal
from kubetls_sdk.server.sweeper import Sweeper
from kubetls_sdk.svid import MAX_CHAIN
from kubetls_sdk.verification import verify_svid

if TYPE_CHECKING:
    from kubetls_sdk.source import Source
    from kubetls_sdk.verification import VerifiedPeer

__all__ = ("PresentedChains",)

_REMEMBERED = 1024
_SECONDS = 5.0


class PresentedChains:
    """Makes a `PeerConnection` from what another server put into the scope.

    Args:
        source: Whom we trust; None where only our own servers are in front.
    """

    def __init__(self, source: Source | None) -> None:
        self._source = source
        self._known: OrderedDict[tuple[str, ...], PeerConnection] = OrderedDict()
        self._sweeper = Sweeper(source, _SECONDS) if source is not None else None
        self._quota = LogQuota(burst=1, per_second=1 / 60)

    def connection(self, scope: Any) -> PeerConnection | Refusal:
        """Verify the peer of a request, and put the result into the scope."""
        tls = (scope.get("extensions") or {}).get("tls")
        if tls is None or self._source is None:
            return self._misconfigured(has_tls=tls is not None)
        try:
            found = self._verified(self._source, tls, scope)
        except PeerVerificationError as err:
            address, spiffe_id = _address(scope), err.spiffe_id
            log_refusal("handshake", err.reason, address=address, spiffe_id=spiffe_id)
            return Refusal(401)
        except CredentialError as err:
            log.error("no request can be served: %s", err)
            return Refusal(500)
        scope["extensions"] = {**scope["extensions"], EXTENSION: found}
        return found

    def _verified(self, source: Source, tls: Any, scope: Any) -> PeerConnection:
        if tls.get("client_cert_error") is not None:
            raise PeerVerificationError("the server reports an error of the client's certificate")
        chain = tuple(tls.get("client_cert_chain") or ())
        if not chain:
            return PeerConnection(source, None, source.snapshot, address=_address(scope))
        known = self._known.get(chain)
        if known is None or known.refusal() is not None:
            snapshot = source.snapshot
            peer = _verify(chain, source)
            known = PeerConnection(source, peer, snapshot, address=_address(scope))
            self._known[chain] = known
            if self._sweeper is not None:
                self._sweeper.add(known)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _misconfigured(self, *, has_tls: bool) -> Refusal:
        if self._quota.take():
            log.error(
                "requests are refused: %s",
                "KubeTLSMiddleware needs source= under a server that is not KubeTLS's"
                if has_tls
                else "the scope has no tls extension; serve with 'kubetls serve', or give uvicorn"
                " http=MutualTls() or its ssl_context_factory",
            )
        return Refusal(500)


def _verify(chain: tuple[str, ...], source: Source) -> VerifiedPeer:
    if len(chain) > MAX_CHAIN:
        raise PeerVerificationError(f"expected at most {MAX_CHAIN} certificates, got {len(chain)}")
    try:
        certificates = [x509.load_pem_x509_certificate(pem.encode("ascii")) for pem in chain]
    except (*MALFORMED, AttributeError) as err:
        raise PeerVerificationError("expected a chain of PEM certificates") from err
    return verify_svid(certificates, bundles=source.snapshot.bundles, now=datetime.now(UTC))


def _address(scope: Any) -> str:
    client = scope.get("client")
    if not client:
        return "unix socket"
    text = f"{client[0]}:{client[1]}"
    return text if text.isprintable() else repr(text)  # of a header field, where those are believed
