# SPDX-License-Identifier: Apache-2.0
"""Who a gRPC peer is, from nothing but the auth context that gRPC hands over."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk import StaticSource, TrustBundleSet, VolumeSource
from kubetls_sdk.authz import GRPC
from kubetls_sdk.authz.attribute import Attribute
from kubetls_sdk.authz.condition import Condition, Operator, holds
from kubetls_sdk.authz.operation import HostPattern
from kubetls_sdk.authz.request import Request
from kubetls_sdk.exceptions import CredentialError
from kubetls_sdk.server import _grpc_peer
from kubetls_sdk.server._grpc_details import GrpcDetails, address_of
from kubetls_sdk.server._grpc_gate import is_canonical
from kubetls_sdk.server._grpc_peer import PeerVerdicts, presented_by, presented_to_thread
from kubetls_sdk.testing import DevelopmentCA
from tests.integration.grpc_world import Orders, World, invoke, serve
from tests.waiting import until

CA = DevelopmentCA("example.org")
WEB = "spiffe://example.org/ns/shop/sa/web"


@pytest.fixture
def source():
    return StaticSource(CA.issue("/ns/shop/sa/orders"), TrustBundleSet([CA.bundle]))


def read(auth_context):
    return presented_by(SimpleNamespace(auth_context=lambda: auth_context))


def presented(svid, *, chain=True):
    leaf, *rest = (certificate.public_bytes(Encoding.PEM) for certificate in svid.chain)
    context = {"x509_pem_cert": [leaf], "transport_security_type": [b"ssl"]}
    if chain and rest:
        context["x509_pem_cert_chain"] = [b"".join(rest)]
    return read(context)


class TestAbout:
    def test_leaf_under_an_anchor(self, source):
        """A leaf that a root issued needs no chain."""
        verdict = PeerVerdicts(source).about(presented(CA.issue("/ns/shop/sa/web")))
        assert str(verdict.caller.spiffe_id) == WEB
        assert verdict.reason is None

    def test_chain_with_the_leaf(self, source):
        """A chain that repeats the leaf is the same chain."""
        svid = CA.issue("/ns/shop/sa/web", intermediates=1)
        leaf, *_ = presented(svid)
        verdict = PeerVerdicts(source).about((leaf, svid.certificates_pem(), b""))
        assert str(verdict.caller.spiffe_id) == WEB

    def test_no_chain(self, source):
        """Where gRPC hands over no chain, a leaf under an intermediate is refused."""
        svid = CA.issue("/ns/shop/sa/web", intermediates=1)
        verdict = PeerVerdicts(source).about(presented(svid, chain=False))
        assert verdict.caller.is_anonymous
        assert "no authority" in verdict.reason
        assert str(verdict.claimed) == WEB

    def test_configured_intermediates(self, source):
        """Configured intermediates complete what gRPC does not hand over."""
        svid = CA.issue("/ns/shop/sa/web", intermediates=1)
        verdicts = PeerVerdicts(source, svid.chain[1:])
        assert str(verdicts.about(presented(svid, chain=False)).caller.spiffe_id) == WEB

    @pytest.mark.parametrize(
        "context",
        [{}, {"x509_pem_cert": []}, {"transport_security_type": [b"insecure"]}],
        ids=["empty", "no-value", "insecure"],
    )
    def test_no_certificate(self, source, context):
        """Without a certificate in the auth context nobody is there."""
        verdict = PeerVerdicts(source).about(read(context))
        assert verdict.caller.is_anonymous
        assert verdict.reason == "it presented no certificate"

    @pytest.mark.parametrize(
        "pem", [b"x", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"]
    )
    def test_no_x509(self, source, pem):
        """Something else than a certificate is a refusal, not an error."""
        assert PeerVerdicts(source).about((pem, b"", b"")).reason is not None
        leaf, *_ = presented(CA.issue())
        assert PeerVerdicts(source).about((leaf, pem, b"")).reason is not None

    def test_spiffe_id_of_grpc_is_not_believed(self, source):
        """Only the certificate counts, not the names that gRPC read from it."""
        context = {
            "peer_spiffe_id": [WEB.encode()],
            "x509_subject_alternative_name": [WEB.encode()],
        }
        assert PeerVerdicts(source).about(read(context)).caller.is_anonymous

    def test_expiry(self, source):
        """A verdict does not outlive the certificate."""
        verdicts = PeerVerdicts(source)
        shown = presented(CA.issue("/ns/shop/sa/web", ttl=timedelta(seconds=1)))
        assert verdicts.about(shown).reason is None
        until(
            lambda: time.time() > verdicts.about(shown).expires_at or verdicts.about(shown).reason
        )
        assert "expired" in until(lambda: verdicts.about(shown).reason)

    def test_generation(self, source):
        """A generation that removes the root ends the verdict; bringing it back renews it."""
        verdicts = PeerVerdicts(source)
        shown = presented(CA.issue("/ns/shop/sa/web"))
        assert verdicts.about(shown).generation == 1
        source.replace(bundles=TrustBundleSet([]))
        assert verdicts.about(shown).reason == "no trust bundle of 'example.org'"
        source.replace(bundles=TrustBundleSet([CA.bundle]))
        assert verdicts.about(shown).generation == 3

    def test_bound(self, source, monkeypatch):
        """Many peers fill no memory."""
        monkeypatch.setattr(_grpc_peer, "REMEMBERED", 3)
        verdicts = PeerVerdicts(source)
        for _ in range(10):
            verdicts.about(presented(CA.issue("/ns/shop/sa/web")))
        assert len(verdicts._known[1]) <= 4

    def test_no_snapshot(self, tmp_path):
        """A source without a snapshot is an error, which refuses everybody."""
        with pytest.raises(CredentialError):
            PeerVerdicts(VolumeSource(tmp_path)).about(presented(CA.issue()))


class TestCanonical:
    @pytest.mark.parametrize(
        "path", ["/shop.Orders/Get", "/Orders/Get", "/grpc.health.v1.Health/Check", "/a-b.C/d_e"]
    )
    def test_canonical(self, path):
        """What protocol buffers generate is canonical."""
        assert is_canonical(path)

    @pytest.mark.parametrize(
        "path",
        [
            "", "/", "//", "/a", "/a/", "a/b", "//a/b", "/a//b", "/a/b/c", "/a/b\n", "/a/b?c",
            "/a/b#c", "/a/%62", "/a/.", "/a/..", "/../b", "/a /b", "/a/b;c", "/a\\b/c", "/ä/b",
        ],
    )  # fmt: skip
    def test_not_canonical(self, path):
        """Every other spelling is not."""
        assert not is_canonical(path)


class TestDetails:
    @pytest.mark.parametrize(
        ("peer", "address", "source"),
        [
            ("ipv4:127.0.0.1:80", "127.0.0.1:80", "127.0.0.1"),
            ("ipv6:%5B::1%5D:80", "[::1]:80", "::1"),
            ("ipv6:[fe80::1%25eth0]:80", "[fe80::1%eth0]:80", "fe80::1%eth0"),
            ("unix:/run/x", "unix:/run/x", None),
        ],
    )
    def test_address(self, peer, address, source):
        """Addresses are spelled for people in logs, and without port for rules."""
        assert address_of(peer) == address
        assert GrpcDetails(_Context(peer)).source == source

    def test_headers(self):
        """Text and binary metadata become header fields."""
        context = _Context("ipv4:127.0.0.1:1", [("x-tenant", "blue"), ("x-bin", b"\x00")])
        details = GrpcDetails(context)
        assert list(details.headers) == [(b"x-tenant", b"blue"), (b"x-bin", b"\x00")]


class TestPlace:
    """What gRPC does not tell is unknown: it fits no allow rule, and every deny rule."""

    @pytest.mark.parametrize("ports", [(), (1, 2), (1, None)])
    def test_unknown(self, ports):
        """Host and port that cannot be told are neither the named ones nor others."""
        request = Request(
            None, GRPC, "/a.B/C", GrpcDetails(_Context("ipv4:127.0.0.1:1"), None, ports)
        )
        for name, operand in (("host", HostPattern("orders")), ("port", 1)):
            for operator in (Operator.IN, Operator.NOT_IN):
                condition = Condition(Attribute("request", (name,)), operator, (operand,), "")
                assert not holds(condition, request, closed=False)
                assert holds(condition, request, closed=True)

    def test_known(self):
        """The authority of a threaded server's call and the only port are told."""
        context = _Context("ipv4:127.0.0.1:1")
        context._rpc_event = SimpleNamespace(call_details=SimpleNamespace(host=b"Orders:8443"))
        details = GrpcDetails(context, None, [8443])
        assert (details.host, details.port) == ("Orders:8443", 8443)

    @pytest.mark.parametrize("host", [b"", None, "text"])
    def test_no_authority(self, host):
        """An authority that is not there, or is something else than it was, is unknown."""
        context = _Context("ipv4:127.0.0.1:1")
        context._rpc_event = SimpleNamespace(call_details=SimpleNamespace(host=host))
        assert GrpcDetails(context).host == "?"

    def test_no_tcp_port(self):
        """A socket of the file system has no port."""
        assert GrpcDetails(_Context("unix:"), None, [None]).port is None


