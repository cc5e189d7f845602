# SPDX-License-Identifier: Apache-2.0
"""What attackers write on the wire never reaches an application that the policy protects from it.

Against each HTTP implementation, with raw bytes over TLS: what matters is what the server makes of
a request line, not what a client library would send.
"""

from __future__ import annotations

import contextlib
import socket

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from kubetls_sdk.authz import WEBSOCKET, PolicySet
from kubetls_sdk.server.caller import caller
from kubetls_sdk.spiffe_id import TrustDomain
from tests.integration.serving import World, read_to_end, serve
from tests.integration.test_server_hypercorn import running

POLICY = """
version: 1
policies:
  - name: wide
    allow:
      - name: everything
        from: {namespace: shop, serviceAccount: web}
        to: [{paths: /**}, {paths: /**, websocket: true}]
      - name: orders-read
        from: {namespace: shop, serviceAccount: app}
        to: {methods: GET, paths: ["/open", "/mounted/open", "/reports"]}
      - name: tenant
        from: {namespace: shop, serviceAccount: app}
        to: {paths: /tenant}
        when: header.x-tenant == 'acme'
    deny:
      - {name: no-admin, to: {paths: [/admin/**, /mounted/admin/**, /api/admin/**]}}
      - {name: no-reports, to: {methods: GET, paths: /reports}, from: {serviceAccount: web}}
      - {name: no-ledger, to: {hosts: ledger.example.org}}
      - {name: no-mark, when: "header.x-mark startsWith 'bad'"}
"""
OWN = TrustDomain("example.org")
SERVERS = ["h11", "httptools", "zttp", "hypercorn"]


class Site:
    """A Starlette application, and all that reaches it.

    Attributes:
        scopes: What came out of the middleware.
        served: Names of the endpoints that were called.
    """

    def __init__(self):
        self.scopes = []
        self.served = []
        inner = [Route("/admin", self.admin), Route("/open", self.open)]
        self._app = Starlette(
            routes=[
                Route("/admin", self.admin),
                Route("/admin/{rest:path}", self.admin),
                Route("/reports", self.open),
                Route("/tenant", self.open),
                Mount("/mounted", routes=inner),
                WebSocketRoute("/admin/socket", self.socket),
                WebSocketRoute("/socket", self.socket),
                Route("/{rest:path}", self.open),
            ]
        )

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            self.scopes.append(dict(scope))
        await self._app(scope, receive, send)

    async def admin(self, _request):
        self.served.append("admin")
        return PlainTextResponse("secret")

    async def open(self, request):
        self.served.append("open")
        return PlainTextResponse(str(caller(request)))

    async def socket(self, websocket):
        self.served.append("socket")
        await websocket.accept()
        await websocket.close()

    def forget(self):
        self.scopes.clear()
        self.served.clear()


class Wire:
    """A server and raw connections to it."""

    def __init__(self, site, world, server):
        self.site = site
        self._server = server
        self._clients = {
            name: world.client(world.ca.issue(f"/ns/shop/sa/{name}")) for name in ("web", "app")
        }

    def send(self, head, *fields, account="web", connection_field=b"connection: close"):
        """Send one request line with header fields; the status, None when there is no answer."""
        lines = [head, *fields, connection_field, b"", b""]
        with self._server.connect(self._clients[account]) as connection:
            connection.settimeout(5)
            connection.sendall(b"\r\n".join(lines))
            answer = read_head(connection)
        return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.") else None

    def get(self, target, *fields, method=b"GET", account="web"):
        return self.send(
            b"%s %s HTTP/1.1" % (method, target), b"host: orders", *fields, account=account
        )

    def upgrade(self, target, account="web"):
        return self.send(
            b"GET %s HTTP/1.1" % target,
            b"host: orders",
            b"upgrade: websocket",
            b"sec-websocket-version: 13",
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            account=account,
            connection_field=b"connection: upgrade",
        )


def read_head(connection):
    """Read to the end of a response's header, or of the connection."""
    data = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in data and (chunk := connection.recv(65536)):
            data += chunk
    return data


def start(name, site, world, **options):
    policy = PolicySet.parse({"policy.yaml": POLICY}, trust_domain=OWN)
    if name == "hypercorn":
        return running(world, app=site, policy=policy, **options)
    return serve(world, app=site, policy=policy, http=name, options=options)


