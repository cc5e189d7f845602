# SPDX-License-Identifier: Apache-2.0
"""Kubeconfig files, written as JSON, which is YAML."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from cluster.authority import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.authority import Files


def with_certificate(path: Path, *, server: str, authority_pem: bytes, files: Files) -> Path:
    """Write a kubeconfig that holds a client certificate and its key."""
    user = {
        "client-certificate-data": _base64(files.certificate.read_bytes()),
        "client-key-data": _base64(files.private_key.read_bytes()),
    }
    return _write(path, server, authority_pem, user)


def with_token(path: Path, *, server: str, authority_pem: bytes, token: str) -> Path:
    """Write a kubeconfig that holds a bearer token."""
    return _write(path, server, authority_pem, {"token": token})


def _write(path: Path, server: str, authority_pem: bytes, user: dict[str, str]) -> Path:
    cluster = {"server": server, "certificate-authority-data": _base64(authority_pem)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubetls", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "kubetls", "context": {"cluster": "kubetls", "user": "user"}}],
        "current-context": "kubetls",
    }
    return write_private(path, json.dumps(document, indent=1).encode())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
