# SPDX-License-Identifier: Apache-2.0
"""Our verdict beside OpenSSL's on thousands of generated chains: the same, or stricter on purpose.

`STRICTER` is the whole list of differences. In one more case we accept where OpenSSL does not: its
search takes the first issuer of a fitting name and does not come back from a dead end. There the
path that we found is shown to OpenSSL alone, and it must accept that.
"""

from __future__ import annotations

import re
import ssl
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import (
    BundleError,
    PeerVerificationError,
    TrustBundle,
    TrustBundleSet,
    TrustDomain,
    verify_svid,
)
from kubetls_sdk._path import find_path
from kubetls_sdk._profile import MALFORMED
from tests.chain_mutations import MUTATIONS, chains
from tests.openssl_verdict import Oracle, pem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chains import Chain

DOMAIN = TrustDomain("example.org")
COUNT = 2500
ROLES = {"purposes", "leaf usage", "special extension", "edited", "edited again"}
"""Mutations after which it may matter whether a client or a server presents the chain."""
SEED = 3


@dataclass(frozen=True)
class Difference:
    """A refusal of ours where OpenSSL accepts.

    Attributes:
        reason: What our refusal says, as a regular expression.
        why: Why we are stricter.
        label: The mutation that must be in play; None when the reason says it all.
    """

    reason: str
    why: str
    label: str | None = None


STRICTER = (
    Difference(
        "^expected (a |exactly one )?(KeyUsage|ExtendedKeyUsage|SPIFFE ID|URI SAN|leaf)",
        "X509-SVID §2, §4: the leaf profile",
    ),
    Difference("^expected a CA as authority", "X509-SVID §6: an authority says cA=true"),
    Difference("malformed", "what our parser cannot read is refused", "edited"),
    Difference("unsupported extension", "RFC 3779 and 3820, Netscape types: not implemented"),
    Difference("key on the curve", "P-256, P-384 and P-521 only, as for our own keys"),
    Difference("a key that is not EC, RSA or Ed25519", "Ed448: not among our own keys"),
    Difference("path of at most 10|chain of 1 to 10", "MAX_CHAIN bounds the work of a search"),
    Difference("minimum or maximum", "RFC 5280 §4.2.1.10 forbids them, on every name form"),
    Difference("trailing dot", "RFC 5280 §4.2.1.6: not a DNS name; readers disagree on it"),
    Difference("plain host on both sides", "user information, a query, an empty base: ambiguous"),
    Difference(
        "no authority of the bundle issued",
        "names chain byte for byte, as in Go and in our own SVIDs",
        "respelled issuer name",
    ),
)

RARE = (
    Difference("is signed with sha3", "SHA-3: OpenSSL 3.0 knows it under RSA, not under ECDSA"),
    Difference("OtherName are not supported", "RFC 8398 mailboxes under email constraints"),
    Difference(
        "names itself as its issuer", "OpenSSL also looks whether the key could have signed"
    ),
    Difference("^expected well-formed", "what our parser cannot read is refused", "edited"),
)
"""Differences that the seed of this test need not show; others do."""


@dataclass(frozen=True)
class Verdict:
    """What both say about one chain; `theirs` is None when OpenSSL cannot even present it."""

    chain: Chain
    path: tuple[x509.Certificate, ...] | None
    reason: str
    theirs: bool | None

    @property
    def labels(self) -> str:
        return ", ".join(self.chain.labels)


def ours(chain: Chain) -> tuple[tuple[x509.Certificate, ...] | None, str]:
    """The path that we find, or None and the reason."""
    now = datetime.now(UTC)  # OpenSSL reads the clock.
    try:
        presented = _parsed([chain.leaf, *chain.intermediates])
        bundle = TrustBundle(DOMAIN, tuple(_parsed(chain.authorities)))
        verify_svid(presented, bundles=TrustBundleSet([bundle]), now=now)
    except PeerVerificationError as err:
        return None, err.reason
    except BundleError as err:
        return None, str(err)
    except MALFORMED as err:
        return None, f"malformed: {err}"
    return find_path(presented[0], presented[1:], bundle.authorities, now=now), ""


def theirs(chain: Chain, oracle: Oracle) -> bool | None:
    presented = [chain.leaf, *chain.intermediates]
    is_client = not ROLES.isdisjoint(chain.labels)
    try:
        return oracle.accepts(presented, chain.key, chain.authorities, is_client=is_client)
    except ssl.SSLError:
        return None


def replayed(verdict: Verdict, oracle: Oracle) -> bool:
    """Whether OpenSSL accepts the path that we found, shown nothing else."""
    path = [certificate.public_bytes(Encoding.DER) for certificate in verdict.path or ()]
    return oracle.accepts(path[:-1], verdict.chain.key, path[-1:])


def has_namesakes(path: Sequence[x509.Certificate]) -> bool:
    """Whether two issuers on a path have one name: then OpenSSL may miss even this path alone."""
    names = [certificate.subject for certificate in path[1:]]
    return len(set(names)) < len(names)


def _parsed(ders: Sequence[bytes]) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(der) for der in ders]


def _explains(difference: Difference, verdict: Verdict) -> bool:
    return bool(re.search(difference.reason, verdict.reason)) and (
        difference.label is None or difference.label in verdict.labels
    )


@pytest.fixture(scope="module")
def oracle(tmp_path_factory) -> Oracle:
    server = chains(seed=0, count=1)[0]
    return Oracle(tmp_path_factory.mktemp("oracle"), pem([server.leaf], server.key))


@pytest.fixture(scope="module")
def verdicts(oracle) -> list[Verdict]:
    """Both verdicts on every chain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Parsers warn of much that is odd in these chains.
        cases = chains(SEED, COUNT)
        return [Verdict(case, *ours(case), theirs(case, oracle)) for case in cases]


class TestVerdicts:
    """The comparison; each test reads the same verdicts."""

    def test_are_never_laxer(self, verdicts, oracle) -> None:
        """What we accept, OpenSSL accepts, if need be when shown our path alone."""
        suspects = [v for v in verdicts if v.path and not v.theirs]
        laxer = [v for v in suspects if not has_namesakes(v.path) and not replayed(v, oracle)]
        assert [v.labels for v in laxer] == []

    def test_are_stricter_only_as_listed(self, verdicts) -> None:
        """What OpenSSL accepts and we refuse has a row in the table."""
        refused = [v for v in verdicts if v.theirs and v.path is None]
        unlisted = [v for v in refused if not any(_explains(row, v) for row in STRICTER + RARE)]
        assert [(v.labels, v.reason) for v in unlisted] == []

    @pytest.mark.parametrize("row", STRICTER, ids=range(len(STRICTER)))
    def test_list_has_no_dead_row(self, verdicts, row) -> None:
        """Each difference in the table occurs."""
        assert any(v.theirs and v.path is None and _explains(row, v) for v in verdicts)

    def test_cover_both_answers_and_each_mutation(self, verdicts) -> None:
        """The generator makes good and bad chains, and few that cannot be presented."""
        answers = Counter(v.theirs for v in verdicts)
        assert answers[True] > COUNT / 4
        assert answers[False] > COUNT / 4
        assert answers[None] < COUNT / 40
        refused = {label for v in verdicts if v.path is None for label in v.chain.labels}
        assert refused == set(MUTATIONS)

    def test_include_paths_that_openssl_misses(self, verdicts, oracle) -> None:
        """Our search comes back from dead ends; OpenSSL then agrees to the path it missed."""
        missed = [v for v in verdicts if v.path and v.theirs is False]
        assert any(replayed(v, oracle) for v in missed)
        assert len(missed) < COUNT / 50
