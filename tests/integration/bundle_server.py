# SPDX-License-Identifier: Apache-2.0
"""A bundle endpoint for tests of the client: it answers as a test wants, rightly or wrongly.

The ways to answer wrongly are functions that get the handler of one request.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading

from kubetls_sdk.federation.bundle_document import to_jwks


def web_context(ca, *names):
    """A server's, with a certificate of the web's for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    ca.configure_trust(context)
    return context


class BundleServer(http.server.ThreadingHTTPServer):
    """The server.

    Attributes:
        body: What it answers.
        status: And how.
        headers: Besides the length.
        paths: Of the requests, in order.
        client_certificates: Of the requests, as OpenSSL tells them.
        fields: Of the requests.
        act: Called with the handler; answers itself, and returns False, or lets the usual answer.
        released: Ends the answers that go on for ever.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, context):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.body = b""
        self.status = 200
        self.headers = {"content-type": "application/json"}
        self.paths = []
        self.client_certificates = []
        self.fields = []
        self.act = None
        self.released = threading.Event()
        self.context = context

    @classmethod
    @contextlib.contextmanager
    def running(cls, context):
        """Serve in a thread; the TLS context is the test's."""
        context.verify_mode = ssl.CERT_OPTIONAL  # It asks; nobody has to answer.
        with cls(context) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield server
            finally:
                server.released.set()
                server.shutdown()
                thread.join(5)

    @property
    def url(self):
        return f"https://localhost:{self.server_port}/bundle.json?v=1"

    def publish(self, bundle, *, sequence=None, refresh_hint=None):
        self.body = to_jwks(bundle, sequence=sequence, refresh_hint=refresh_hint)

    def finish_request(self, request, client_address):
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(request, server_side=True) as connection,
        ):
            super().finish_request(connection, client_address)

    def handle_error(self, request, client_address):
        """Clients that hang up are expected."""


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.paths.append(self.path)
        server.client_certificates.append(self.connection.getpeercert())
        server.fields.append(dict(self.headers))
        if server.act is not None and not server.act(self):
            return
        self.send_response(server.status)
        for name, value in {"content-length": len(server.body), **server.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, *_):
        """Quiet."""


def hold(answer):
    """Never answer."""
    answer.server.released.wait(20)


def drip(answer):
    """Answer for ever, a byte now and then."""
    answer.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    with contextlib.suppress(OSError):
        while not answer.server.released.wait(0.05):
            answer.wfile.write(b" ")
            answer.wfile.flush()


def drip_head(answer):
    """Begin a head that never ends."""
    answer.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    with contextlib.suppress(OSError):
        while not answer.server.released.wait(0.05):
            answer.wfile.write(b"x")
            answer.wfile.flush()


def pour(answer):
    """Answer without end, without saying how long it is."""
    answer.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    with contextlib.suppress(OSError):
        while not answer.server.released.is_set():
            answer.wfile.write(b" " * 65536)


def truncate(answer):
    """Promise more than comes."""
    body = answer.server.body
    answer.wfile.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % len(body)
    )
    answer.wfile.write(body[:-10])
    answer.close_connection = True
    return False


def cut(answer):
    """Send half of it, and say nothing of its length."""
    body = answer.server.body
    answer.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    answer.wfile.write(body[: len(body) // 2])
    answer.close_connection = True
    return False


def hang_up(answer):
    """Close without a word."""
    answer.close_connection = True
    return False


def redirect_to(location, *, times=1_000_000, status=302):
    """Redirect the first so many requests."""

    def act(answer):
        if len(answer.server.paths) > times:
            return True
        target = location.format(port=answer.server.server_port, n=len(answer.server.paths))
        answer.send_response(status)
        answer.send_header("location", target)
        answer.send_header("content-length", "0")
        answer.end_headers()
        return False

    return act


def edited(body, change):
    """A document with a change."""
    document = json.loads(body)
    change(document)
    return json.dumps(document).encode()
