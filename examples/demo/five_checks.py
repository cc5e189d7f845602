# SPDX-License-Identifier: Apache-2.0
"""The five checks on a request: one that passes them all, and for each one that fails it.

Rules:
    1. What happened is told by the wire and by the server's audit log together: the status is
       what the caller saw, the check is what the log says of that very connection.
    2. Each request is right but for one thing, so no other check can have refused it.
"""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from examples.demo.server import ORDERS_DIRECTORY, OrdersServer
from examples.demonstration.case import Case
from examples.demonstration.child import until
from examples.demonstration.wire import Answer, Refusal, StockCaller

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from examples.demo.domains import Domains
    from examples.demonstration.wire import Credential

__all__ = ("FiveChecks",)

_ISSUER, _AUDIENCE = "https://login.example.com/", "https://orders.example.com"
_PATH = "/users/alice/orders"
_RECORD_SECONDS = 3.0


class FiveChecks:
    """`orders` with end users and an audit log, in a process of its own.

    Args:
        command: What is started in place of `kubetls`.
        domains: Whose `orders` it is, and who calls.
        keys: A private directory, for the file about users.
        logs: For the log and the audit log.
    """

    def __init__(self, command: Sequence[str], domains: Domains, keys: Path, logs: Path) -> None:
        self._domains = domains
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._audit = logs / "orders-audit.jsonl"
        self._audit.unlink(missing_ok=True)
        users = keys / "users.yaml"
        users.write_text(yaml.safe_dump(_users(self._key)), encoding="utf-8")
        self._server = OrdersServer(
            command,
            domains.volume("orders"),
            logs / "orders-with-users.log",
            policy=ORDERS_DIRECTORY / "users-policy.yaml",
            options=("--users", str(users), "--audit-log", str(self._audit)),
        )

    def close(self) -> None:
        """End the process."""
        self._server.close()

    def cases(self) -> list[Case]:
        """Send the requests, one after the other."""
        web, billing = self._domains.valid(), self._domains.billing()
        alice, bob = self._token("alice"), self._token("bob")
        expired = self._token("alice", expires_in=-600)
        calls = (
            ("by web for alice", "200: all five passed", web, alice),
            ("without certificate", "no answer: service authentication failed", None, alice),
            ("by billing for alice", "403: service authorization failed", billing, alice),
            ("with an expired token", "401: user authentication failed", web, expired),
            ("by web for bob", "403: user authorization failed", web, bob),
        )
        cases = [
            Case(f"alice's orders, {name}", expected, self._observed(self._answer(*call)))
            for name, expected, *call in calls
        ]
        plain = self._observed(self._in_plain_text())
        name = "alice's orders, without TLS"
        return [cases[0], Case(name, "no answer: encryption failed", plain), *cases[1:]]

    def _answer(self, credential: Credential | None, token: str) -> Answer:
        try:
            with StockCaller(self._server.port, credential).connect() as connection:
                return connection.get(_PATH, {"Authorization": f"Bearer {token}"})
        except Refusal as refusal:
            return refusal.answer

    def _in_plain_text(self) -> Answer:
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=5.0) as plain:
            port = plain.getsockname()[1]
            plain.sendall(f"GET {_PATH} HTTP/1.1\r\nHost: orders\r\n\r\n".encode())
            try:
                received = plain.recv(4096)
            except OSError:
                received = b""
        return Answer(port, int(received.split()[1]) if received.startswith(b"HTTP/") else None)

    def _observed(self, answer: Answer) -> str:
        record = until(lambda: self._record(f"127.0.0.1:{answer.port}"), _RECORD_SECONDS)
        checks = _told(record) if record else "the audit log has nothing"
        return f"{answer.status or 'no answer'}: {checks}"

    def _record(self, peer: str) -> dict[str, Any] | None:
        lines = self._audit.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return next((record for record in records if record["peer"] == peer), None)

    def _token(self, subject: str, expires_in: int = 600) -> str:
        now = int(time.time())
        claims = {"iss": _ISSUER, "sub": subject, "aud": _AUDIENCE, "iat": now - 900}
        claims["exp"] = now + expires_in
        headers = {"typ": "at+jwt", "kid": "demo"}
        return jwt.encode(claims, self._key, algorithm="ES256", headers=headers)


def _users(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """The users file: one issuer, whose public key is in it."""
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    keys = json.dumps({"keys": [{**public, "kid": "demo", "use": "sig"}]})
    issuer = {"issuer": _ISSUER, "audiences": _AUDIENCE, "keys": {"inline": keys}}
    return {"version": 1, "issuers": [issuer]}


def _told(record: dict[str, Any]) -> str:
    """What a record of the audit log says of the five checks."""
    checks: dict[str, str] | None = record["checks"]
    if checks is None:  # the handshake failed, before there was a request
        is_encrypted = not record["reason"].startswith("TLS failed")
        return f"{'service authentication' if is_encrypted else 'encryption'} failed"
    failed = [name for name, result in checks.items() if result == "failed"]
    if failed:
        return f"{', '.join(failed).replace('_', ' ')} failed"
    is_all = set(checks.values()) == {"passed"} and len(checks) == 5
    return "all five passed" if is_all else f"not all passed: {checks}"
