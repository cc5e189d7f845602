# SPDX-License-Identifier: Apache-2.0
"""TLS handshakes in memory, step by step, with errors kept on the side that has them."""

from __future__ import annotations

import ssl

from tests.integration.origin import load_chain


class Handshake:
    """Two TLS objects that talk through memory.

    Attributes:
        client: Its `SSLObject`.
        server: Its `SSLObject`.
        client_error: What its handshake raised, or None.
        server_error: Likewise.
    """

    def __init__(self, client_context, server_context, *, hostname="orders", session=None):
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.to_client, self.to_server = to_client, to_server
        self.client = client_context.wrap_bio(
            to_client, to_server, server_hostname=hostname, session=session
        )
        self.server = server_context.wrap_bio(to_server, to_client, server_side=True)
        self.client_error = self.server_error = None
        self.client_done = self.server_done = False

    @classmethod
    def run(cls, client_context, server_context, **options):
        """Go through the whole handshake."""
        return cls(client_context, server_context, **options).finish()

    def finish(self):
        """Go on until both sides are done or have failed."""
        for _ in range(20):
            self.step_client()
            self.step_server()
        return self

    def step_client(self):
        """Let the client do what it can."""
        if not self.client_done and self.client_error is None:
            self.client_done, self.client_error = _step(self.client)

    def step_server(self):
        """Let the server do what it can."""
        if not self.server_done and self.server_error is None:
            self.server_done, self.server_error = _step(self.server)

    @property
    def succeeded(self):
        """Whether both sides are content."""
        return self.client_done and self.server_done

    def echo(self, data=b"hello"):
        """Send data to the server and back."""
        self.client.write(data)
        got = self.server.read(len(data))
        self.server.write(got)
        return self.client.read(len(data))


def _step(side):
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False, None
    except ssl.SSLError as err:
        return False, err
    return True, None


def stock_client(chain=None, *, roots=None, version=None):
    """A client context without us, that accepts every server or those under PEM roots.

    Args:
        chain: What it presents: an `IssuedChain` or `X509Svid`, or nothing.
        roots: PEM, or None to accept everybody.
        version: The only TLS version that it speaks.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if roots is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=roots.decode())
    if chain is not None:
        load_chain(context, chain)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context
