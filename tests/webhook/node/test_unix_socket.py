# SPDX-License-Identifier: Apache-2.0
"""Where the driver listens: a socket of ours, and nothing that was not one."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from webhook.node.unix_socket import grpc_server, listen


def bind(path: Path) -> int:
    """Listen for a moment; the mode of the socket."""

    def mode() -> int:
        return stat.S_IMODE(path.stat().st_mode)

    async def scenario() -> int:
        server = grpc_server()
        listen(server, path)
        await server.start()
        found = mode()
        await server.stop(None)
        return found

    return asyncio.run(scenario())


class TestListen:
    def test_makes_the_folder(self, tmp_path: Path) -> None:
        """A folder that is missing is made, and the process's umask is as before."""
        before = os.umask(0o022)
        try:
            assert bind(tmp_path / "plugins" / "csi.sock") == 0o600
            assert os.umask(0o022) == 0o022
        finally:
            os.umask(before)

    def test_replaces_a_stale_socket(self, tmp_path: Path) -> None:
        """A socket that a killed process left is no hindrance."""
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(tmp_path / "csi.sock"))
        assert bind(tmp_path / "csi.sock") == 0o600

    @pytest.mark.parametrize("kind", ["file", "folder", "link"])
    def test_removes_nothing_else(self, tmp_path: Path, kind: str) -> None:
        """A file, a folder or a link of the socket's name is an error, and stays."""
        path = tmp_path / "csi.sock"
        if kind == "file":
            path.write_bytes(b"theirs")
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ConfigurationError, match="expected a socket or nothing"):
            bind(path)
        assert path.is_symlink() or path.exists()

    @pytest.mark.parametrize(
        "path", [Path("/" + "x" * 107), Path("csi.sock")], ids=["long", "relative"]
    )
    def test_refuses_what_cannot_be_one(self, path: Path) -> None:
        """The kernel takes no socket's path of more than 107 bytes: said before it is tried."""
        with pytest.raises(ConfigurationError, match="at most 107 bytes"):
            bind(path)


class TestReplaced:
    def test_is_noticed(self, tmp_path: Path) -> None:
        """A socket of somebody else at the same path is not taken for ours."""
        path = tmp_path / "csi.sock"

        async def scenario() -> None:
            server = grpc_server()
            bound = listen(server, path)
            await server.start()
            assert bound.is_there
            path.unlink()
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(str(path))
                assert not bound.is_there
            await server.stop(None)

        asyncio.run(scenario())
