# SPDX-License-Identifier: Apache-2.0
"""gRPC servers of ours and stock grpcio clients: who is served, who is refused, and how."""

from __future__ import annotations

import json
import logging

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kubetls_sdk import ConfigurationError, TrustBundleSet, audit
from kubetls_sdk.server import _grpc_peer, refusal_log
from kubetls_sdk.server.grpc import HEALTH, REFLECTION, caller, server
from kubetls_sdk.testing import FAULTS, DevelopmentCA
from tests.integration.grpc_world import (
    ARITIES,
    KINDS,
    SERVICE,
    World,
    WritingOrders,
    code_of,
    invoke,
    path,
    serve,
)
from tests.waiting import until

UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "permission denied")
WEB = "spiffe://example.org/ns/shop/sa/web"
POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - name: web
        from: {namespace: shop, serviceAccount: web}
        to: {grpc: "shop.Orders/unary_unary"}
"""


@pytest.fixture(autouse=True)
def fresh_quotas(monkeypatch):
    """Refusals of earlier tests leave no lines out here."""
    monkeypatch.setattr(refusal_log, "_quotas", {})


@pytest.fixture
def world():
    return World()


@pytest.fixture
def policy(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return file


class TestCaller:
    @pytest.mark.parametrize("registration", ["generic", "registered"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_method_knows_its_caller(self, world, kind, registration):
        """Methods of all arities, however registered, get the verified caller and the message."""
        with serve(world, kind, registration=registration) as serving:
            channel = serving.channel()
            for arity in ARITIES:
                assert invoke(channel, arity, b"a") == [f"{WEB} a".encode()]
            assert serving.orders.seen == [b"a"] * 4

    def test_reading_and_writing_methods(self, world):
        """Methods that read and write by the context get deserialized messages as well."""
        with serve(world, "async", orders=WritingOrders()) as serving:
            channel = serving.channel()
            for arity in ARITIES[1:]:
                assert invoke(channel, arity, b"a") == [f"{WEB} a".encode()]
            assert invoke(channel, "stream_unary", b"a", b"b") == [f"{WEB} a,b".encode()]
            assert serving.orders.seen == [b"a"] * 4 + [b"b"]

    def test_partner(self, world):
        """A workload of a partner is known by its own trust domain's name."""
        svid = world.partner.issue("/ns/x/sa/y")
        with serve(world) as serving:
            [answer] = invoke(serving.channel(svid), "unary_unary", b"a")
            assert answer == b"spiffe://partner.example/ns/x/sa/y a"

    @pytest.mark.parametrize("kind", KINDS)
    def test_intermediates(self, world, kind):
        """A leaf under intermediates that the peer sends is verified."""
        svid = world.ca.issue("/ns/shop/sa/web", intermediates=2)
        with serve(world, kind) as serving:
            assert invoke(serving.channel(svid), "unary_unary", b"a") == [f"{WEB} a".encode()]

    def test_not_admitted(self):
        """A context that no interceptor of ours has seen has no caller, not an anonymous one."""
        with pytest.raises(ConfigurationError):
            caller(object())

    def test_one_verdict_for_many_calls(self, world, monkeypatch):
        """A chain is verified once in a generation, for all calls of all its connections."""
        verified = []
        verify = _grpc_peer.verify_svid
        monkeypatch.setattr(
            _grpc_peer,
            "verify_svid",
            lambda *args, **kwargs: verified.append(1) or verify(*args, **kwargs),
        )
        svid = world.ca.issue("/ns/shop/sa/web")
        with serve(world) as serving:
            for channel in (serving.channel(svid), serving.channel(svid)):
                for arity in ARITIES:
                    invoke(channel, arity, b"a")
            assert len(verified) == 1
            world.source.replace(svid=world.ca.issue("/ns/shop/sa/orders"))
            invoke(serving.channels[0], "unary_unary", b"a")
            assert len(verified) == 2


