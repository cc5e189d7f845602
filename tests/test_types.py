# SPDX-License-Identifier: Apache-2.0
"""The annotations serve who uses the package: a program as the guides show it is well typed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ssl
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

from kubetls_sdk import SpiffeId, StaticSource, TrustDomain, VolumeSource
from kubetls_sdk.client import AsyncClient, Client
from kubetls_sdk.context import client_context
from kubetls_sdk.expectation import AnyMember, ServiceName, expected_peer
from kubetls_sdk.policy_file import PolicyFile
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.caller import caller
from kubetls_sdk.server.edge import Edge
from kubetls_sdk.server.probes import Probes
from kubetls_sdk.server.uvicorn import MutualTls, run
from kubetls_sdk.testing import DevelopmentCA

app = Starlette()


def serve() -> None:
    with PolicyFile("policy.yaml", trust_domain=TrustDomain("example.org")) as policy:
        uvicorn.run(
            KubeTLSMiddleware(app, policy=policy),
            http=MutualTls(),  # type: ignore[arg-type]
        )
        run(app, policy=policy)
    edge = Edge(port=443, certificate="tls.crt", key="tls.key")
    run(app, policy=["policy.yaml"], probes=Probes(port=8080), edge=edge)
    run(app, policy=AnyVerified(), tls=MutualTls(directory="volume"))


def who(request: Request) -> tuple[SpiffeId | None, str | None]:
    return caller(request).spiffe_id, caller(request).namespace


def contexts(source: VolumeSource) -> list[ssl.SSLContext]:
    expected = AnyMember(TrustDomain("example.org")), ServiceName("orders"), expected_peer("spiffe://a/b")
    return [client_context(source, expect=each) for each in expected]


async def fetch() -> int:
    async with AsyncClient(server="spiffe://example.org/orders", timeout=5) as client:
        return (await client.get("https://orders")).status_code


def fetch_blocking(source: VolumeSource) -> str:
    with Client(servers={"orders": "spiffe://example.org/orders"}, source=source) as client:
        return client.get("https://orders").text


def test_orders(
    kubetls_ca: DevelopmentCA, kubetls_source: Callable[..., StaticSource]
) -> None:
    kubetls_source("/ns/shop/sa/orders", ca=kubetls_ca)
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="needs the group lint")
def test_a_users_program(tmp_path):
    """Names, arguments and results of the guides pass mypy's strictest checks."""
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--warn-unused-ignores"]
    done = subprocess.run(
        [*command, "--cache-dir", str(root / ".mypy_cache"), str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert done.returncode == 0, done.stdout + done.stderr
