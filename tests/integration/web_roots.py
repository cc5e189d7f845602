# SPDX-License-Identifier: Apache-2.0
"""A process whose web roots are an attacker's: what its clients and servers make of it.

`prepare` writes a certificate authority where the environment and certifi find their roots; `main`
runs in a process with that environment, and prints what each client and server accepted: from the
attacker, and from the trust domain. Both use the same SPIFFE IDs and DNS names.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from kubetls_sdk import StaticSource, TrustBundleSet
from kubetls_sdk.testing import DevelopmentCA

ROOT = Path(__file__).parents[2]
ORDERS, WEB = "/ns/shop/sa/orders", "/ns/shop/sa/web"
ORDERS_ID = f"spiffe://example.org{ORDERS}"
VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
)
_CERTIFI = """
def where():
    return {path!r}
def contents():
    return open({path!r}).read()
"""


def outcomes(directory):
    """Run `main` in a poisoned process: `{name: {"forged": bool, "genuine": bool}}`."""
    environment = prepare(directory)
    done = subprocess.run(
        [sys.executable, "-c", "from tests.integration.web_roots import main; main()"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def prepare(directory):
    """Make the attacker's authority, and the environment of a process that believes in it."""
    DevelopmentCA("example.org").save(directory / "attacker")
    forged = DevelopmentCA.load(directory / "attacker").bundle.to_pem()
    store = directory / "store"
    store.mkdir()
    path = store / "roots.pem"
    path.write_bytes(forged)
    subprocess.run(["openssl", "rehash", str(store)], check=True, capture_output=True)
    package = directory / "packages" / "certifi"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_CERTIFI.format(path=str(path)))
    return {
        **dict.fromkeys(VARIABLES, str(path)),
        "SSL_CERT_DIR": str(store),
        "PYTHONPATH": f"{package.parent}{os.pathsep}{ROOT}",
        "ATTACKER": str(directory / "attacker"),
    }


class World:
    """The trust domain, and the attacker that the web's roots vouch for."""

    def __init__(self):
        self.genuine = DevelopmentCA("example.org")
        self.forged = DevelopmentCA.load(os.environ["ATTACKER"])

    def source(self, path):
        """A workload of the trust domain, which trusts that alone."""
        mine = self.genuine.issue(path, dns_names=("localhost",))
        return StaticSource(mine, TrustBundleSet([self.genuine.bundle]))

    def svid(self, name, path):
        """What an attacker, or a workload, presents."""
        return getattr(self, name).issue(path, dns_names=("localhost",))


def main():
    """Try all, and print the outcomes."""
    world = World()
    found = {}
    for name, attempt in {**CLIENTS, **SERVERS}.items():
        found[name] = {who: _accepts(attempt, world, who) for who in ("genuine", "forged")}
    print(json.dumps(found))  # noqa: T201 - the answer


def _accepts(attempt, world, who):
    try:
        return attempt(world, who) is not None
    except Exception as err:  # noqa: BLE001 - every library has its own
        print(f"{attempt} {who}: {err!r}", file=sys.stderr)  # noqa: T201
        return False


def client(call):
    """A client of an HTTPS server; accepting is a request that the server saw."""

    def attempt(world, who):
        from tests.integration.origin import Origin, stock_server_context

        context = stock_server_context(world.svid(who, ORDERS))
        with Origin.running(context) as origin:
            with suppress(Exception):
                call(world.source(WEB), origin.url)
            return origin.requests[0] if origin.requests else None

    return attempt


def _stock_urllib(_source, url):
    import urllib.request

    urllib.request.urlopen(url, timeout=5).read()  # noqa: S310 - loopback


def _stock(library):
    def call(_source, url):
        __import__(library).get(url, timeout=5)

    return call


def _sync(library):
    def call(source, url):
        from importlib import import_module

        made = import_module(f"kubetls_sdk.client.{library}").Client
        with made(server=ORDERS_ID, source=source) as http:
            http.get(url)

    return call


def _async(library, **options):
    async def get(source, url):
        from importlib import import_module

        made = import_module(f"kubetls_sdk.client.{library}").AsyncClient
        async with made(server=ORDERS_ID, source=source, **options) as http:
            await http.get(url)

    return lambda source, url: asyncio.run(get(source, url))


def _service_names(source, url):
    from kubetls_sdk.client.httpx import Client

    with Client(service_names=True, source=source) as http:
        http.get(url)


def _requests(source, url):
    from kubetls_sdk.client.requests import session

    with session(server=ORDERS_ID, source=source) as http:
        http.get(url, timeout=5)


def _urllib3(source, url):
    from kubetls_sdk.client.urllib3 import pool_manager

    with pool_manager(server=ORDERS_ID, source=source) as pool:
        pool.request("GET", url, retries=False, timeout=5)


