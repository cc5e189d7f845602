# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, whichever is installed, driven over its DevTools protocol.

It trusts one CA more than others do: in its own certificate store where `certutil` is there to
write one. Else it is told the one public key that it may accept; every other error still counts.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.sync.client import connect

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.sync.client import ClientConnection

__all__ = ("Browser", "Page", "browser_command")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OPTIONS = (
    "--headless=new",
    "--no-first-run",
    "--no-sandbox",  # CI runs as root; only our own page is opened
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
    "--window-size=1280,1600",
)
_SECONDS = 20.0


def browser_command() -> str | None:
    """The browser of $KUBETLS_TEST_BROWSER, or the first one that is installed."""
    return os.environ.get("KUBETLS_TEST_BROWSER") or next(
        filter(None, map(shutil.which, _NAMES)), None
    )


class Browser:
    """A running browser with a profile of its own."""

    def __init__(self, command: str, home: Path, *, chain: Path | None = None) -> None:
        """Start it.

        Args:
            command: Which.
            home: An empty directory.
            chain: PEM of the server that it is to trust and of its root; None for nobody new.
        """
        profile = home / "profile"
        trust = _trust(home, chain) if chain else []
        self._process = subprocess.Popen(
            [command, *_OPTIONS, *trust, f"--user-data-dir={profile}", "about:blank"],
            env={**os.environ, "HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._port_file = profile / "DevToolsActivePort"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    @contextmanager
    def page(self) -> Iterator[Page]:
        """Its one tab."""
        until(lambda: self._port_file.exists() and self._port_file.read_text(), _SECONDS)
        port = self._port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            targets = json.load(answer)
        url = next(each["webSocketDebuggerUrl"] for each in targets if each["type"] == "page")
        with connect(url, max_size=None, open_timeout=_SECONDS) as socket:
            yield Page(socket)


class Page:
    """What is open in the tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=_SECONDS))
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def open(self, url: str) -> str | None:
        """Go there; what went wrong, such as an untrusted certificate."""
        error = self.command("Page.navigate", url=url).get("errorText")
        if error is None:
            until(lambda: self.evaluate("document.readyState") == "complete", _SECONDS)
        return error

    def evaluate(self, expression: str) -> Any:
        found = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        found = f"document.querySelector({json.dumps(selector)})"
        return str(self.evaluate(f"{found}.innerText ?? {found}.textContent"))  # SVG has no inner

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def emulate(self, **media: str) -> None:
        features = [{"name": name.replace("_", "-"), "value": v} for name, v in media.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, file: Path) -> None:
        taken = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))

    def requested(self) -> list[str]:
        """The URLs of everything that the page has asked for."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """Exceptions, and errors of the console, such as those of a content security policy."""
        thrown = [e for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        logged = [e["params"]["entry"] for e in self.events if e.get("method") == "Log.entryAdded"]
        return [json.dumps(e["params"]) for e in thrown] + [
            entry["text"] for entry in logged if entry["source"] != "network"
        ]


def _trust(home: Path, chain: Path) -> list[str]:
    """Options that make it trust a server, after a look at what is installed."""
    leaf, *_, root = x509.load_pem_x509_certificates(chain.read_bytes())
    if not shutil.which("certutil"):
        key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        pin = base64.b64encode(sha256(key).digest()).decode()
        return [f"--ignore-certificate-errors-spki-list={pin}"]
    store, pem = home / ".pki" / "nssdb", home / "root.pem"
    store.mkdir(parents=True)
    pem.write_bytes(root.public_bytes(Encoding.PEM))
    trusted = ["-A", "-t", "C,,", "-n", "demo", "-i", str(pem)]
    for arguments in (["-N", "--empty-password"], trusted):
        subprocess.run(["certutil", "-d", f"sql:{store}", *arguments], check=True)
    return []
