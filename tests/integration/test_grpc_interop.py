# SPDX-License-Identifier: Apache-2.0
"""gRPC with peers that are not grpcio: grpc-js on Node, and grpc-go.

They run where Node finds `@grpc/grpc-js` (`npm install --no-save @grpc/grpc-js` in the repository,
or `NODE_PATH`), and where Go has the modules of `interop/grpc-go` (`go mod download` there).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.client.grpc import secure_channel
from tests.integration.grpc_calling import ORDERS, WEB
from tests.integration.grpc_world import World, code_of, invoke, path, serve

SCRIPTS = Path(__file__).parent / "interop"

pytestmark = pytest.mark.timeout(300)  # Go may have to compile first


@pytest.fixture
def world():
    return World()


class Js:
    """grpc-js."""

    name = "js"

    @functools.cached_property
    def is_here(self):
        if shutil.which("node") is None:
            return False
        found = subprocess.run(
            ["node", "-e", "require.resolve('@grpc/grpc-js')"], cwd=SCRIPTS, capture_output=True
        )
        return found.returncode == 0

    def client(self, *arguments):
        return ["node", "client.js", *arguments]

    def server(self, *arguments):
        return ["node", "server.js", *arguments]


class Go:
    """grpc-go."""

    name = "go"

    @functools.cached_property
    def is_here(self):
        if shutil.which("go") is None:
            return False
        self._directory = tempfile.TemporaryDirectory()
        self._program = f"{self._directory.name}/peer"
        built = subprocess.run(
            ["go", "build", "-o", self._program, "."],
            cwd=SCRIPTS / "grpc-go",
            env={**os.environ, "GOPROXY": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"},
            capture_output=True,
        )
        return built.returncode == 0

    def client(self, *arguments):
        return [self._program, "client", *arguments]

    def server(self, *arguments):
        return [self._program, "server", *arguments]


PEERS = (Js(), Go())


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request):
    if not request.param.is_here:
        pytest.skip(f"needs grpc-{request.param.name}")
    return request.param


def write(directory, svid, bundle):
    (directory / "key.pem").write_bytes(svid.private_key_pem())
    (directory / "chain.pem").write_bytes(svid.certificates_pem())
    (directory / "roots.pem").write_bytes(bundle.to_pem())


def call_by(peer, target, directory, method="unary_unary"):
    done = subprocess.run(
        peer.client(target, str(directory), path(method), "hello"),
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


@contextmanager
def serve_by(peer, directory):
    process = subprocess.Popen(
        peer.server(str(directory)),
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
    def test_calls(self, world, peer, kind, tmp_path):
        """A client is known by its SPIFFE ID, with intermediates too."""
        write(tmp_path, world.ca.issue("/ns/shop/sa/web", intermediates=1), world.ca.bundle)
        with serve(world, kind) as serving:
            assert call_by(peer, serving.target, tmp_path) == f"{WEB} hello"

    def test_refusals(self, world, peer, tmp_path):
        """A forged identity is UNAUTHENTICATED, what no rule allows PERMISSION_DENIED."""
        policy = tmp_path / "policy.yaml"
        policy.write_text("version: 1\npolicies: []\n")
        with serve(world, policy=policy) as serving:
            write(tmp_path, world.ca.issue("/ns/shop/sa/web"), world.ca.bundle)
            assert call_by(peer, serving.target, tmp_path) == _code(peer, "PermissionDenied", 7)
            unknown = call_by(peer, serving.target, tmp_path, "unknown")
            assert unknown == _code(peer, "PermissionDenied", 7)
            forged = world.partner.issue_for("example.org", "/ns/shop/sa/web")
            write(tmp_path, forged, world.ca.bundle)
            assert call_by(peer, serving.target, tmp_path) == _code(peer, "Unauthenticated", 16)


class TestClient:
    @pytest.mark.parametrize("intermediates", [0, 1])
    def test_calls(self, world, peer, tmp_path, intermediates):
        """A server is accepted by its SPIFFE ID alone, and only by it."""
        server = world.ca.issue("/ns/shop/sa/orders", intermediates=intermediates)
        write(tmp_path, server, world.ca.bundle)
        source = StaticSource(world.ca.issue("/ns/shop/sa/web"), TrustBundleSet([world.ca.bundle]))
        answer = f"{peer.name} ".encode()
        with serve_by(peer, tmp_path) as target:
            with secure_channel(target, source, server_id=ORDERS) as channel:
                assert invoke(channel, "unary_unary", b"hello") == [answer + b"hello"]
                streamed = invoke(channel, "stream_stream", b"a", b"b")
                assert streamed == [answer + b"a", answer + b"b"]
                source.replace(svid=world.ca.issue("/ns/shop/sa/web"))
                assert invoke(channel, "unary_unary", b"hello") == [answer + b"hello"]
            with secure_channel(target, source, server_id=WEB) as channel:
                assert code_of(channel, "unary_unary", b"a")[0] is grpc.StatusCode.UNAVAILABLE


def _code(peer, name, number):
    return f"code {name if peer.name == 'go' else number}"