class TestUnauthenticated:
    @pytest.mark.parametrize("kind", KINDS)
    def test_forged_identity(self, world, kind):
        """A name of our trust domain under the partner's authority is refused, for every arity."""
        forged = world.partner.issue_for("example.org", "/ns/shop/sa/web")
        with serve(world, kind) as serving:
            channel = serving.channel(forged)
            for arity in ARITIES:
                assert code_of(channel, arity, b"a") == UNAUTHENTICATED
            assert serving.orders.seen == []

    @pytest.mark.parametrize(
        "fault", ["two_uris", "ca_leaf", "root_path_id", "dns_only", "crl_sign"]
    )
    def test_what_grpc_accepts(self, world, fault):
        """Leaves that break the SPIFFE profile are refused, though gRPC's handshake takes them."""
        chain = world.ca.issue_faulty(fault)
        with serve(world) as serving:
            assert code_of(serving.channel(chain), "unary_unary", b"a") == UNAUTHENTICATED
            assert serving.orders.seen == []

    def test_every_fault(self, world):
        """No chain with any fault is served, whether the handshake or the call refuses it."""
        refusals = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE}
        with serve(world) as serving:
            for fault in set(FAULTS) - {"no_aki"}:
                code, _ = code_of(
                    serving.channel(world.ca.issue_faulty(fault)), "unary_unary", b"a"
                )
                assert code in refusals, fault
            assert serving.orders.seen == []

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_no_certificate(self, world, kind):
        """Without a client certificate there is no connection."""
        with serve(world, kind) as serving:
            credentials = grpc.ssl_channel_credentials(world.ca.bundle.to_pem())
            with grpc.secure_channel(serving.target, credentials) as channel:
                code, _ = code_of(channel, "unary_unary", b"a")
            assert code is grpc.StatusCode.UNAVAILABLE

    def test_stranger(self, world):
        """A certificate of an authority that is nobody's gets no connection."""
        stranger = DevelopmentCA("example.org").issue("/ns/shop/sa/web")
        with serve(world) as serving:
            code, _ = code_of(serving.channel(stranger), "unary_unary", b"a")
            assert code is grpc.StatusCode.UNAVAILABLE

    def test_forgery_is_logged(self, world, caplog):
        """The log says what a refused peer claims to be, as a claim."""
        forged = world.partner.issue_for("example.org", "/ns/shop/sa/admin")
        with serve(world) as serving, caplog.at_level(logging.WARNING, "kubetls_sdk.server"):
            code_of(serving.channel(forged), "unary_unary", b"a")
        [record] = [r for r in caplog.records if r.name == "kubetls_sdk.server"]
        assert "claims 'spiffe://example.org/ns/shop/sa/admin'" in record.getMessage()
        assert record.spiffe_id is None


