# SPDX-License-Identifier: Apache-2.0
"""Certificates that no library would issue: edited bytes under a true signature, on the wire."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from types import SimpleNamespace

import pytest
import uvicorn
from cryptography.hazmat.primitives import hashes

from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.mutual_tls import MutualTls
from kubetls_sdk.testing import DevelopmentCA
from tests.chains import der, resign
from tests.integration.serving import World, exchange, run_in_thread, serve, stock_context
from tests.waiting import until

VERSION = (bytes.fromhex("a003020102"), bytes.fromhex("a003020104"))  # v3 becomes "v5"
BITS_AS_NAME = (der(0x0C, b"web"), der(0x03, b"\0eb"))
ESCAPE_IN_URI = (b"/sa/web", b"/\x1b[2J\n\n")
NUL_IN_URI = (b"/sa/web", b"/sa/w\0b")


@pytest.fixture
def world():
    return World()


def edited(ca, edit, signer=None):
    """A leaf of `ca` with other bytes, signed by `ca` or by somebody else."""
    svid = ca.issue("/ns/shop/sa/web", common_name="web")
    old, new = edit
    assert svid.leaf.tbs_certificate_bytes.count(old) == 1
    tbs = svid.leaf.tbs_certificate_bytes.replace(old, new)
    key = (signer or ca).root.private_key
    body = base64.encodebytes(resign(svid.leaf, tbs, key, hashes.SHA256()))
    pem = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
    return SimpleNamespace(certificates_pem=lambda: pem, private_key_pem=svid.private_key_pem)


def attack(world, serving, chain):
    with pytest.raises((ConnectionError, ssl.SSLError)):
        exchange(serving.connect(stock_context(chain, world.ca.bundle)))


class TestRefused:
    """Each is one plain line in the log, whoever signed it."""

    @pytest.mark.parametrize(
        "edit",
        [
            pytest.param(VERSION, id="version"),
            pytest.param(ESCAPE_IN_URI, id="escape-in-uri"),
            pytest.param(NUL_IN_URI, id="nul-in-uri"),
        ],
    )
    @pytest.mark.parametrize("signer", [None, DevelopmentCA("example.org")], ids=["ours", "theirs"])
    def test_gate(self, world, caplog, edit, signer):
        """The second one as well, whose certificate is recorded to be named."""
        with serve(world) as serving:
            for count in (1, 2):
                attack(world, serving, edited(world.ca, edit, signer))
                until(lambda count=count: len(caplog.records) == count)
        assert not world.application.scopes
        for record in caplog.records:
            assert record.getMessage().startswith("refused handshake of 127.0.0.1:")
            assert record.getMessage().isprintable()
            assert record.exc_info is None
            assert "Error" not in record.getMessage()
            assert "InvalidVersion" not in record.getMessage()

    def test_own_listener(self, world, caplog):
        """Where the event loop does the handshake, it has nothing to complain about."""
        tls = MutualTls(source=world.source)
        app = KubeTLSMiddleware(world.application, policy=AnyVerified())
        config = uvicorn.Config(app, ssl_context_factory=tls.ssl_context, log_config=None)
        signer = DevelopmentCA("example.org")
        with run_in_thread(config) as serving:
            for count in (1, 2):
                attack(world, serving, edited(world.ca, VERSION, signer))
                until(lambda count=count: caplog.text.count("refused handshake") == count)
        tls.close()
        assert not [record for record in caplog.records if record.exc_info]

    @pytest.mark.parametrize("edit", [VERSION, BITS_AS_NAME, NUL_IN_URI])
    def test_presented(self, world, edit):
        """Under a server that is not ours it is a 401, not a crash."""
        chain = edited(world.ca, edit, DevelopmentCA("example.org"))
        middleware = KubeTLSMiddleware(world.application, policy=AnyVerified(), source=world.source)
        sent = []

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "raw_path": b"/",
            "headers": [(b"host", b"orders")],
            "extensions": {"tls": {"client_cert_chain": [chain.certificates_pem().decode()]}},
        }
        asyncio.run(middleware(scope, None, send))
        assert sent[0]["status"] == 401
        assert not world.application.scopes


class TestAccepted:
    def test_unreadable_subject(self, world, caplog):
        """A subject proves nothing: a caller whose subject nobody can read is served all the same.

        It was a traceback in the log for each connection.
        """
        caplog.set_level(logging.WARNING)
        with serve(world) as serving:
            chain = edited(world.ca, BITS_AS_NAME)
            connection = serving.connect(stock_context(chain, world.ca.bundle))
            assert exchange(connection)[2] == b"spiffe://example.org/ns/shop/sa/web"
        assert world.application.scopes[0]["extensions"]["tls"]["client_cert_name"] is None
        assert not caplog.records
