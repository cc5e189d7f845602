# SPDX-License-Identifier: Apache-2.0
"""A running injector in a thread, its files, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import threading
from typing import TYPE_CHECKING, Any

import trustme

from kubetls_sdk.testing import KubeletVolume
from tests.waiting import until
from tests.webhook.injection import world
from webhook.injection.serve import Injector, InjectorSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Folder:
    """The folder of an injector's mounted files.

    Attributes:
        authority: Signs the serving certificates.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authority = trustme.CA()
        self._serving = KubeletVolume(root / "serving")
        self._config = KubeletVolume(root / "config")
        self._capabilities = KubeletVolume(root / "capabilities")

    def write_certificate(self, authority: trustme.CA | None = None) -> None:
        """Mount a new serving certificate."""
        issued = (authority or self.authority).issue_cert("127.0.0.1", "injector.example")
        chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
        self._serving.write({"tls.crt": chain, "tls.key": issued.private_key_pem.bytes()})

    def write_serving(self, files: dict[str, bytes]) -> None:
        """Mount any files as the serving certificate."""
        self._serving.write(files)

    def write_config(self, text: str) -> None:
        """Mount a configuration of the platform."""
        self._config.write({"platform.yaml": text.encode()})

    def write_capabilities(self, text: str) -> None:
        """Mount what the cluster can do."""
        self._capabilities.write({"capabilities.json": text.encode()})

    def write_all(self) -> None:
        """Mount all that is needed."""
        self.write_config(
            "version: 1\nzones: [{name: default, trustDomain: example.org}]\n"
            "namespaces: [{names: [shop], modes: [pod-certificate, secret]}]\n"
        )
        self.write_certificate()

    def settings(self, **options: Any) -> InjectorSettings:
        """Settings that poll fast and do not drain."""
        return InjectorSettings(
            config=self.root / "config" / "platform.yaml",
            capabilities=self.root / "capabilities" / "capabilities.json",
            serving=self.root / "serving",
            **{
                "host": "127.0.0.1",
                "port": 0,
                "status_port": 0,
                "poll_seconds": 0.05,
                "drain_seconds": 0.0,
                **options,
            },
        )


class Running:
    """An injector in a thread."""

    def __init__(self, settings: InjectorSettings) -> None:
        self.injector = Injector(settings)
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        until(lambda: self.injector.status_port)

    def stop(self) -> None:
        """Tell it to end, and return at once."""
        assert self._loop is not None
        assert self._stop is not None
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._stop.set)

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(20)
        assert not self._thread.is_alive()

    def wait_ready(self) -> None:
        """Wait until its probe says that it is ready."""
        until(lambda: self.status("/readyz") == 200)

    def status(self, path: str) -> int:
        """The status of a plain request to the other port."""
        return self.plain(path)[0]

    def plain(self, path: str) -> tuple[int, str]:
        """Ask the plain port; status 0: nobody there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.injector.status_port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """The value of a metric, with its labels as Prometheus writes them."""
        lines = self.plain("/metrics")[1].splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    async def _serve(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        await self.injector.serve(self._stop)


@contextlib.contextmanager
def running(settings: InjectorSettings) -> Iterator[Running]:
    """Run an injector."""
    found = Running(settings)
    try:
        yield found
    finally:
        found.stop()
        found.join()


def client_context(authority: trustme.CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """Settings of a client that trusts an authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    return context


def connect(run: Running, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    """A connection to the TLS port."""
    return http.client.HTTPSConnection("127.0.0.1", run.injector.port, context=context, timeout=10)


def post(connection: http.client.HTTPSConnection, body: bytes) -> tuple[int, bytes]:
    """POST a body to /mutate."""
    connection.request("POST", "/mutate", body, {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def ask(run: Running, context: ssl.SSLContext, pod: dict[str, Any]) -> dict[str, Any]:
    """Ask about a pod over a connection of its own; the response of the review."""
    connection = connect(run, context)
    try:
        status, body = post(connection, world.review_body(pod))
    finally:
        connection.close()
    assert status == 200, body
    response: dict[str, Any] = json.loads(body)["response"]
    return response