class _Context:
    def __init__(self, peer, metadata=()):
        self.peer = lambda: peer
        self.invocation_metadata = lambda: metadata


class TestPresentedToThread:
    """What a threaded server reads past `auth_context()` is the same."""

    def test_same(self):
        """Real calls: directly under a root and under intermediates."""
        world, seen = World(), []

        class Comparing(Orders):
            def who(self, context):
                seen.append((presented_by(context), presented_to_thread(context)))
                return b"somebody"

        with serve(world, orders=Comparing()) as serving:
            for intermediates in (0, 2):
                svid = world.ca.issue("/ns/shop/sa/web", intermediates=intermediates)
                invoke(serving.channel(svid), "unary_unary", b"a")
        assert [public == direct for public, direct in seen] == [True, True]
        assert all(leaf.startswith(b"-----BEGIN CERTIFICATE") for (leaf, *_), _ in seen)

    def test_other_context(self):
        """Where there is no such shortcut, the public way is taken."""
        context = SimpleNamespace(auth_context=lambda: {"x509_pem_cert": [b"leaf"]})
        assert presented_to_thread(context) == (b"leaf", b"", b"")


class TestAllow:
    def test_another_policy(self, source):
        """What one policy has allowed counts for no other one, and not for ever more methods."""
        verdict = PeerVerdicts(source).about(presented(CA.issue("/ns/shop/sa/web")))
        first, second = object(), object()
        verdict.allow(first, "/a.B/C")
        assert verdict.allowed == (first, {"/a.B/C"})
        verdict.allow(second, "/a.B/D")
        assert verdict.allowed == (second, {"/a.B/D"})
        for number in range(_grpc_peer.REMEMBERED_METHODS):
            verdict.allow(second, f"/a.B/{number}")
        assert len(verdict.allowed[1]) <= _grpc_peer.REMEMBERED_METHODS
