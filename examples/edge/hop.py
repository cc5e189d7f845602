# SPDX-License-Identifier: Apache-2.0
"""What was checked on one hop: the five checks, with what the server saw at each.

Rules:
    1. Everything is of the server's audit record, or of the TLS connection itself.
    2. A connection that was refused before there was a request has the same five checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from examples.edge.trail import Record

__all__ = ("CHECKS", "Hop", "Wire")

CHECKS = (
    "encryption",
    "service_authentication",
    "service_authorization",
    "user_authentication",
    "user_authorization",
)
_PASSED, _FAILED, _NOT_REACHED = "passed", "failed", "not-reached"


@dataclass(frozen=True, slots=True)
class Wire:
    """What one end of a TLS connection knows of it.

    Attributes:
        client: Address of the end that called, as the other one names it in its records.
        version: Of TLS.
        cipher: Name of the cipher suite.
        server: The SPIFFE ID that the server proved to the caller, None outside.
    """

    client: str
    version: str | None = None
    cipher: str | None = None
    server: str | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """A call as its server judged it.

    Attributes:
        record: Of the server's audit log.
        action: The record of what a single route required, if one did.
        wire: The connection, if it is the same one.
    """

    record: Record
    action: Record | None = None
    wire: Wire | None = None

    @property
    def checks(self) -> dict[str, str]:
        """The result of each check."""
        found: dict[str, str] | None = self._last["checks"]
        if found is not None:
            return found
        is_plain = self.record["reason"].startswith("TLS failed")
        results = (_FAILED, _NOT_REACHED) if is_plain else (_PASSED, _FAILED)
        return dict(zip(CHECKS, (*results, *[_NOT_REACHED] * 3), strict=True))

    @property
    def failed(self) -> str | None:
        """The check that failed, in words."""
        return next(
            (name.replace("_", " ") for name, r in self.checks.items() if r == _FAILED), None
        )

    @property
    def is_allowed(self) -> bool:
        """Whether the server let the call pass."""
        return bool(self._last["decision"] == "allow") and self.failed is None

    @property
    def user(self) -> str | None:
        """Whom the token proved the user to be."""
        return self.record["user"]["subject"] if self.record["user"] else None

    @property
    def rule(self) -> str | None:
        """The rule that decided."""
        rule: str | None = self._last["rule"]
        return rule

    @property
    def _last(self) -> Record:
        return self.action or self.record

    def document(self) -> dict[str, Any]:
        """For the page."""
        seen = self._seen()
        return {
            "time": self.record["time"],
            "path": self.record["path"],
            "allowed": self.is_allowed,
            "caller": self.record["spiffe_id"],
            "checks": [
                {"name": name, "result": result, "seen": self._text(name, result, seen)}
                for name, result in self.checks.items()
            ],
        }

    def _text(self, name: str, result: str, seen: dict[str, list[str]]) -> list[str]:
        if result == _FAILED:
            return [self._last["reason"]]
        return seen[name] if result == _PASSED else []

    def _seen(self) -> dict[str, list[str]]:
        user = self.record["user"] or {}
        rules = [r["rule"] for r in (self.record, self.action) if r and r["rule"]]
        return dict(
            zip(
                CHECKS,
                (
                    self._encryption(),
                    self._identities(),
                    [f"rule {rule}" for rule in rules[:1]],
                    [f"{user.get('subject')}", f"of {user.get('issuer')}"],
                    [f"rule {rule}" for rule in rules[-1:]],
                ),
                strict=True,
            )
        )

    def _encryption(self) -> list[str]:
        version = self.record["tls"] or (self.wire.version if self.wire else None)
        cipher = self.wire.cipher if self.wire else None
        return [text for text in (version, cipher) if text]

    def _identities(self) -> list[str]:
        server = self.wire.server if self.wire else None
        caller = f"caller {self.record['spiffe_id']}" if self.record["spiffe_id"] else None
        return [text for text in (caller, f"server {server}" if server else None) if text]
