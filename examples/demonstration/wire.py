# SPDX-License-Identifier: Apache-2.0
"""What can be seen on the wire by a stock TLS client: the ssl module, and nothing of ours.

Rules:
    1. It checks nothing and hides nothing, as an attacker would write it.
    2. A refusal is an observation, not an error.
"""

from __future__ import annotations

import http
import http.client
import json
import socket
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from cryptography import x509

from examples.demonstration.child import DemoError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "Answer",
    "Credential",
    "HeldConnection",
    "Refusal",
    "StockCaller",
    "WireConnection",
    "is_open",
    "json_object",
)

_TIMEOUT_SECONDS = 5.0
_PATH = "/orders/probe"


class Credential(Protocol):
    """A chain and its key, good or forged."""

    def certificates_pem(self) -> bytes:
        """The chain, leaf first."""
        ...

    def private_key_pem(self) -> bytes:
        """The key of the leaf."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to.

    Attributes:
        port: Our end of the connection, by which the server's log names it.
        status: HTTP status, None when there was no answer.
        detail: Why there was none, as the client's TLS says it.
        body: The JSON body.
        is_resumed: Whether the connection took up an earlier TLS session.
    """

    port: int
    status: int | None = None
    detail: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    is_resumed: bool = False


class Refusal(Exception):  # noqa: N818 - an observation; nobody is at fault
    """The connection ended before there was one; `.answer` holds what was seen."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.detail)
        self.answer = answer


class WireConnection:
    """One TLS connection, over which requests can be sent one after the other."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.port: int = tls.getsockname()[1]
        self.is_resumed = bool(tls.session_reused)
        self._tls = tls
        self._http = http.client.HTTPConnection("127.0.0.1", timeout=_TIMEOUT_SECONDS)
        self._http.auto_open = 0
        self._http.sock = tls

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; may be called again."""
        self._http.close()
        self._tls.close()

    @property
    def server_serial(self) -> int:
        """The serial number of the certificate that the server presented."""
        der = self._tls.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der or b"").serial_number

    @property
    def session(self) -> ssl.SSLSession | None:
        """What the server gave us to resume with; complete after a first answer."""
        return self._tls.session

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request and read the answer, if one comes."""
        try:
            self._http.request("GET", path, headers=headers or {})
            response = self._http.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as err:
            return Answer(self.port, detail=_reason(err), is_resumed=self.is_resumed)
        return Answer(
            self.port, response.status, body=json_object(content), is_resumed=self.is_resumed
        )


class StockCaller:
    """A caller with a certificate of its choice, or none.

    Args:
        port: Where the server listens on loopback.
        credential: What it presents.
    """

    def __init__(self, port: int, credential: Credential | None = None) -> None:
        self._address = ("127.0.0.1", port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        if credential is not None:
            _load(self._context, credential)

    def connect(self, session: ssl.SSLSession | None = None) -> WireConnection:
        """Open a connection; with a session, try to resume it.

        Raises:
            Refusal: The server ended the handshake.
        """
        try:
            plain = socket.create_connection(self._address, timeout=_TIMEOUT_SECONDS)
        except OSError as err:
            raise Refusal(Answer(0, detail=_reason(err))) from err
        port = plain.getsockname()[1]
        try:
            tls = self._context.wrap_socket(plain, server_hostname="orders", session=session)
        except OSError as err:
            plain.close()
            raise Refusal(Answer(port, detail=_reason(err))) from err
        return WireConnection(tls)

    def call(
        self,
        path: str,
        session: ssl.SSLSession | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request over a new connection."""
        try:
            with self.connect(session) as connection:
                return connection.get(path, headers)
        except Refusal as refusal:
            return refusal.answer


class HeldConnection:
    """A caller that was let in once, and keeps what it got: the connection and its TLS session.

    Args:
        port: Where the server listens.
        credential: What is right now, and will not be later.
        path: What it asks for.

    Raises:
        DemoError: It is not let in even now.
    """

    def __init__(self, port: int, credential: Credential, path: str = _PATH) -> None:
        self._path = path
        self._caller = StockCaller(port, credential)
        try:
            self._connection = self._caller.connect()
        except Refusal as refusal:
            raise DemoError(f"a server refuses a valid caller: {refusal}") from refusal
        first = self._connection.get(self._path)
        if first.status != http.HTTPStatus.OK:
            raise DemoError(f"a server refuses a valid caller: {first.status or first.detail}")
        self._session = self._connection.session

    def afresh(self) -> Answer:
        """Call over a new connection."""
        return self._caller.call(self._path)

    def kept(self) -> Answer:
        """Call over the connection from before."""
        return self._connection.get(self._path)

    def resumed(self) -> Answer:
        """Call over a new connection that resumes the session from before."""
        return self._caller.call(self._path, self._session)

    def close(self) -> None:
        """Let go."""
        self._connection.close()


def is_open(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _load(context: ssl.SSLContext, credential: Credential) -> None:
    with tempfile.TemporaryDirectory() as directory:  # created with mode 0700
        pem = Path(directory) / "caller.pem"
        pem.write_bytes(credential.private_key_pem() + credential.certificates_pem())
        context.load_cert_chain(pem)


def json_object(content: bytes) -> dict[str, Any]:
    """Read a JSON object; nothing when it is none."""
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _reason(err: Exception) -> str:
    if isinstance(err, ssl.SSLError) and err.reason:
        return f"alert: {err.reason.lower().replace('_', ' ')}"
    if isinstance(err, http.client.RemoteDisconnected | ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "closed without an answer"
    return str(err) or type(err).__name__
