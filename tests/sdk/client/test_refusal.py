# SPDX-License-Identifier: Apache-2.0
"""Who refused whom, in the library's own errors."""

from __future__ import annotations

import importlib
import ssl

import pytest

from kubetls_sdk import PeerUnauthorizedError, SpiffeId
from kubetls_sdk.client._refusal import explained

OWN = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
REFUSAL = PeerUnauthorizedError(expected="'spiffe://example.org/a'", spiffe_id=OWN)


@pytest.fixture(params=["httpx", "httpx2"])
def library(request):
    return importlib.import_module(request.param)


def caused(err, cause):
    err.__cause__ = cause
    return err


def explain(err, library, **options):
    return explained(err, library, **{"own": OWN, "has_answered": False, **options})


def test_server_that_we_refuse(library):
    """Our refusal becomes the direct cause of a ConnectError with our words."""
    err = explain(caused(library.ConnectError("x"), caused(OSError(), REFUSAL)), library)
    assert isinstance(err, library.ConnectError)
    assert err.__cause__ is REFUSAL
    assert str(err) == str(REFUSAL)


def test_cause_that_a_pool_has_hidden(library):
    """`raise err from None` hides a cause from tracebacks, not from us."""
    hidden = OSError()
    hidden.__context__ = REFUSAL
    hidden.__suppress_context__ = True
    assert explain(caused(library.ConnectError("x"), hidden), library).__cause__ is REFUSAL


def test_what_was_handled_before(library):
    """A refusal that the caller was handling is no part of this error's story."""
    earlier = caused(library.ConnectError("earlier"), REFUSAL)
    hidden = OSError()
    hidden.__context__ = earlier
    hidden.__suppress_context__ = True
    err = caused(library.ConnectError("x"), hidden)
    assert explain(err, library, handled=earlier) is err


def test_circular_chain(library):
    """A chain that bites its tail ends."""
    first, second = library.ConnectError("x"), OSError()
    first.__cause__, second.__cause__ = second, first
    assert explain(first, library) is first


@pytest.mark.parametrize("kind", ["ReadError", "WriteError", "RemoteProtocolError"])
def test_server_that_refuses_us(library, kind):
    """What broke right after the handshake keeps its type and says what it probably means."""
    original = getattr(library, kind)("gone")
    err = explain(original, library)
    assert type(err) is type(original)
    assert err.__cause__ is original
    assert f"refused our SPIFFE ID {str(OWN)!r}" in str(err)
    assert "gone" in str(err)


def test_alert(library):
    """A TLS alert is a refusal for sure, also on an origin that has answered before."""
    alert = ssl.SSLError(1, "x")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    err = explain(caused(library.ReadError("x"), alert), library, has_answered=True)
    assert "TLSV13_ALERT_CERTIFICATE_REQUIRED" in str(err)


@pytest.mark.parametrize(
    "kind", ["ReadTimeout", "PoolTimeout", "ConnectError", "LocalProtocolError"]
)
def test_other_errors(library, kind):
    """What says nothing about trust stays what it is."""
    err = getattr(library, kind)("x")
    assert explain(err, library) is err


def test_origin_that_has_answered(library):
    """Who has answered under this generation has accepted us; it broke for another reason."""
    err = library.ReadError("x")
    assert explain(err, library, has_answered=True) is err
