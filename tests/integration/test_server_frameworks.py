# SPDX-License-Identifier: Apache-2.0
"""The caller in Starlette, FastAPI, Litestar, Quart and Django, over a real connection."""

from __future__ import annotations

import django
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from fastapi import FastAPI, WebSocket
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import get as litestar_get
from quart import Quart
from quart import request as quart_request
from starlette.applications import Starlette
from starlette.requests import Request  # noqa: TC002 - read at run time
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from websockets.sync.client import connect as connect_websocket

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.caller import caller
from kubetls_sdk.server.fastapi import Caller  # noqa: TC001 - FastAPI reads it
from tests.integration.serving import GET, World, exchange, serve

WEB = "spiffe://example.org/ns/shop/sa/web"


@pytest.fixture
def world():
    return World()


def starlette_app():
    async def home(request: Request) -> PlainTextResponse:
        assert request.state.caller is caller(request) is caller(request.scope)
        return PlainTextResponse(str(caller(request).spiffe_id))

    return Starlette(routes=[Route("/", home)])


def fastapi_app():
    app = FastAPI()

    @app.get("/orders/{id}", response_class=PlainTextResponse)
    def order(id: str, caller: Caller):  # noqa: A002 - as in the documentation
        return f"{id} {caller.spiffe_id} {caller.namespace} {caller.service_account}"

    @app.get("/", response_class=PlainTextResponse)
    async def home(caller: Caller):
        return str(caller.spiffe_id)

    @app.websocket("/")
    async def socket(websocket: WebSocket, caller: Caller):
        await websocket.accept()
        await websocket.send_text(str(caller))
        await websocket.close()

    return app


def litestar_app():
    @litestar_get("/", media_type="text/plain")
    async def home(request: LitestarRequest) -> str:
        return str(caller(request).spiffe_id)

    return Litestar([home], logging_config=None)  # its own would change that of the whole process


def quart_app():
    app = Quart(__name__)

    @app.get("/")
    async def home() -> str:
        return str(caller(quart_request).spiffe_id)

    return app


async def django_home(request):
    return HttpResponse(str(caller(request).spiffe_id), content_type="text/plain")


urlpatterns = [path("", django_home)]


def django_app():
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
        django.setup()
    return get_asgi_application()


class TestCaller:
    @pytest.mark.parametrize(
        "make", [starlette_app, fastapi_app, litestar_app, quart_app, django_app]
    )
    def test_frameworks(self, world, make):
        """Every framework gets the same caller from its own request object."""
        with serve(world, app=make(), options={"lifespan": "off"}) as serving:
            status, _, body = exchange(serving.connect(world.client()))
        assert (status, body.decode()) == (200, WEB)

    def test_fastapi_dependency(self, world):
        """`def order(id: str, caller: Caller)` is all that a route needs."""
        with serve(world, app=fastapi_app()) as serving:
            request = GET.replace(b" / ", b" /orders/42 ")
            body = exchange(serving.connect(world.client()), request)[2]
        assert body.decode() == f"42 {WEB} shop web"

    def test_fastapi_websocket(self, world):
        """The dependency works for a WebSocket too."""
        with (
            serve(world, app=fastapi_app()) as serving,
            connect_websocket(f"wss://localhost:{serving.port}/", ssl=world.client()) as socket,
        ):
            assert socket.recv(10) == WEB

    def test_without_the_middleware(self):
        """Without the middleware there is an error, never a request without a caller."""
        with pytest.raises(ConfigurationError, match="KubeTLSMiddleware"):
            caller({"type": "http", "state": {}})


ODD = [
    b"//", b"/../", b"/a/../b", b"/%2e%2e/b", b"/a%2fb", b"/a%00", b"/a;b=c", b"/a\\b",
    b"/%zz", b"/%ff",
]  # fmt: skip


class TestPath:
    """The policy sees the path that the application routes on."""

    POLICY = (
        "version: 1\npolicies:\n- name: p\n  allow:\n  - name: items\n"
        "    from: {namespace: shop}\n    to: {methods: GET, paths: %r}\n"
    )

    def _statuses(self, world, app, policy_path, paths, **options):
        text = self.POLICY % policy_path
        policy = PolicySet.parse({"p": text}, trust_domain=world.ca.trust_domain)
        with serve(world, app=app, policy=policy, options=options) as serving:
            return [
                exchange(serving.connect(world.client()), GET.replace(b" / ", b" %s " % path))[0]
                for path in paths
            ]

    def test_mounted_application(self, world):
        """A rule names the whole path, through mounts."""

        async def items(request):
            return PlainTextResponse("items")

        app = Starlette(routes=[Mount("/shop", routes=[Route("/items", items)])])
        paths = [b"/shop/items", b"/items", b"/shop/%69tems", b"/shop//items"]
        assert self._statuses(world, app, "/shop/items", paths) == [200, 403, 200, 400]

    def test_root_path(self, world):
        """With a root path, a rule names the path with it, as the application sees it."""

        async def items(request):
            return PlainTextResponse(request.scope["path"])

        app = Starlette(routes=[Route("/items", items)])
        assert self._statuses(world, app, "/api/items", [b"/items"], root_path="/api") == [200]
        assert self._statuses(world, app, "/items", [b"/items"], root_path="/api") == [403]

    @pytest.mark.parametrize("path", ODD, ids=repr)
    @pytest.mark.parametrize("http", ["h11", "httptools", "zttp"])
    def test_odd_paths(self, world, http, path):
        """A path that two parsers could read differently never reaches the application."""
        with serve(world, http=http) as serving:
            request = GET.replace(b" / ", b" %s " % path)
            assert exchange(serving.connect(world.client()), request)[0] == 400
        assert world.application.scopes == []

    @pytest.mark.parametrize("http", ["h11", "httptools", "zttp"])
    def test_two_hosts(self, world, http):
        """Two Host fields are refused, on whichever parser lets them through."""
        with serve(world, http=http) as serving:
            request = GET[:-2] + b"host: admin\r\n\r\n"
            assert exchange(serving.connect(world.client()), request)[0] == 400
        assert world.application.scopes == []

    @pytest.mark.parametrize("method", [b"websocket", b"grpc", b"action", b"get"])
    def test_pseudo_methods(self, world, method):
        """No request line spells a method that only the policy has."""
        with serve(world, http="h11") as serving:
            request = GET.replace(b"GET", method)
            assert exchange(serving.connect(world.client()), request)[0] == 400
        assert world.application.scopes == []