@pytest.fixture(scope="module", params=SERVERS)
def served(request):
    site, world = Site(), World()
    with start(request.param, site, world) as server:
        yield Wire(site, world, server)


@pytest.fixture
def wire(served):
    served.site.forget()
    return served


NOT_CANONICAL = [
    pytest.param(b"//admin", id="CVE-2021-31920-double-slash"),
    pytest.param(b"/public//admin", id="double-slash-inside"),
    pytest.param(b"/%2fadmin", id="CVE-2021-31920-encoded-slash"),
    pytest.param(b"/admin%2fx", id="CVE-2021-31920-encoded-slash-inside"),
    pytest.param(b"/x%5C..%5Cadmin", id="CVE-2021-31920-encoded-backslash"),
    pytest.param(b"\\admin", id="backslash"),
    pytest.param(b"/x/../admin", id="GO-2026-5242-dot-dot"),
    pytest.param(b"/x/%2e%2e/admin", id="GHSA-3q34-rx83-r6mq-encoded-dots"),
    pytest.param(b"/./admin", id="dot"),
    pytest.param(b"/admin;x", id="CVE-2026-73553-parameter"),
    pytest.param(b"/admin;/x", id="CVE-2026-73553-parameter-inside"),
    pytest.param(b"/admin%3bx", id="CVE-2026-73511-encoded-parameter"),
    pytest.param(b"/admin%3fx", id="CVE-2020-8595-encoded-query"),
    pytest.param(b"/admin%23x", id="CVE-2021-32779-encoded-fragment"),
    pytest.param(b"/admin%00", id="encoded-nul"),
    pytest.param(b"/admin\x00", id="nul"),
    pytest.param(b"/admin%0d%0a", id="encoded-line-end"),
    pytest.param(b"/adm%zzin", id="broken-escape"),
    pytest.param(b"/admin%", id="cut-escape"),
    pytest.param(b"/admin%ff", id="not-utf-8"),
    pytest.param(b"/admin\xff", id="obs-text"),
    pytest.param(b"/%252e%252e/admin", id="double-encoding"),
    pytest.param(b"admin", id="CVE-2026-33186-no-leading-slash"),
    pytest.param(b"@evil/admin", id="PYSEC-2026-248-at-sign"),
    pytest.param(b"*", id="asterisk-form"),
    pytest.param(b"orders:443", id="authority-form"),
    pytest.param(b"?/admin", id="query-alone"),
    pytest.param(b"", id="empty"),
]


class TestPaths:
    def test_control(self, wire):
        """The policy lets this client do everything but what it denies."""
        assert wire.get(b"/open") == 200
        assert wire.get(b"/mounted/open") == 200
        assert wire.site.served == ["open", "open"]
        assert wire.get(b"/admin") == 403
        assert wire.get(b"/mounted/admin") == 403
        assert len(wire.site.scopes) == 2

    @pytest.mark.parametrize("target", NOT_CANONICAL)
    def test_not_canonical(self, wire, target):
        """Refused by the server or with 400; never by the application's routing."""
        assert wire.get(target) in (400, None)
        assert wire.site.scopes == []

    @pytest.mark.parametrize(
        "target",
        [
            pytest.param(b"/%61dmin", id="encoded-letter"),
            pytest.param(b"/admin/", id="trailing-slash"),
            pytest.param(b"/admin?x=/open", id="query"),
            pytest.param(b"/admin/%20", id="encoded-space"),
            pytest.param(b"/mounted/%61dmin", id="mount"),
            pytest.param(b"/mounted/admin/", id="mount-trailing-slash"),
            pytest.param(b"/admin#open", id="CVE-2021-39156-fragment"),
            pytest.param(b"https://orders/admin", id="absolute-form"),
            pytest.param(b"https://orders/open/../admin", id="absolute-form-dots"),
        ],
    )
    def test_other_spellings(self, wire, target):
        """The policy decides on the path that the application would route on."""
        assert wire.get(target) in (400, 403, None)
        assert wire.site.scopes == []

    @pytest.mark.parametrize("target", [b"/open#x", b"https://orders/open", b"/ADMIN"])
    def test_the_application_sees_what_was_decided(self, wire, target):
        """Servers differ; whatever reaches the application is a canonical, allowed path."""
        wire.get(target)
        policy = PolicySet.parse({"policy.yaml": POLICY}, trust_domain=OWN)
        for scope in wire.site.scopes:
            identity = scope["kubetls.caller"].spiffe_id
            assert policy.decide(identity, scope["method"], scope["path"]).allowed
            assert scope["path"] in ("/open", "/ADMIN")
        assert "admin" not in wire.site.served


