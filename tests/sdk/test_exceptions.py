# SPDX-License-Identifier: Apache-2.0
"""The errors: one root, the right branch, and the attributes that tests and logs rely on."""

from __future__ import annotations

import copy
import pickle
import ssl

import pytest

from kubetls_sdk import exceptions
from kubetls_sdk.exceptions import (
    ConfigurationError,
    CredentialError,
    KubeTLSError,
    PeerError,
    PeerUnauthorizedError,
    PeerVerificationError,
    PolicyError,
    SpiffeIdError,
    SvidError,
)
from kubetls_sdk.spiffe_id import SpiffeId

WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")


class TestTree:
    """The branch says who is at fault."""

    @pytest.mark.parametrize("name", exceptions.__all__)
    def test_has_one_root(self, name: str) -> None:
        """Every error is caught by `KubeTLSError`."""
        assert issubclass(getattr(exceptions, name), KubeTLSError)

    @pytest.mark.parametrize(
        ("error", "parents"),
        [
            (ConfigurationError, (ValueError,)),
            (PolicyError, (ConfigurationError,)),
            (SpiffeIdError, (ValueError,)),
            (SvidError, (CredentialError,)),
            (PeerVerificationError, (PeerError, ssl.SSLCertVerificationError)),
            (PeerUnauthorizedError, (PeerError, ssl.SSLCertVerificationError)),
        ],
    )
    def test_is_caught_where_people_catch(self, error: type, parents: tuple[type, ...]) -> None:
        """Second parents are the standard library's own."""
        assert all(issubclass(error, parent) for parent in parents)

    def test_keeps_us_and_them_apart(self) -> None:
        """A fault of a peer is none of our credential."""
        assert not issubclass(PeerError, CredentialError)
        assert not issubclass(CredentialError, ssl.SSLError)


class TestMessages:
    """One clause, with the value in `repr`."""

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (PolicyError("no such key"), "no such key"),
            (PolicyError("no such key", file="p.yaml"), "p.yaml: no such key"),
            (PolicyError("bad", file="p.yaml", line=3, rule="r"), "p.yaml:3: rule 'r': bad"),
            (CredentialError("is empty", path="/run/x"), "/run/x: is empty"),
            (CredentialError("is empty"), "is empty"),
            (SpiffeIdError("a\n", "expected b"), r"expected b, got 'a\n'"),
            (PeerVerificationError("it expired"), "peer is not verified: it expired"),
            (
                PeerVerificationError("it expired", spiffe_id=WEB),
                f"peer that claims '{WEB}' is not verified: it expired",
            ),
            (
                PeerUnauthorizedError(expected="'spiffe://a/b'", spiffe_id=WEB),
                f"peer is refused: expected 'spiffe://a/b', got '{WEB}'",
            ),
        ],
    )
    def test_reads_as_a_clause(self, error: Exception, message: str) -> None:
        """The text is the same in every form."""
        assert str(error) == message

    def test_shortens_a_long_value(self) -> None:
        """A peer cannot flood a log with its name."""
        error = SpiffeIdError("x" * 10_000, "expected a name")
        assert len(str(error)) < 200
        assert len(error.value) == 10_000


class TestPeerErrors:
    """They behave as the errors of a handshake."""

    @pytest.mark.parametrize(
        "error",
        [
            PeerVerificationError("it expired", spiffe_id=WEB),
            PeerUnauthorizedError(expected="'spiffe://a/b'", spiffe_id=WEB),
        ],
        ids=["unverified", "unauthorized"],
    )
    def test_carry_what_a_handshake_error_has(self, error) -> None:
        """Code that reads the fields of `SSLCertVerificationError` finds them."""
        assert error.errno == ssl.SSL_ERROR_SSL
        assert error.verify_message == error.reason
        assert error.verify_code == 50  # X509_V_ERR_APPLICATION_VERIFICATION
        assert error.spiffe_id == WEB

    @pytest.mark.parametrize(
        "error",
        [
            PolicyError("bad", file="p.yaml", line=3, rule="r"),
            SpiffeIdError("a\n", "expected b"),
            CredentialError("is empty", path="/run/x"),
            PeerVerificationError("it expired", spiffe_id=WEB),
            PeerUnauthorizedError(expected="'spiffe://a/b'", spiffe_id=WEB),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("through", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301
    def test_survive_a_copy(self, error, through) -> None:
        """An error that crosses a process pool arrives as itself, with its attributes."""
        again = through(error)
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
