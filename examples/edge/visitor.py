# SPDX-License-Identifier: Apache-2.0
"""Somebody outside with a stock client: it verifies the public certificate, as browsers do."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING

from examples.demonstration.child import DemoError
from examples.demonstration.wire import Answer, json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ("Visitor",)

_TIMEOUT_SECONDS = 10.0


class Visitor:
    """Calls the outside face, each time over a new connection.

    Args:
        port: Where that listens on loopback.
        roots: Whom browsers trust.
    """

    def __init__(self, port: int, roots: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=roots)

    def token(self, user: str, fault: str | None = None) -> str:
        """Log in through the page's own route, and get a token.

        Raises:
            DemoError: There is none to be had.
        """
        asked = {"user": user, "client": "browser", "fault": fault}
        answer = self._send("POST", "/login", {}, json.dumps(asked))
        if "access_token" not in answer.body:
            raise DemoError(f"{user} cannot log in: the external API answers {answer.status}")
        return str(answer.body["access_token"])

    def get(
        self, path: str, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Call, with a token or without."""
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        return self._send("GET", path, {**bearer, **(headers or {})})

    def _send(
        self, method: str, path: str, headers: dict[str, str], body: str | None = None
    ) -> Answer:
        connection = http.client.HTTPSConnection(
            "localhost", self._port, timeout=_TIMEOUT_SECONDS, context=self._context
        )
        try:
            connection.request(method, path, body, headers)
            port = connection.sock.getsockname()[1]
            answer = connection.getresponse()
            return Answer(port, answer.status, body=json_object(answer.read()))
        finally:
            connection.close()
