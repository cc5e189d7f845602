# SPDX-License-Identifier: Apache-2.0
"""The generated modules say what the .proto files beside them say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from webhook.node.protocol import csi_pb2, registration_pb2

ROOT = Path(__file__).parents[3]


class TestGenerated:
    @pytest.mark.parametrize("module", [csi_pb2, registration_pb2], ids=["csi", "registration"])
    def test_is_in_step(self, tmp_path: Path, module: object) -> None:
        """Each module holds the messages and services of its .proto file, of now."""
        name = module.DESCRIPTOR.name
        out = tmp_path / "descriptors"
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={out}"]
        subprocess.run([*command, name], check=True, cwd=ROOT, timeout=30)
        (expected,) = FileDescriptorSet.FromString(out.read_bytes()).file
        found = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(found)
        assert _names(found) == _names(expected)


def _names(described: FileDescriptorProto) -> str:
    """All that matters on the wire; `json_name` is only in one of the two."""
    return "\n".join(
        line for line in str(described).splitlines() if not line.strip().startswith("json_name")
    )