def _context(source):
    from kubetls_sdk.context import client_context
    from kubetls_sdk.expectation import expected_peer

    return client_context(source, expect=expected_peer(ORDERS_ID))


def _aiohttp(source, url):
    async def get():
        import aiohttp

        connector = aiohttp.TCPConnector(ssl=_context(source))
        async with aiohttp.ClientSession(connector=connector) as http, http.get(url) as response:
            await response.read()

    asyncio.run(get())


def _urllib(source, url):
    import urllib.request

    urllib.request.urlopen(url, timeout=5, context=_context(source)).read()  # noqa: S310


def _openssl_alone(source, url):
    """The context's roots without the check of ours that comes after them."""
    import socket

    inner = _context(source)._current()
    inner.sslsocket_class = ssl.SSLSocket
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        ssl.SSLContext.wrap_socket(inner, plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
        connection.recv(100)


def _bundle_endpoint(source, url):
    from kubetls_sdk.federation import Endpoint, Profile
    from kubetls_sdk.federation.fetch import fetch_bundle
    from kubetls_sdk.spiffe_id import SpiffeId

    endpoint = Endpoint(url=url, profile=Profile.SPIFFE, spiffe_id=SpiffeId.parse(ORDERS_ID))
    bundle = source.snapshot.bundles[source.snapshot.trust_domain]
    asyncio.run(fetch_bundle(bundle.trust_domain, endpoint, known=bundle))


def _grpc_client(kind):
    def attempt(world, who):
        from tests.integration.grpc_calling import opened
        from tests.integration.grpc_world import Plain, invoke, serve_stock

        with (
            serve_stock(world.svid(who, ORDERS), Plain()) as target,
            opened(kind, target, world.source(WEB), server_id=ORDERS_ID) as channel,
        ):
            return invoke(channel, "unary_unary", b"a", timeout=3)

    return attempt


def _stock_grpc(world, who):
    import grpc

    from tests.integration.grpc_world import Plain, invoke, serve_stock

    with (
        serve_stock(world.svid(who, ORDERS), Plain()) as target,
        grpc.secure_channel(target, grpc.ssl_channel_credentials()) as channel,
    ):
        return invoke(channel, "unary_unary", b"a", timeout=3)


def _served(run):
    """A server of ours; accepting is an answer to a request."""

    def attempt(world, who):
        from tests.integration.serving import exchange, stock_context

        context = stock_context(world.svid(who, WEB), world.genuine.bundle)
        with run(world) as connect, connect(context) as connection:
            return exchange(connection)

    return attempt


@contextmanager
def _uvicorn(world):
    from tests.integration.serving import Application, serve

    served = type("Served", (), {"source": world.source(ORDERS), "application": Application()})
    with serve(served) as serving:
        yield serving.connect


def _origin(make_context):
    @contextmanager
    def run(world):
        import socket

        from tests.integration.origin import Origin

        def connect(context):
            plain = socket.create_connection(("127.0.0.1", origin.port), timeout=5)
            return context.wrap_socket(plain, server_hostname="localhost")

        with Origin.running(make_context(world)) as origin:
            yield connect

    return run


def _our_context(world):
    from kubetls_sdk.context import server_context

    return server_context(world.source(ORDERS))


def _stock_context(world):
    from tests.integration.origin import load_chain

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_default_verify_paths()
    load_chain(context, world.svid("genuine", ORDERS))
    return context


def _grpc_server(kind):
    def attempt(world, who):
        from tests.integration.grpc_world import invoke, serve

        served = type("Served", (), {"source": world.source(ORDERS), "ca": world.genuine})
        with serve(served, kind) as serving:
            channel = serving.channel(world.svid(who, WEB))
            return invoke(channel, "unary_unary", b"a", timeout=3)

    return attempt


CLIENTS = {
    "stock urllib": client(_stock_urllib),
    "stock httpx": client(_stock("httpx")),
    "stock requests": client(_stock("requests")),
    "stock grpc": _stock_grpc,
    "httpx": client(_sync("httpx")),
    "httpx async": client(_async("httpx")),
    "httpx HTTP/2": client(_async("httpx", http2=True)),
    "httpx service names": client(_service_names),
    "httpx2": client(_sync("httpx2")),
    "httpx2 async": client(_async("httpx2")),
    "requests": client(_requests),
    "urllib3": client(_urllib3),
    "aiohttp": client(_aiohttp),
    "urllib": client(_urllib),
    "openssl alone": client(_openssl_alone),
    "bundle endpoint": client(_bundle_endpoint),
    "grpc": _grpc_client("threaded"),
    "grpc async": _grpc_client("async"),
}
SERVERS = {
    "stock server": _served(_origin(_stock_context)),
    "server uvicorn": _served(_uvicorn),
    "server context": _served(_origin(_our_context)),
    "server grpc": _grpc_server("threaded"),
    "server grpc async": _grpc_server("async"),
}
