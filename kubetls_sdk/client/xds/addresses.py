# SPDX-License-Identifier: Apache-2.0
"""Which addresses the servers of a channel have, for channels that balance over all of them.

Rules:
    1. One thread for all such channels of the process, while there are any.
    2. Names are looked up again every `LOOK_AGAIN_SECONDS`; a name that cannot be resolved keeps
       its last addresses.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from typing import TYPE_CHECKING

from kubetls_sdk.client.xds.resources import Endpoint, endpoint_resources

if TYPE_CHECKING:
    from kubetls_sdk.client.xds.ads import AdsServer

__all__ = ("LOOK_AGAIN_SECONDS", "AddressBook")

LOOK_AGAIN_SECONDS = 10.0
_log = logging.getLogger(__name__)


class AddressBook:
    """Looks up addresses and hands them to gRPC.

    Args:
        server: Serves them.
    """

    def __init__(self, server: AdsServer) -> None:
        self._server = server
        self._wanted: dict[str, tuple[Endpoint, ...]] = {}
        self._found: dict[str, tuple[Endpoint, ...]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def want(self, name: str, endpoints: tuple[Endpoint, ...]) -> None:
        """Serve the addresses of a channel's endpoints from now on."""
        if all(_is_address(endpoint.host) for endpoint in endpoints):
            self._server.put(endpoint_resources(name, endpoints))
            return
        with self._lock:
            self._wanted[name] = endpoints
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kubetls-dns", daemon=True)
                self._thread.start()
        self._wake.set()

    def forget(self, name: str) -> None:
        """Look no more."""
        with self._lock:
            self._wanted.pop(name, None)
            self._found.pop(name, None)

    def _run(self) -> None:
        while not self._is_idle():
            self._wake.clear()
            for name, endpoints in list(self._wanted.items()):
                self._look_up(name, endpoints)
            self._wake.wait(LOOK_AGAIN_SECONDS)

    def _is_idle(self) -> bool:
        with self._lock:
            if self._wanted:
                return False
            self._thread = None
            return True

    def _look_up(self, name: str, endpoints: tuple[Endpoint, ...]) -> None:
        try:
            found = tuple(sorted({each for one in endpoints for each in _resolve(one)}, key=str))
        except (OSError, UnicodeError) as err:
            _log.warning("looking up %s failed: %s", ", ".join(e.host for e in endpoints), err)
            return
        with self._lock:
            if name not in self._wanted or self._found.get(name) == found:
                return
            self._found[name] = found
        self._server.put(endpoint_resources(name, found))


def _resolve(endpoint: Endpoint) -> list[Endpoint]:
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    return [Endpoint(str(address[0]), endpoint.port) for *_, address in found]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
