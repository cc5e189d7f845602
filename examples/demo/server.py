# SPDX-License-Identifier: Apache-2.0
"""The process of `orders`: `kubetls serve`, and what its log says."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from examples.demonstration.child import Child, DemoError, until
from examples.demonstration.verdict import observed
from examples.demonstration.wire import is_open

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.demonstration.wire import Answer

__all__ = ("ORDERS_DIRECTORY", "OrdersServer")

_RUNNING = r"running on https://127\.0\.0\.1:(\d+)"
ORDERS_DIRECTORY = Path(__file__).parent
_POLICY = ORDERS_DIRECTORY / "policy.yaml"
_LOG_SECONDS = 3.0
_OK = 200


class OrdersServer:
    """`orders` under `kubetls serve`, in a process of its own.

    Args:
        command: What is started in place of `kubetls`.
        volume: What is mounted.
        log: Where its log goes.
        policy: The file that says who may call.
        options: More of `kubetls serve`.
    """

    def __init__(
        self,
        command: Sequence[str],
        volume: Path,
        log: Path,
        *,
        policy: Path = _POLICY,
        options: Sequence[str] = (),
    ) -> None:
        arguments = ["serve", "examples.demo.orders:app", "--policy", str(policy), *options]
        listen = ["--host", "127.0.0.1", "--port", "0"]
        self._child = Child(
            "orders",
            [*command, *arguments, *listen],
            log=log,
            environment={"KUBETLS_DIR": str(volume)},
        )

    @cached_property
    def port(self) -> int:
        """Where it listens; waits until it does.

        Raises:
            DemoError: It does not.
        """
        port = int(self._child.wait_for(_RUNNING)[1])
        self._child.wait_for("startup complete")
        if not until(lambda: is_open(port), _LOG_SECONDS):
            raise DemoError(f"orders does not listen on port {port}; see {self._child.log}")
        return port

    @property
    def url(self) -> str:
        """Where it can be called."""
        return f"https://127.0.0.1:{self.port}"

    def check_alive(self) -> None:
        """Make sure that it still runs.

        Raises:
            DemoError: It does not.
        """
        self._child.check_alive()

    def close(self) -> None:
        """End it gracefully; its log is complete then."""
        self._child.end()

    def observed(self, answer: Answer) -> str:
        """What came of a request of ours, by the wire and by the log."""
        pattern = rf"refused \w+ of 127\.0\.0\.1:{answer.port}(?!\d)(.*)"
        return observed(answer, self._last(pattern, is_awaited=answer.status != _OK))

    def has_answered(self, port: int, status: int) -> bool:
        """Whether the log has an answer on a connection."""
        pattern = rf'(127\.0\.0\.1:{port}) - "[^"]*" {status}'
        return bool(self._last(pattern, is_awaited=True))

    def refusal_of(self, spiffe_id: str) -> str:
        """The log's latest refusal of a request of somebody, empty without one."""
        pattern = rf"refused request of \S+ \({re.escape(spiffe_id)}\)(.*)"
        return self._last(pattern, is_awaited=True)

    def has_loaded(self, serial: int) -> bool:
        """Whether the log says that a certificate of ours came into force."""
        return bool(self._last(rf"(serial={serial:x})\b", is_awaited=True))

    def count(self, method: str, path: str, status: str) -> int:
        """How often the log has an answer; `path` and `status` are patterns."""
        return len(re.findall(rf'"{method} {path} HTTP/1\.1" {status}', self._child.text()))

    def _last(self, pattern: str, *, is_awaited: bool) -> str:
        def look() -> list[str]:
            return re.findall(pattern, self._child.text())

        found = until(look, _LOG_SECONDS if is_awaited else 0.0)
        return found[-1].lstrip(": ") if found else ""
