# SPDX-License-Identifier: Apache-2.0
"""The path validator: from a leaf, over intermediates in any order, to an authority of a bundle.

Rules:
    1. Pure: no clock, no file, no socket, no network; `now` is an argument.
    2. An authority is trusted because it is in the bundle, self-signed or not, and ends the path.
       Its own signature is not checked; its validity, constraints and usages are.
    3. Never laxer than OpenSSL with partial chains: whatever path this finds, OpenSSL accepts too.
       Stricter where noted in the tests.
    4. The search backs out of dead ends, so the order and surplus of what a peer sends do not
       matter; its work is bounded by `MAX_SIGNATURE_CHECKS`.
    5. A refusal gives the reason of the path that came furthest.

Spec: RFC 5280 §6.1; RFC 4158 §2 (path building).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from kubetls_sdk._issuer import (
    OutdatedError,
    PathError,
    SignatureMismatchError,
    check_certificate,
    check_issuer,
    check_signature,
    claims_to_be_a_root,
    describe,
    is_self_issued,
    key_identifiers_agree,
)
from kubetls_sdk._name_constraints import check_names
from kubetls_sdk._profile import MALFORMED
from kubetls_sdk.svid import MAX_CHAIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509

__all__ = ("MAX_SIGNATURE_CHECKS", "PathError", "find_path")

MAX_SIGNATURE_CHECKS = 64
"""How many signatures one search checks at most; an honest path needs one for each certificate."""

# How near a failed step came; the greatest is reported.
_NOBODY, _OTHER_KEY, _OUTDATED, _REFUSED = range(4)


def find_path(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    *,
    now: datetime,
) -> tuple[x509.Certificate, ...]:
    """Find a valid certification path for a leaf.

    Does not check the leaf's profile, its names or possession of its key.

    Args:
        leaf: The certificate to verify.
        intermediates: What the peer sent besides, in any order; surplus ones are ignored.
        authorities: The trust anchors, of one trust domain; empty trusts nobody.
        now: Aware UTC time of the check.

    Returns:
        Leaf first, the anchor last; 2 to `MAX_CHAIN` certificates.

    Raises:
        PathError: There is no valid path; the message says which certificate fails and why.
        TypeError: `now` is naive.

    Spec: RFC 5280 §6.1.
    """
    if now.tzinfo is None:
        raise TypeError("expected an aware time")
    if not authorities:
        raise PathError("the trust bundle is empty: it trusts nobody")
    check_certificate(leaf, now=now)
    search = _Search(intermediates, authorities, now)
    found = search.climb((leaf,))
    if found is None:
        raise PathError(search.reason)
    return found


class _Search:
    """Depth first, authorities before intermediates; remembers the best reason for a refusal."""

    def __init__(
        self,
        intermediates: Sequence[x509.Certificate],
        authorities: Sequence[x509.Certificate],
        now: datetime,
    ) -> None:
        self._anchors = _by_subject(authorities)
        self._intermediates = _by_subject(intermediates)
        self._now = now
        self._checks_left = MAX_SIGNATURE_CHECKS
        self._furthest = (0, 0, 0)
        self.reason = ""

    def climb(self, path: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...] | None:
        """Complete a path upwards, or return None after noting why that fails."""
        issuer_name = path[-1].issuer.public_bytes()
        self._note(path, _NOBODY, f"no authority of the bundle issued {describe(path[-1])}")
        if claims_to_be_a_root(path[-1]):
            self._note(path, _REFUSED, f"{describe(path[-1])} names itself as its issuer")
            return None
        for anchor in self._anchors[issuer_name]:
            if self._is_step(path, anchor, at_anchor=True) and self._are_names_allowed(
                (*path, anchor)
            ):
                return (*path, anchor)
        for issuer in self._intermediates[issuer_name]:
            if issuer in path or not self._is_step(path, issuer):
                continue
            if len(path) + 2 > MAX_CHAIN:
                self._note(path, _REFUSED, f"expected a path of at most {MAX_CHAIN} certificates")
                continue
            found = self.climb((*path, issuer))
            if found is not None:
                return found
        return None

    def _is_step(
        self,
        path: tuple[x509.Certificate, ...],
        issuer: x509.Certificate,
        *,
        at_anchor: bool = False,
    ) -> bool:
        child = path[-1]
        if not key_identifiers_agree(child, issuer):
            return False
        try:
            check_certificate(issuer, now=self._now)
            below = sum(not is_self_issued(certificate) for certificate in path[1:])
            check_issuer(issuer, intermediates_below=below)
            self._spend_check()
            check_signature(child, issuer)
        except SignatureMismatchError as err:
            self._note(path, _OTHER_KEY, str(err))
            return False
        except OutdatedError as err:
            self._note(path, _OUTDATED, str(err), at_anchor=at_anchor)
            return False
        except PathError as err:
            self._note(path, _REFUSED, str(err), at_anchor=at_anchor)
            return False
        return True

    def _are_names_allowed(self, path: tuple[x509.Certificate, ...]) -> bool:
        # Only here, below a signature of an authority: strangers cannot make us compare names.
        try:
            check_names(path)
        except PathError as err:
            self._note(path, _REFUSED, str(err), at_anchor=True)
            return False
        return True

    def _spend_check(self) -> None:
        if self._checks_left == 0:
            raise PathError("too many ways to build a path: gave up")
        self._checks_left -= 1

    def _note(
        self,
        path: Sequence[x509.Certificate],
        nearness: int,
        reason: str,
        *,
        at_anchor: bool = False,
    ) -> None:
        """Keep the best reason: an authority was refused, else of the longest path."""
        rank = (int(at_anchor), len(path), nearness)
        if rank > self._furthest:
            self._furthest = rank
            self.reason = reason


def _by_subject(
    certificates: Sequence[x509.Certificate],
) -> defaultdict[bytes, list[x509.Certificate]]:
    found: defaultdict[bytes, list[x509.Certificate]] = defaultdict(list)
    for certificate in certificates:
        try:
            found[certificate.subject.public_bytes()].append(certificate)
        except MALFORMED:
            continue  # A certificate without a readable name has issued nothing.
    return found
