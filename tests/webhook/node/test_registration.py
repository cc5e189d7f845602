# SPDX-License-Identifier: Apache-2.0
"""The driver makes itself known, and knows what the kubelet says to it."""

from __future__ import annotations

import asyncio
import socket
import stat
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio

from webhook.node.protocol import registration_pb2, registration_pb2_grpc
from webhook.node.registration import Registration, registration_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

ENDPOINT = Path("/var/lib/kubelet/plugins/csi.example.org/csi.sock")


@asynccontextmanager
async def registering(
    registry: Path,
) -> AsyncIterator[tuple[Registration, registration_pb2_grpc.RegistrationStub]]:
    path = registration_socket(registry, "csi.example.org")
    registration = Registration("csi.example.org", ENDPOINT, path)
    await registration.start()
    try:
        async with grpc.aio.insecure_channel(f"unix://{path}") as channel, asyncio.timeout(10):
            yield registration, registration_pb2_grpc.RegistrationStub(channel)
    finally:
        await registration.stop()


class TestRegistration:
    def test_says_what_the_driver_is(self, tmp_path: Path) -> None:
        """The kubelet reads kind, name, endpoint and the versions of the interface."""

        async def scenario() -> None:
            async with registering(tmp_path) as (_, kubelet):
                answer = await kubelet.GetInfo(registration_pb2.InfoRequest())
                assert (answer.type, answer.name) == ("CSIPlugin", "csi.example.org")
                assert answer.endpoint == str(ENDPOINT)
                assert list(answer.supported_versions) == ["1.0.0"]

        asyncio.run(scenario())

    def test_appears_where_the_kubelet_looks(self, tmp_path: Path) -> None:
        """The socket is in the kubelet's folder, for root alone, and gone when the driver is."""

        async def scenario() -> None:
            path = tmp_path / "csi.example.org-reg.sock"
            async with registering(tmp_path):
                assert stat.S_ISSOCK(path.stat().st_mode)
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert not path.exists()

        asyncio.run(scenario())

    def test_replaces_a_stale_socket(self, tmp_path: Path) -> None:
        """What a killed process left there is replaced, which the kubelet sees as a new plugin."""
        path = tmp_path / "csi.example.org-reg.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))

        async def scenario() -> None:
            async with registering(tmp_path) as (_, kubelet):
                assert (await kubelet.GetInfo(registration_pb2.InfoRequest())).name

        asyncio.run(scenario())

    def test_is_registered_when_told(self, tmp_path: Path) -> None:
        """Only the kubelet's word makes it so."""

        async def scenario() -> None:
            async with registering(tmp_path) as (registration, kubelet):
                assert (registration.is_registered, registration.has_failed) == (False, False)
                status = registration_pb2.RegistrationStatus(plugin_registered=True)
                await kubelet.NotifyRegistrationStatus(status)
                assert (registration.is_registered, registration.has_failed) == (True, False)

        asyncio.run(scenario())

    def test_refusal_ends_the_process(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A refusal is logged with the kubelet's reason, and the registration has failed."""

        async def scenario() -> None:
            async with registering(tmp_path) as (registration, kubelet):
                status = registration_pb2.RegistrationStatus(error="no such version")
                await kubelet.NotifyRegistrationStatus(status)
                assert (registration.is_registered, registration.has_failed) == (False, True)

        asyncio.run(scenario())
        assert "no such version" in caplog.text

    def test_replaced_socket_ends_the_process(self, tmp_path: Path) -> None:
        """Whoever answers the kubelet in our place is not left there: the next process is."""

        async def scenario() -> None:
            async with registering(tmp_path) as (registration, _):
                registration_socket(tmp_path, "csi.example.org").unlink()
                async with registering(tmp_path) as (successor, _):
                    assert (registration.has_failed, successor.has_failed) == (True, False)

        asyncio.run(scenario())

    def test_lost_socket_ends_the_process(self, tmp_path: Path) -> None:
        """A socket that somebody removed cannot be found by a kubelet that starts anew."""

        async def scenario() -> None:
            async with registering(tmp_path) as (registration, _):
                assert not registration.has_failed
                registration_socket(tmp_path, "csi.example.org").unlink()
                assert registration.has_failed
            assert not registration.has_failed

        asyncio.run(scenario())
