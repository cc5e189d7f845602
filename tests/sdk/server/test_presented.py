# SPDX-License-Identifier: Apache-2.0
"""Identities under a server that fills the ASGI TLS extension by itself."""

from __future__ import annotations

import pytest

from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyCaller, AnyVerified
from kubetls_sdk.server.caller import caller
from tests.sdk.server.scopes import Recorder, World, call, http_scope


@pytest.fixture
def world():
    return World()


@pytest.fixture
def app():
    return Recorder()


def pems(svid):
    """The chain as a server puts it into the scope."""
    end = "-----END CERTIFICATE-----\n"
    return tuple(part + end for part in svid.certificates_pem().decode().split(end) if part)


def scope_with(**tls):
    return http_scope(extensions={"tls": tls})


def status(sent):
    return sent[0]["status"]


class TestPresentedChain:
    def test_verified(self, world, app):
        """The chain is verified here, and the application knows the caller."""
        middleware = KubeTLSMiddleware(app, policy=AnyVerified(), source=world.source)
        assert status(call(middleware, scope_with(client_cert_chain=pems(world.svid)))) == 204
        assert str(caller(app.scopes[0])) == "spiffe://example.org/ns/shop/sa/web"

    @pytest.mark.parametrize("form", [tuple, list, iter])
    def test_forms(self, world, app, form):
        """Any iterable of PEM is a chain, with or without the keys of version 0.2."""
        middleware = KubeTLSMiddleware(app, policy=AnyVerified(), source=world.source)
        web = world.ca.issue("/ns/shop/sa/web", intermediates=1)
        scope = scope_with(client_cert_chain=form(pems(web)), spec_version="0.3", client_cert=b"")
        assert status(call(middleware, scope)) == 204

    @pytest.mark.parametrize(
        "attacker",
        [
            pytest.param(lambda w: pems(World().ca.issue("/a")), id="untrusted"),
            pytest.param(lambda w: pems(w.partner.issue_for("example.org", "/a")), id="forged"),
            pytest.param(lambda w: pems(w.ca.issue_faulty("two_uris")), id="two-uris"),
            pytest.param(lambda w: pems(w.ca.issue_faulty("expired")), id="expired"),
            pytest.param(lambda w: ("hello",), id="not-pem"),
            pytest.param(lambda w: (b"hello",), id="bytes"),
            pytest.param(lambda w: pems(w.svid) * 100, id="hundred"),
        ],
    )
    def test_refused(self, world, app, attacker, caplog):
        """A chain that proves nobody gets 401 and a line in the log."""
        middleware = KubeTLSMiddleware(app, policy=AnyCaller(), source=world.source, optional=True)
        assert status(call(middleware, scope_with(client_cert_chain=attacker(world)))) == 401
        assert app.scopes == []
        assert "refused handshake of 10.0.0.7:4711" in caplog.text

    def test_address_from_a_header(self, world, app, caplog):
        """Where the server believes `X-Forwarded-For`, it cannot drive the terminal of the log."""
        middleware = KubeTLSMiddleware(app, policy=AnyVerified(), source=world.source)
        scope = scope_with(client_cert_chain=("hello",)) | {"client": ("\x1b[2Jevil", 0)}
        assert status(call(middleware, scope)) == 401
        assert "\\x1b[2Jevil" in caplog.text
        assert "\x1b" not in caplog.text

    @pytest.mark.parametrize("error", ["expired", ""], ids=repr)
    def test_error_of_the_server(self, world, app, error):
        """What the server reports as an error is unauthenticated, whatever the chain says."""
        middleware = KubeTLSMiddleware(app, policy=AnyCaller(), source=world.source, optional=True)
        scope = scope_with(client_cert_chain=pems(world.svid), client_cert_error=error)
        assert status(call(middleware, scope)) == 401

    def test_no_certificate(self, world, app):
        """Without a chain the caller is anonymous: refused, or seen by the policy."""
        for optional, expected in ((False, 401), (True, 204)):
            middleware = KubeTLSMiddleware(
                app, policy=AnyCaller(), source=world.source, optional=optional
            )
            assert status(call(middleware, scope_with(client_cert_chain=()))) == expected
            assert status(call(middleware, scope_with())) == expected

    def test_removed_root(self, world, app):
        """A chain that was verified before is refused once its root is gone."""
        middleware = KubeTLSMiddleware(app, policy=AnyVerified(), source=world.source)
        chain = pems(world.svid)
        assert status(call(middleware, scope_with(client_cert_chain=chain))) == 204
        world.distrust()
        assert status(call(middleware, scope_with(client_cert_chain=chain))) == 401

    def test_verified_once(self, world, app, monkeypatch):
        """A chain is verified once, not at each request."""
        middleware = KubeTLSMiddleware(app, policy=AnyVerified(), source=world.source)
        chain = pems(world.svid)
        call(middleware, scope_with(client_cert_chain=chain))
        monkeypatch.setattr("kubetls_sdk.server.presented.verify_svid", None)
        assert status(call(middleware, scope_with(client_cert_chain=chain))) == 204


class TestMisconfigured:
    def test_no_extension(self, app, caplog):
        """Without a TLS extension everything is refused, with one line that says what to do."""
        middleware = KubeTLSMiddleware(app, policy=AnyCaller(), optional=True)
        for _ in range(3):
            assert status(call(middleware, http_scope(extensions=None))) == 500
        assert app.scopes == []
        assert caplog.text.count("MutualTls()") == 1

    def test_no_source(self, world, app, caplog):
        """A foreign server needs a source to verify with."""
        middleware = KubeTLSMiddleware(app, policy=AnyCaller(), optional=True)
        assert status(call(middleware, scope_with(client_cert_chain=pems(world.svid)))) == 500
        assert "source=" in caplog.text
