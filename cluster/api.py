# SPDX-License-Identifier: Apache-2.0
"""A few blocking requests to the API server, for the harness and for tests.

The control plane has its own asynchronous client; this one needs the standard library only.
"""

from __future__ import annotations

import json
import ssl
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any

from cluster.exceptions import ApiStatusError

if TYPE_CHECKING:
    from cluster.authority import Files

_TIMEOUT_SECONDS = 30.0
_OK_STATUSES = range(200, 300)
_MERGE = "application/strategic-merge-patch+json"


class Api:
    """The API server as one user sees it.

    Args:
        port: Where it listens, at 127.0.0.1.
        authority_pem: Its authority.
        files: The user's certificate and key.
    """

    def __init__(self, port: int, *, authority_pem: bytes, files: Files) -> None:
        self._port = port
        self._context = ssl.create_default_context(cadata=authority_pem.decode())
        self._context.load_cert_chain(files.certificate, files.private_key)

    def get(self, path: str) -> dict[str, Any]:
        """GET, for example `/api/v1/namespaces/default`."""
        return self.request("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST an object and return what was stored."""
        return self.request("POST", path, body)

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PUT an object and return what was stored."""
        return self.request("PUT", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PATCH an object, lists merged by their keys, and return what was stored."""
        return self.request("PATCH", path, body)

    def delete(self, path: str) -> dict[str, Any]:
        """DELETE an object."""
        return self.request("DELETE", path)

    def exists(self, path: str) -> bool:
        """Whether the path is found."""
        try:
            self.get(path)
        except ApiStatusError as error:
            if error.reason != "NotFound":
                raise
            return False
        return True

    def is_ready(self) -> bool:
        """Whether the server says that it is ready."""
        try:
            status, _ = self._exchange("GET", "/readyz", None)
        except OSError:
            return False
        return status in _OK_STATUSES

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request with a JSON answer.

        Raises:
            ApiStatusError: The server refused or failed.
            OSError: It cannot be reached.
        """
        status, text = self._exchange(method, path, json.dumps(body) if body else None)
        if status not in _OK_STATUSES:
            raise _error(status, text)
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        kind = _MERGE if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind}
        connection = HTTPSConnection(
            "127.0.0.1", self._port, context=self._context, timeout=_TIMEOUT_SECONDS
        )
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _error(status: int, text: bytes) -> ApiStatusError:
    try:
        body = json.loads(text)
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    # A path that no API serves is answered in plain text.
    reason = body.get("reason") or {404: "NotFound", 403: "Forbidden"}.get(status, "Unknown")
    return ApiStatusError(status, reason, body.get("message", ""))