class TestPolicy:
    @pytest.mark.parametrize("registration", ["generic", "registered"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_refused_before_deserializing(self, world, policy, kind, registration):
        """What no rule allows is refused alike: no message, a malformed one, an unknown method."""
        with serve(world, kind, policy=policy, registration=registration) as serving:
            channel = serving.channel(world.ca.issue("/ns/shop/sa/thief"))
            for arity in ARITIES:
                assert code_of(channel, arity, b"a") == DENIED
                assert code_of(channel, arity, b"malformed") == DENIED
            for method in (path("unary_unary"), path("stream_stream"), path("unknown"), "/no/no"):
                assert code_of(channel, "stream_unary", method=method) == DENIED
            assert serving.orders.seen == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_allowed(self, world, policy, kind):
        """A rule that names caller and method lets exactly that method through."""
        with serve(world, kind, policy=policy) as serving:
            channel = serving.channel()
            assert invoke(channel, "unary_unary", b"a") == [f"{WEB} a".encode()]
            assert code_of(channel, "unary_stream", b"a") == DENIED

    def test_changed_policy(self, world, policy):
        """A policy file that changes is in force for the next calls of open connections."""
        with serve(world, policy=policy) as serving:
            channel = serving.channel()
            invoke(channel, "unary_unary", b"a")
            policy.write_text(POLICY.replace("serviceAccount: web", "serviceAccount: other"))
            until(lambda: _fails(channel), interval=0.05)
            assert code_of(channel, "unary_unary", b"a") == DENIED

    def test_metadata(self, world, policy):
        """Metadata are the headers that conditions speak of."""
        policy.write_text(POLICY + "        when: 'header.x-tenant == \"blue\"'\n")
        with serve(world, policy=policy) as serving:
            channel = serving.channel()
            blue, red = [("x-tenant", "blue")], [("x-tenant", "red")]
            assert invoke(channel, "unary_unary", b"a", metadata=blue)
            assert code_of(channel, "unary_unary", b"a", metadata=red) == DENIED
            assert code_of(channel, "unary_unary", b"a") == DENIED

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    @pytest.mark.parametrize(
        "method",
        [
            "shop.Orders/unary_unary",
            "//shop.Orders/unary_unary",
            "/shop.Orders//unary_unary",
            "/shop.Orders/unary_unary/",
            "/shop.Orders/unary_unary?x",
            "/shop.Orders/unary_unary#x",
            "/shop.Orders/%75nary_unary",
            "/shop.Orders/../shop.Orders/unary_unary",
            "/shop.Orders/./unary_unary",
            "/SHOP.Orders;x/unary_unary",
            "/",
        ],
    )
    def test_path_that_is_not_canonical(self, world, kind, method):
        """Any other spelling of a path is refused, even to who may call everything."""
        answering = grpc.unary_unary_rpc_method_handler(lambda request, _: request)

        class Everything(grpc.GenericRpcHandler):
            def service(self, details):
                return answering

        everything = Everything()
        with serve(
            world, kind, add=lambda made: made.add_generic_rpc_handlers((everything,))
        ) as serving:
            assert code_of(serving.channel(), "unary_unary", b"a", method=method) == DENIED

    @pytest.mark.parametrize("kind", KINDS)
    def test_unknown_method(self, world, kind):
        """Who may call a method that does not exist is told so."""
        with serve(world, kind) as serving:
            for arity in ARITIES:
                got = code_of(serving.channel(), arity, b"a", method=path("unknown"))
                assert got == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    @pytest.mark.parametrize("kind", KINDS)
    def test_wrong_messages(self, world, kind):
        """Malformed and missing messages of who may call are answered as gRPC answers them."""
        with serve(world, kind) as serving:
            channel = serving.channel()
            for arity in ARITIES:
                code, details = code_of(channel, arity, b"malformed")
                assert code is grpc.StatusCode.INTERNAL
                assert details == "Exception deserializing request!"
            code, _ = code_of(channel, "stream_unary", method=path("unary_unary"))
            assert code is grpc.StatusCode.UNIMPLEMENTED
            assert serving.orders.seen == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_failing_method(self, world, kind):
        """An error of the application, and its own status, reach the caller as with plain gRPC."""

        class Failing(grpc.GenericRpcHandler):
            def service(self, details):
                if details.method == "/shop.Failing/aborts":
                    return grpc.unary_unary_rpc_method_handler(
                        lambda _, context: context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
                    )
                if details.method == "/shop.Failing/raises":
                    return grpc.unary_unary_rpc_method_handler(lambda *_: {}["missing"])
                return None

        failing = Failing()
        with serve(
            world, kind, add=lambda made: made.add_generic_rpc_handlers((failing,))
        ) as serving:
            channel = serving.channel()
            got = code_of(channel, "unary_unary", b"a", method="/shop.Failing/aborts")
            assert got == (grpc.StatusCode.NOT_FOUND, "no such order")
            code, _ = code_of(channel, "unary_unary", b"a", method="/shop.Failing/raises")
            assert code is grpc.StatusCode.UNKNOWN


class TestAudit:
    def test_records(self, world, policy):
        """Each decision is recorded with caller, path and rule; a forged caller as unverified."""
        lines = []

        class Keep(logging.Handler):
            def emit(self, record):
                lines.append(json.loads(str(record.msg)))

        audit.enable(Keep())
        try:
            with serve(world, policy=policy) as serving:
                invoke(serving.channel(), "unary_unary", b"a")
                code_of(serving.channels[0], "stream_unary", b"a")
                code_of(serving.channels[0], "unary_unary", b"a", method="/a//b")
                forged = world.partner.issue_for("example.org", "/ns/shop/sa/web")
                code_of(serving.channel(forged), "unary_unary", b"a")
        finally:
            audit.disable()
        assert [line["event"] for line in lines] == ["grpc"] * 4
        assert [line["decision"] for line in lines] == ["allow", "deny", "deny", "deny"]
        assert [line["path"] for line in lines] == [
            path("unary_unary"), path("stream_unary"), "/a//b", path("unary_unary"),
        ]  # fmt: skip
        assert [line["verified"] for line in lines] == [True, True, True, False]
        assert {line["spiffe_id"] for line in lines} == {WEB}
        assert lines[0]["rule"] == "web"
        assert lines[0]["peer"].startswith("127.0.0.1:")


class TestRotation:
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_new_roots(self, world, kind):
        """A new root is trusted and presented for the next connection, the old one no more."""
        with serve(world, kind) as serving:
            invoke(serving.channel(), "unary_unary", b"a")
            old = world.ca.issue("/ns/shop/sa/web")
            world.ca.add_root()
            world.ca.activate_root()
            world.ca.retire_root()
            world.source.replace(
                svid=world.ca.issue("/ns/shop/sa/orders", dns_names=("localhost",)),
                bundles=TrustBundleSet([world.ca.bundle]),
            )
            assert invoke(serving.channel(), "unary_unary", b"a")
            code, _ = code_of(serving.channel(old), "unary_unary", b"a")
            assert code is grpc.StatusCode.UNAVAILABLE

    @pytest.mark.parametrize("kind", KINDS)
    def test_removed_root_of_an_open_connection(self, world, kind):
        """A connection that is open when its peer's root is removed is not served any more."""
        with serve(world, kind) as serving:
            channel = serving.channel()
            invoke(channel, "unary_unary", b"a")
            world.distrust()
            for arity in ARITIES:
                assert code_of(channel, arity, b"a") == UNAUTHENTICATED

    def test_nobody_trusted(self, world):
        """With no authority left there is no connection: the system's roots are not used."""
        with serve(world) as serving:
            world.source.replace(bundles=TrustBundleSet([]))
            code, _ = code_of(serving.channel(), "unary_unary", b"a")
            assert code is grpc.StatusCode.UNAVAILABLE

    def test_key_that_grpc_cannot_use(self, world, caplog):
        """An Ed25519 key is refused at the start, and later keeps the last good SVID, loudly."""
        ed25519 = world.ca.issue("/ns/shop/sa/orders", key_type="ed25519")
        with serve(world) as serving:
            world.source.replace(svid=ed25519)
            assert invoke(serving.channel(), "unary_unary", b"a")
            assert "Ed25519" in caplog.text
        with pytest.raises(Exception, match="Ed25519"), serve(world):
            pass


class TestOpenMethods:
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_health(self, world, policy, kind):
        """The health service is closed by default, and open to verified workloads when asked."""
        request = health_pb2.HealthCheckRequest()
        servicer = (health.aio if kind == "async" else health).HealthServicer()

        def add(made):
            health_pb2_grpc.add_HealthServicer_to_server(servicer, made)

        with serve(world, kind, policy=policy, add=add) as serving:
            stub = health_pb2_grpc.HealthStub(serving.channel())
            with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
                stub.Check(request, timeout=5)
        with serve(world, kind, policy=policy, add=add, open_methods=HEALTH) as serving:
            stub = health_pb2_grpc.HealthStub(serving.channel())
            assert stub.Check(request, timeout=5).status == 1
            watching = stub.Watch(request)
            assert next(watching).status == 1
            watching.cancel()
            forged = world.partner.issue_for("example.org", "/ns/shop/sa/web")
            stub = health_pb2_grpc.HealthStub(serving.channel(forged))
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                stub.Check(request, timeout=5)

    def test_reflection(self, world, policy):
        """The reflection service likewise, by its own names."""

        def add(made):
            reflection.enable_server_reflection([SERVICE], made)

        for method in REFLECTION[1:]:
            with serve(world, policy=policy, add=add) as serving:
                assert code_of(serving.channel(), "stream_stream", method=method) == DENIED
            with serve(world, policy=policy, add=add, open_methods=REFLECTION) as serving:
                assert invoke(serving.channel(), "stream_stream", method=method) == []

    @pytest.mark.parametrize(
        "name", ["grpc.health.v1.Health/Check", "/grpc.health.v1.Health/*", ""]
    )
    def test_not_an_exact_name(self, world, name):
        """Only an exact path opens anything."""
        with pytest.raises(ConfigurationError), serve(world, open_methods=[name]):
            pass


class TestPorts:
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_only_mutual_tls(self, world, kind):
        """No insecure port, and no port with credentials of somebody else, can be opened."""

        def add(made):
            with pytest.raises(ConfigurationError):
                made.add_insecure_port("127.0.0.1:0")
            with pytest.raises(ConfigurationError):
                made.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(b"", b"")]))

        with serve(world, kind, add=add):
            pass

    def test_no_policy(self, world):
        """There is no default policy."""
        with pytest.raises(ConfigurationError):
            server(policy=None, source=world.source)

    def test_two_ports(self, world):
        """Each port of a server follows the source."""
        ports = []
        with serve(
            world, add=lambda made: ports.append(made.add_secure_port("127.0.0.1:0"))
        ) as serving:
            world.ca.add_root()
            world.ca.activate_root()
            world.ca.retire_root()
            world.source.replace(
                svid=world.ca.issue("/ns/shop/sa/orders", dns_names=("localhost",)),
                bundles=TrustBundleSet([world.ca.bundle]),
            )
            for port in (serving.port, *ports):
                serving.target = f"localhost:{port}"
                assert invoke(serving.channel(), "unary_unary", b"a")


def _fails(channel):
    try:
        invoke(channel, "unary_unary", b"a")
    except grpc.RpcError:
        return True
    return False
