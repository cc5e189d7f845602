# SPDX-License-Identifier: Apache-2.0
"""gRPC with a peer that is not grpcio: grpc-js on Node.

Runs where Node finds `@grpc/grpc-js`: `npm install --no-save @grpc/grpc-js` in the repository, or
`NODE_PATH`.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.client.grpc import secure_channel
from tests.integration.grpc_calling import ORDERS, WEB
from tests.integration.grpc_world import World, code_of, invoke, path, serve

SCRIPTS = Path(__file__).parent / "interop"


def _has_grpc_js():
    if shutil.which("node") is None:
        return False
    found = subprocess.run(
        ["node", "-e", "require.resolve('@grpc/grpc-js')"], cwd=SCRIPTS, capture_output=True
    )
    return found.returncode == 0


pytestmark = pytest.mark.skipif(not _has_grpc_js(), reason="needs node with @grpc/grpc-js")


@pytest.fixture
def world():
    return World()


def write(directory, svid, bundle):
    (directory / "key.pem").write_bytes(svid.private_key_pem())
    (directory / "chain.pem").write_bytes(svid.certificates_pem())
    (directory / "roots.pem").write_bytes(bundle.to_pem())


def call_by_js(target, directory, method="unary_unary"):
    done = subprocess.run(
        ["node", "client.js", target, str(directory), path(method), "hello"],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stdout


@contextmanager
def js_server(directory):
    process = subprocess.Popen(
        ["node", "server.js", str(directory)],
        cwd=SCRIPTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"localhost:{process.stdout.readline().strip()}"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


class TestServer:
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_calls(self, world, kind, tmp_path):
        """A grpc-js client is known by its SPIFFE ID, with intermediates too."""
        write(tmp_path, world.ca.issue("/ns/shop/sa/web", intermediates=1), world.ca.bundle)
        with serve(world, kind) as serving:
            assert call_by_js(serving.target, tmp_path) == f"{WEB} hello"

    def test_refusals(self, world, tmp_path):
        """A forged identity is UNAUTHENTICATED, what no rule allows PERMISSION_DENIED."""
        policy = tmp_path / "policy.yaml"
        policy.write_text("version: 1\npolicies: []\n")
        with serve(world, policy=policy) as serving:
            write(tmp_path, world.ca.issue("/ns/shop/sa/web"), world.ca.bundle)
            assert call_by_js(serving.target, tmp_path) == "code 7"
            assert call_by_js(serving.target, tmp_path, "unknown") == "code 7"
            forged = world.partner.issue_for("example.org", "/ns/shop/sa/web")
            write(tmp_path, forged, world.ca.bundle)
            assert call_by_js(serving.target, tmp_path) == "code 16"


class TestClient:
    @pytest.mark.parametrize("intermediates", [0, 1])
    def test_calls(self, world, tmp_path, intermediates):
        """A grpc-js server is accepted by its SPIFFE ID alone, and only by it."""
        server = world.ca.issue("/ns/shop/sa/orders", intermediates=intermediates)
        write(tmp_path, server, world.ca.bundle)
        source = StaticSource(world.ca.issue("/ns/shop/sa/web"), TrustBundleSet([world.ca.bundle]))
        with js_server(tmp_path) as target:
            with secure_channel(target, source, server_id=ORDERS) as channel:
                assert invoke(channel, "unary_unary", b"hello") == [b"js hello"]
                assert invoke(channel, "stream_stream", b"a", b"b") == [b"js a", b"js b"]
                source.replace(svid=world.ca.issue("/ns/shop/sa/web"))
                assert invoke(channel, "unary_unary", b"hello") == [b"js hello"]
            with secure_channel(target, source, server_id=WEB) as channel:
                assert code_of(channel, "unary_unary", b"a")[0] is grpc.StatusCode.UNAVAILABLE
