# SPDX-License-Identifier: Apache-2.0
"""The login service of the outside: gives tokens to whoever says a name, and publishes its key.

python -m examples.edge.login login.crt login.key roots.pem

It also tells in its log which client certificate it was shown: it invites those of our own trust
domain, as a curious server would.

Rules:
    1. The key is made when it starts, and is nowhere else.
    2. A real one asks for a proof of who somebody is, and never gives out a broken token.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ("AUDIENCE", "FAULTS", "ISSUER", "TokenIssuer", "main")

ISSUER, AUDIENCE = "https://login.shop.example/", "https://api.shop.example"
_KEY_ID = "demo"
_VALID_SECONDS, _AGE_SECONDS = 900, 60
FAULTS: dict[str, dict[str, Any]] = {
    "expired": {"exp": -600, "iat": -1500},
    "audience": {"aud": "https://another-api.example"},
    "issuer": {"iss": "https://login.stranger.example/"},
}
"""What can be wrong with a token, beside being signed by another key."""


class TokenIssuer:
    """Signs access tokens, good ones and others."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def jwks(self) -> dict[str, Any]:
        """The public key."""
        public = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": _KEY_ID, "use": "sig"}]}

    def token(self, subject: str, client: str, fault: str | None = None) -> str:
        """Make a token.

        Args:
            subject: The user.
            client: Through which application the user logs in.
            fault: One of `FAULTS`, or `key`.
        """
        now = int(time.time())
        claims: dict[str, Any] = {
            **{"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "client_id": client},
            **{"iat": now - _AGE_SECONDS, "exp": now + _VALID_SECONDS},
        }
        for name, value in FAULTS.get(fault or "", {}).items():
            claims[name] = now + value if isinstance(value, int) else value
        key = ec.generate_private_key(ec.SECP256R1()) if fault == "key" else self._key
        headers = {"typ": "at+jwt", "kid": _KEY_ID}
        return jwt.encode(claims, key, algorithm="ES256", headers=headers)


class LoginRequest(BaseHTTPRequestHandler):
    """One request to the login service."""

    protocol_version = "HTTP/1.1"
    issuer = TokenIssuer()

    def do_GET(self) -> None:
        """Publish the key."""
        if self.path == "/jwks.json":
            self._answer(HTTPStatus.OK, self.issuer.jwks())
        else:
            self._answer(HTTPStatus.NOT_FOUND, {})

    def do_POST(self) -> None:
        """Give somebody a token."""
        try:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = self.issuer.token(asked["user"], asked["client"], asked.get("fault"))
        except (TypeError, ValueError, KeyError):
            self._answer(HTTPStatus.BAD_REQUEST, {})
            return
        self._answer(HTTPStatus.OK, {"access_token": token})

    def _answer(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", _size: int | str = "-") -> None:
        """Say who asked."""
        presented = _presented(self.connection)
        print(f"{int(code)} {self.requestline}, client certificate: {presented}", flush=True)


def _presented(connection: Any) -> str | None:
    """The name in the certificate of the caller, if it presented one."""
    names = (connection.getpeercert() or {}).get("subjectAltName", ())
    return next((value for kind, value in names if kind == "URI"), None)


class _LoginServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), LoginRequest)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )


def main(certificate: str, key: str, invited: str) -> None:
    """Serve until somebody ends us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(invited)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = _LoginServer(context)
    print(f"running on https://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:4])
