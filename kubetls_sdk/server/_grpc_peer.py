# SPDX-License-Identifier: Apache-2.0
"""Who is on the other end of a gRPC call: the SPIFFE rules, applied to what gRPC let through.

gRPC has checked possession of the key and a path to *some* authority of ours. It accepts leaves
with two identities, CA certificates, and names of one trust domain under another's authority.

Rules:
    1. The verdict rests on the presented certificates alone, and is verified from them anew in
       each generation; it is kept for that generation.
    2. A verdict ends with the first expiry on its path.
    3. Where gRPC hands over no chain, only configured intermediates complete it.

Spec: X509-SVID §5; SPIFFE Trust Domain and Bundle §3.
"""

from __future__ import annotations

from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any

from cryptography import x509
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.exceptions import CredentialError, PeerVerificationError
from kubetls_sdk.server.caller import ANONYMOUS, Caller
from kubetls_sdk.verification import verify_svid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kubetls_sdk.source import Snapshot, Source
    from kubetls_sdk.spiffe_id import SpiffeId
    from kubetls_sdk.verification import VerifiedPeer

__all__ = (
    "PeerVerdict",
    "PeerVerdicts",
    "Presented",
    "presented_by",
    "presented_to_thread",
)

_auth_context: Any = getattr(cygrpc, "auth_context", None)

REMEMBERED = 4096
REMEMBERED_METHODS = 256

Presented = tuple[bytes, bytes, bytes]
"""What gRPC says that a peer presented: PEM of the leaf, PEM of the rest; and the TLS version."""

_OLD_TLS = (b"TLSv1.2", b"TLSv1.1", b"TLSv1")


class PeerVerdict:
    """What one generation of a source says about one presented chain.

    Attributes:
        caller: The peer, as applications see it; anonymous when it is refused.
        claimed: The identity that a refused peer claims.
        expires_at: Seconds since the epoch.
        presented: What it rests on.
        reason: Why the peer is refused, or None.
        snapshot: Of the source.
        allowed: A policy, and the methods that it lets this peer call whatever else a call has.
    """

    __slots__ = ("allowed", "caller", "claimed", "expires_at", "presented", "reason", "snapshot")

    def __init__(self, presented: Presented, snapshot: Snapshot, peer: VerifiedPeer) -> None:
        self.presented = presented
        self.snapshot = snapshot
        self.caller = Caller.of(peer)
        self.claimed: SpiffeId | None = None
        self.expires_at = peer.expires_at.timestamp()
        self.reason: str | None = None
        # One value, so that no thread sees one policy with the methods of another.
        self.allowed: tuple[object, set[str]] = (None, set())

    @property
    def generation(self) -> int:
        """Of the source."""
        return self.snapshot.generation

    @property
    def tls(self) -> str | None:
        """The version of TLS, where gRPC tells."""
        return self.presented[2].decode() or None

    @classmethod
    def refused(
        cls, presented: Presented, snapshot: Snapshot, err: PeerVerificationError
    ) -> PeerVerdict:
        """The verdict about a peer that proved nothing."""
        verdict = cls.__new__(cls)
        verdict.presented = presented
        verdict.snapshot = snapshot
        verdict.caller = ANONYMOUS
        verdict.claimed = err.spiffe_id
        verdict.expires_at = float("inf")
        verdict.reason = err.reason
        verdict.allowed = (None, set())
        return verdict

    def allow(self, policy: object, method: str) -> None:
        """Remember that a policy lets this peer call a method, whatever else a call has."""
        known, methods = self.allowed
        if known is not policy or len(methods) >= REMEMBERED_METHODS:
            methods = set()
            self.allowed = (policy, methods)
        methods.add(method)


class PeerVerdicts:
    """The verdicts of one server.

    Args:
        source: Whom we trust, asked at each call.
        intermediates: What completes a chain that gRPC does not hand over.
        allow_tls12: Whether peers may come over TLS 1.2, which gRPC cannot be told to refuse.
    """

    __slots__ = ("_allow_tls12", "_intermediates", "_known", "_source")

    def __init__(
        self,
        source: Source,
        intermediates: Sequence[x509.Certificate] = (),
        *,
        allow_tls12: bool = False,
    ) -> None:
        self._source = source
        self._allow_tls12 = allow_tls12
        self._intermediates = tuple(intermediates)
        # One attribute, so that no thread can file a verdict under another generation.
        self._known: tuple[Snapshot | None, dict[Presented, PeerVerdict]] = (None, {})

    def about(self, presented: Presented) -> PeerVerdict:
        """Judge a presented chain by the current generation and the clock.

        Raises:
            CredentialError: The source has no snapshot to judge by.
        """
        snapshot = self._source.snapshot
        known = self._known
        if known[0] is not snapshot or len(known[1]) > REMEMBERED:
            known = self._known = (snapshot, {})
        verdict = known[1].get(presented)
        if verdict is None or time() > verdict.expires_at:
            verdict = known[1][presented] = self._verify(presented, snapshot)
        return verdict

    def reason_against(self, verdict: PeerVerdict) -> str | None:
        """Say why a peer that was admitted is refused now, or None."""
        try:
            if verdict.snapshot is self._source.snapshot and time() <= verdict.expires_at:
                return None
            return self.about(verdict.presented).reason
        except CredentialError as err:
            return f"our own credentials are not available: {err}"

    def _verify(self, presented: Presented, snapshot: Snapshot) -> PeerVerdict:
        try:
            chain = self._chain(presented)
            peer = verify_svid(chain, bundles=snapshot.bundles, now=datetime.now(UTC))
        except PeerVerificationError as err:
            return PeerVerdict.refused(presented, snapshot, err)
        return PeerVerdict(presented, snapshot, peer)

    def _chain(self, presented: Presented) -> list[x509.Certificate]:
        leaf_pem, rest_pem, tls = presented
        if not leaf_pem:
            raise PeerVerificationError("it presented no certificate")
        if tls in _OLD_TLS and not self._allow_tls12:
            raise PeerVerificationError(f"expected TLS 1.3, got {tls.decode()}")
        try:
            leaf = x509.load_pem_x509_certificate(leaf_pem)
            rest = x509.load_pem_x509_certificates(rest_pem) if rest_pem else self._intermediates
            return [leaf, *(certificate for certificate in rest if certificate != leaf)]
        except MALFORMED as err:
            raise PeerVerificationError(f"expected X.509 certificates: {err}") from err


def presented_by(context: Any) -> Presented:
    """Read the auth context of a call."""
    found = context.auth_context()
    return (
        _first(found, "x509_pem_cert"),
        _first(found, "x509_pem_cert_chain"),
        _first(found, "ssl_tls_version"),
    )


def presented_to_thread(context: Any) -> Presented:
    """Read it of a call of a threaded server: what is behind `auth_context()`, a third of its cost.

    That one decodes a dozen keys, of which nobody needs more than three.
    """
    try:
        found = _auth_context(context._rpc_event.call) or {}  # noqa: SLF001 - see above
    except (AttributeError, TypeError):  # another version of gRPC, or a context in a wrapper
        return presented_by(context)
    return (
        _first(found, b"x509_pem_cert"),
        _first(found, b"x509_pem_cert_chain"),
        _first(found, b"ssl_tls_version"),
    )


def _first(found: Mapping[Any, Sequence[bytes]], key: str | bytes) -> bytes:
    values = found.get(key)
    return values[0] if values else b""
