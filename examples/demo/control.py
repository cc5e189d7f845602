# SPDX-License-Identifier: Apache-2.0
"""The controls: the same attacks on stock uvicorn, where they must succeed.

Rules:
    1. A stock server gets everything that it can be given: TLS 1.3, client certificates required,
       the roots of all trusted domains.
    2. A control also shows that the attack *is* one: without its trick, stock uvicorn refuses.
"""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from examples.demonstration.case import Case
from examples.demonstration.child import Child
from examples.demonstration.verdict import observed
from examples.demonstration.wire import HeldConnection, StockCaller
from kubetls_sdk.testing import DevelopmentCA, KubeletVolume, volume_files

if TYPE_CHECKING:
    from pathlib import Path

    from examples.demo.domains import Domains

__all__ = ("Controls", "StockServer", "resumption_control", "stock_files")

_PATH = "/orders/probe"
_RUNNING = r"running on https://127\.0\.0\.1:(\d+)"


def stock_files(ours: DevelopmentCA, *others: DevelopmentCA) -> dict[str, bytes]:
    """Key, certificate, and the roots of all domains in one file: uvicorn takes only one."""
    roots = [root for ca in (ours, *others) for root in ca.bundle.authorities]
    union = b"".join(root.public_bytes(Encoding.PEM) for root in roots)
    files = volume_files(ours.issue("/ns/shop/sa/orders"), [ours.bundle], "kubernetes-tls")
    return {**files, "union.pem": union}


class Controls:
    """Stock uvicorn: one server with its own options, one with the usual pattern to reload.

    Args:
        domains: Whom the first trusts; the second has a domain of its own.
        keys: The directory for their volumes.
        logs: The directory for their logs.
    """

    def __init__(self, domains: Domains, keys: Path, logs: Path) -> None:
        self._domains = domains
        self._ca = DevelopmentCA(str(domains.ours.trust_domain))
        plain, reloading = stock_files(domains.ours, domains.partners), stock_files(self._ca)
        self._plain = StockServer("stock", plain, keys, logs)
        self._reloading = StockServer("stock-reloading", reloading, keys, logs, reloads=True)

    @property
    def port(self) -> int:
        """Where the stock server listens that does not reload."""
        return self._plain.port

    def forged(self) -> Case:
        """The partner's CA signs a name of ours: stock uvicorn trusts every CA for every name."""
        answer = StockCaller(self.port, self._domains.forged()).call(_PATH)
        return Case("control: web's name, signed by the partner's CA", "200", observed(answer, ""))

    def removed_root(self) -> Case:
        """A root is removed from a server that reloads by the usual pattern."""
        held = HeldConnection(self._reloading.port, self._ca.issue())
        self._ca.add_root()
        self._ca.activate_root()
        self._ca.retire_root()
        self._reloading.write(stock_files(self._ca))
        try:
            return resumption_control("control: resumption after removal", held)
        finally:
            held.close()

    def close(self) -> None:
        """End both servers."""
        self._plain.close()
        self._reloading.close()


class StockServer:
    """A stock uvicorn with mutual TLS in a process of its own.

    Args:
        name: Of its volume and log.
        files: What `stock_files` makes.
        keys: The directory for its volume.
        logs: The directory for its log.
        reloads: Use the reload pattern of `examples.demo.stock` instead of uvicorn's options.
    """

    def __init__(
        self, name: str, files: dict[str, bytes], keys: Path, logs: Path, *, reloads: bool = False
    ) -> None:
        directory = keys / name
        self._volume = KubeletVolume(directory)
        self._volume.write(files)
        command = _reloading(directory) if reloads else _plain(directory)
        self._child = Child("stock uvicorn", command, log=logs / f"{name}.log")

    @cached_property
    def port(self) -> int:
        """Where it listens; waits until it does."""
        return int(self._child.wait_for(_RUNNING)[1])

    def write(self, files: dict[str, bytes]) -> None:
        """Replace its files."""
        self._volume.write(files)

    def close(self) -> None:
        """End the process."""
        self._child.end()


def resumption_control(name: str, held: HeldConnection) -> Case:
    """Try to resume a session whose owner would be refused by now.

    Args:
        name: Of the case.
        held: What a stock server gave it while it was right.
    """
    expected = "200 if resumed, no answer if not"
    resumed = observed(held.resumed(), "")
    afresh = held.afresh()
    without = "no answer" if afresh.status is None else str(afresh.status)
    return Case(name, expected, f"{resumed}, {without} if not")


def _plain(directory: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "examples.demo.stock:app"),
        *("--host", "127.0.0.1", "--port", "0", "--ssl-cert-reqs", "2"),
        *(
            "--ssl-keyfile",
            str(directory / "tls.key"),
            "--ssl-certfile",
            str(directory / "tls.crt"),
        ),
        *("--ssl-ca-certs", str(directory / "union.pem")),
    ]


def _reloading(directory: Path) -> list[str]:
    return [sys.executable, "-m", "examples.demo.stock", str(directory)]
