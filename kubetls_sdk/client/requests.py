# SPDX-License-Identifier: Apache-2.0
"""A requests adapter with our identity, for a server with an expected one.

    session = requests.Session()
    session.mount("https://orders.shop.svc", ServerAdapter(server="spiffe://…", source=source))

A session sends what no prefix of ours matches with its other adapters, to whom the web roots are
good enough; `session` makes one that has no others.

Rules:
    1. `verify` has no say: neither False nor a file of roots changes who is trusted.
    2. A proxy or a client certificate of the caller's is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from kubetls_sdk.client.urllib3 import pool_manager
from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from kubetls_sdk.source import Source

__all__ = ("ServerAdapter", "session")


class ServerAdapter(HTTPAdapter):
    """Authenticates both sides of every connection.

    Args:
        server: Who every server must be: a SPIFFE ID, a pattern, several of them, or an
            `ExpectedPeer`.
        source: Our identity and trust; stays open.
        options: Of `requests.adapters.HTTPAdapter`.

    Raises:
        ConfigurationError: Nobody is expected.
        SpiffeIdError: An expected SPIFFE ID is none.
        CredentialError: The source has nothing yet.
    """

    def __init__(self, *, server: object, source: Source, **options: Any) -> None:
        self._server = server
        self._source = source
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools; called by the adapter itself."""
        options.update(zip(("num_pools", "maxsize", "block"), args, strict=False))
        if "connections" in options:
            options["num_pools"] = options.pop("connections")
        self.poolmanager = pool_manager(server=self._server, source=self._source, **options)

    def cert_verify(self, *args: Any, **options: Any) -> None:
        """Without effect: the handshake verifies."""

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """Choose the pool by the URL alone."""
        where, _ = super().build_connection_pool_key_attributes(request, True, None)
        return where, {}

    def send(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        """Send a request.

        Raises:
            ConfigurationError: With a proxy or a client certificate.
        """
        for name in ("cert", "proxies"):
            if options.get(name):
                raise ConfigurationError(
                    f"expected no {name}=, got one: the source has our identity"
                )
        return super().send(request, *args, **options)


class _NoTls(HTTPAdapter):
    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Refuse, whatever it is."""
        raise requests.exceptions.InvalidSchema(f"expected an https URL, got {request.url!r}")


def session(*, server: object, source: Source) -> requests.Session:
    """Make a session that talks to nobody but the expected server, and takes no proxies.

    Args:
        server: See `ServerAdapter`.
        source: See `ServerAdapter`.
    """
    made = requests.Session()
    made.trust_env = False
    made.mount("https://", ServerAdapter(server=server, source=source))
    made.mount("http://", _NoTls())
    return made