class TestMethods:
    @pytest.mark.parametrize("method", [b"get", b"Get", b"websocket", b"grpc", b"G-T", b"G_T"])
    def test_odd(self, wire, method):
        """A method that is not upper-case letters is refused, a pseudo-method above all.

        hypercorn makes it upper-case before anybody looks: then that is decided and served.
        """
        wire.get(b"/open", method=method, account="app")
        assert [s["method"] for s in wire.site.scopes] in ([], ["GET"])
        assert wire.get(b"/reports", method=method) != 200

    @pytest.mark.parametrize("target", [b"orders:443", b"/open"])
    def test_connect(self, wire, target):
        """CVE-2026-73547: CONNECT has no path to decide on."""
        assert wire.get(target, method=b"CONNECT") in (400, 404, 405, 501, None)
        assert wire.site.scopes == []

    def test_options_of_the_server(self, wire):
        """`OPTIONS *` is about no path of the application."""
        assert wire.get(b"*", method=b"OPTIONS") in (400, None)
        assert wire.site.scopes == []

    def test_head(self, wire):
        """A GET route serves HEAD: allow and deny rules for GET cover it, and only it."""
        assert wire.get(b"/open", method=b"HEAD", account="app") == 200
        assert wire.get(b"/open", method=b"POST", account="app") == 403
        assert wire.get(b"/reports", method=b"HEAD") == 403
        assert wire.site.served == ["open"]

    def test_overrides_have_no_effect(self, wire):
        """A header that names another method changes nothing."""
        assert wire.get(b"/reports", b"x-http-method-override: POST") == 403
        assert wire.site.scopes == []


class TestTrailingSlash:
    def test_deny_covers_it(self, wire):
        """The router would redirect or serve it: either way it is denied."""
        assert wire.get(b"/reports/") == 403
        assert wire.site.scopes == []

    def test_allow_does_not(self, wire):
        """Another path, which no rule allows; the router is not asked to redirect."""
        assert wire.get(b"/reports", account="app") == 200
        assert wire.get(b"/reports/", account="app") == 403
        assert len(wire.site.scopes) == 1


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        [
            b"ledger.example.org", b"LEDGER.Example.org", b"ledger.example.org:8443",
            b"ledger.example.org.",
        ],
    )  # fmt: skip
    def test_any_spelling(self, wire, host):
        """CVE-2021-39155: hosts have no case, and neither port nor dot hides them."""
        assert wire.send(b"GET /open HTTP/1.1", b"Host: " + host) == 403
        assert wire.site.scopes == []

    @pytest.mark.parametrize("second", [b"host: orders", b"HOST: orders", b"Host: ledger.example"])
    def test_two(self, wire, second):
        """Whichever of two the router takes, the policy might have taken the other."""
        status = wire.send(b"GET /open HTTP/1.1", b"Host: ledger.example.org", second)
        assert status in (400, None)
        assert wire.site.scopes == []

    @pytest.mark.parametrize(
        "host", [b"ledger.example.org:1:2", b"ledger.example.org:x", b"ledger.example.org/x"]
    )
    def test_malformed(self, wire, host):
        """Routers cut such a host differently: a deny rule for a host is not sure, and matches."""
        assert wire.send(b"GET /open HTTP/1.1", b"host: " + host) in (400, 403)
        assert wire.site.scopes == []

    def test_none(self, wire):
        """A request without host is not for any, for the router neither."""
        wire.send(b"GET /open HTTP/1.0")
        assert [h for s in wire.site.scopes for h in s["headers"] if h[0] == b"host"] == []


class TestHeaders:
    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param((b"x-mark: bad",), id="plain"),
            pytest.param((b"X-MARK: bad",), id="case"),
            pytest.param((b"x-mark: good", b"x-mark: bad"), id="CVE-2026-26308-second"),
            pytest.param((b"x-mark: bad", b"x-mark: good"), id="CVE-2020-25017-first"),
            pytest.param((b"x-mark: bad\xff",), id="CVE-2026-73552-obs-text"),
            pytest.param((b"x-mark:\t bad \t",), id="spaces"),
        ],
    )
    def test_deny(self, wire, fields):
        """A deny rule matches on any value, whatever bytes it has."""
        assert wire.get(b"/open", *fields) in (400, 403)
        assert wire.site.scopes == []

    @pytest.mark.parametrize(
        ("status", "fields"),
        [
            pytest.param(200, (b"X-Tenant: acme",), id="right"),
            pytest.param(403, (), id="missing"),
            pytest.param(403, (b"x-tenant: acme", b"x-tenant: other"), id="two"),
            pytest.param(403, (b"x-tenant: acme, other",), id="joined"),
            pytest.param(403, (b"x-tenant: ",), id="empty"),
            pytest.param(403, (b"x_tenant: acme",), id="underscore"),
            pytest.param(403, (b"x-tenant: acme\xa0",), id="obs-text"),
        ],
    )
    def test_allow(self, wire, status, fields):
        """An allow rule needs every value to be right."""
        assert wire.get(b"/tenant", *fields, account="app") in (status, 400 if fields else status)
        assert len(wire.site.scopes) == (status == 200)

    @pytest.mark.parametrize(
        "name",
        [b"x-forwarded-client-cert", b"X-Forwarded-Client-Cert", b"X_Forwarded_Client_Cert",
         b"x-spiffe-id", b"client-cert", b"dapr-caller-app-id"],
    )  # fmt: skip
    def test_forged_identity(self, wire, name):
        """Identity headers, even twice, change neither decision nor caller and do not get in."""
        forged = name + b": By=spiffe://example.org/x;URI=spiffe://example.org/ns/shop/sa/web"
        assert wire.get(b"/socket-less", forged, forged, account="app") == 403
        assert wire.get(b"/open", forged, forged, account="app") == 200
        (scope,) = wire.site.scopes
        assert str(scope["kubetls.caller"]) == "spiffe://example.org/ns/shop/sa/app"
        assert not [value for _, value in scope["headers"] if b"spiffe" in value]


class TestWebSockets:
    def test_control(self, wire):
        """The handshake gets through where a rule opens WebSockets."""
        assert wire.upgrade(b"/socket") == 101
        assert wire.site.served == ["socket"]

    def test_deny(self, wire):
        """Denied before the application accepts anything."""
        assert wire.upgrade(b"/admin/socket") == 403
        assert wire.site.scopes == []

    def test_get_opens_none(self, wire):
        """An allow rule for GET is not one for WebSockets."""
        assert wire.upgrade(b"/open", account="app") == 403
        assert wire.site.scopes == []

    @pytest.mark.parametrize("target", NOT_CANONICAL)
    def test_not_canonical(self, wire, target):
        """Handshakes are as canonical as requests."""
        assert wire.upgrade(target) in (400, 403, 500, None)
        assert wire.site.scopes == []

    @pytest.mark.parametrize("target", [b"/%61dmin/socket", b"https://orders/admin/socket"])
    def test_other_spellings(self, wire, target):
        """The policy decides on the path that the application would route on."""
        assert wire.upgrade(target) in (400, 403, None)
        assert wire.site.scopes == []

    def test_the_application_sees_a_websocket(self, wire):
        """What was decided as WebSocket is served as one."""
        wire.upgrade(b"/socket")
        (scope,) = wire.site.scopes
        assert (scope["type"], scope["path"]) == (WEBSOCKET, "/socket")


class TestRootPath:
    @pytest.mark.parametrize("name", SERVERS)
    def test_is_part_of_the_path(self, name):
        """With `root_path` the policy sees what the application sees: the whole path."""
        site, world = Site(), World()
        with start(name, site, world, root_path="/api") as server:
            wire = Wire(site, world, server)
            assert wire.get(b"/open") == 200
            assert [scope["path"] for scope in site.scopes] == ["/api/open"]
            assert wire.upgrade(b"/socket") == 101
            assert wire.upgrade(b"/admin/socket") == 403
            for target in (b"/admin", b"/%61dmin", b"/admin/"):
                assert wire.get(target) == 403
            for target in (b"//admin", b"@evil/../admin", b"/x/../admin"):
                assert wire.get(target) in (400, None)
            for target in (b"admin", b"@evil/admin", b"*"):
                assert wire.get(target) in (400, 404, 200, None)
            assert "admin" not in site.served


def test_half_a_request_is_nothing():
    """A connection that ends inside the request line reaches nobody."""
    site, world = Site(), World()
    with start("h11", site, world) as server:
        connection = server.connect(world.client())
        connection.sendall(b"GET /admin")
        connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)
    assert site.scopes == []
