# SPDX-License-Identifier: Apache-2.0
"""The seam, in memory: who gets through a handshake, what a caller can do to it, how it reloads."""

from __future__ import annotations

import copy
import gc
import pickle
import ssl
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from kubetls_sdk import (
    ConfigurationError,
    PeerUnauthorizedError,
    PeerVerificationError,
    SourceClosedError,
    StaticSource,
    TrustBundleSet,
    verification,
)
from kubetls_sdk._context import ReloadingContext, client_context, server_context
from kubetls_sdk.expectation import AnyMember, AnyTrusted, OneOf, expected_peer
from kubetls_sdk.testing import FAULTS, DevelopmentCA
from tests.handshaking import Handshake, stock_client
from tests.integration.origin import stock_server_context

CA = DevelopmentCA("example.org")
PARTNER = DevelopmentCA("partner.example")
STRANGER = DevelopmentCA("example.org")
WEB, ORDERS = "/ns/shop/sa/web", "/ns/shop/sa/orders"
WEB_ID, ORDERS_ID = (f"spiffe://example.org{path}" for path in (WEB, ORDERS))
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture
def web(kubetls_source):
    return kubetls_source(WEB, ca=CA, trust=[PARTNER])


@pytest.fixture
def orders(kubetls_source):
    return kubetls_source(ORDERS, ca=CA, trust=[PARTNER])


def client(source, expect=ORDERS_ID, **options):
    return client_context(source, expect=expected_peer(expect), **options)


class TestHandshake:
    def test_both_sides_know_each_other(self, web, orders):
        """Both sides prove their identity, and data flows."""
        shake = Handshake.run(client(web), server_context(orders))
        assert str(shake.client.verified_peer.spiffe_id) == ORDERS_ID
        assert str(shake.server.verified_peer.spiffe_id) == WEB_ID
        assert shake.echo() == b"hello"
        assert shake.server.version() == "TLSv1.3"

    @pytest.mark.parametrize("key_type", ["p256", "p384", "ed25519", "rsa2048"])
    def test_key_types(self, kubetls_source, key_type):
        """All key types of the profile work on both sides."""
        sources = [kubetls_source(path, ca=CA, key_type=key_type) for path in (WEB, ORDERS)]
        shake = Handshake.run(client(sources[0]), server_context(sources[1]))
        assert shake.succeeded

    def test_through_intermediates(self, kubetls_source):
        """Intermediates are presented, and used on the way to the root."""
        sources = [kubetls_source(path, ca=CA, intermediates=2) for path in (WEB, ORDERS)]
        assert Handshake.run(client(sources[0]), server_context(sources[1])).succeeded

    def test_bundle_that_holds_only_an_intermediate(self, orders):
        """A bundle may name an intermediate as its authority (RFC 5280 §6.1)."""
        from kubetls_sdk import TrustBundle

        intermediate = CA.intermediate()
        bundle = TrustBundle(CA.trust_domain, (intermediate.certificate,))
        web = StaticSource(CA.issue(WEB), TrustBundleSet([bundle]))
        orders.replace(svid=CA.issue(ORDERS, through=intermediate))
        assert Handshake.run(client(web), server_context(orders)).succeeded

    def test_partner(self, web, orders):
        """A workload of a trusted partner is verified under the partner's own bundle."""
        orders.replace(svid=PARTNER.issue(ORDERS))
        shake = Handshake.run(client(web, AnyMember(PARTNER.trust_domain)), server_context(orders))
        assert str(shake.client.verified_peer.spiffe_id) == f"spiffe://partner.example{ORDERS}"

    @pytest.mark.parametrize("hostname", [None, "orders", "ORDERS.shop.svc", "10.0.0.1", "x" * 60])
    def test_server_name(self, web, orders, hostname):
        """SNI decides nothing: absent, odd or wrong, the identity is what counts."""
        assert Handshake.run(client(web), server_context(orders), hostname=hostname).succeeded

    def test_post_quantum_key_exchange_is_not_prevented(self, web, orders):
        """The key exchange groups are left to OpenSSL, which prefers post-quantum ones."""
        assert Handshake.run(client(web), server_context(orders)).succeeded
        with pytest.raises(ConfigurationError):
            client(web).set_ecdh_curve("prime256v1")


class TestServerRefuses:
    @pytest.mark.parametrize(
        "chain",
        [
            pytest.param(lambda: STRANGER.issue(WEB), id="wrong-authority"),
            pytest.param(lambda: PARTNER.issue_for("example.org", WEB), id="forged-by-a-partner"),
            pytest.param(lambda: CA.issue(WEB, ttl=timedelta(minutes=-1)), id="expired"),
            *(
                pytest.param(lambda fault=fault: CA.issue_faulty(fault, WEB), id=fault)
                for fault in sorted(FAULTS)
                if fault not in ("no_aki", "wrong_key")
            ),
        ],
    )
    def test_wrong_client(self, orders, chain):
        """A client that does not prove an identity gets through no handshake and reads nothing."""
        shake = Handshake.run(stock_client(chain(), version=TLS13), server_context(orders))
        assert isinstance(shake.server_error, PeerVerificationError)
        assert shake.server.verified_peer is None
        _assert_no_data(shake.server)

    def test_strictness_is_the_same_on_all_versions(self, orders):
        """A leaf without authority key identifier is accepted, on every Python version alike."""
        context = stock_client(CA.issue_faulty("no_aki", WEB))
        assert Handshake.run(context, server_context(orders)).server_done

    def test_no_certificate(self, orders):
        """A client without certificate is refused, in words."""
        shake = Handshake.run(stock_client(), server_context(orders))
        assert shake.server_error.reason == "it presented no certificate"

    def test_names_whom_it_refuses(self, orders):
        """After a first refusal, the next one names the identity that was claimed."""
        context = server_context(orders)
        Handshake.run(stock_client(STRANGER.issue(WEB)), context)
        shake = Handshake.run(stock_client(STRANGER.issue(WEB)), context)
        assert str(shake.server_error.spiffe_id) == WEB_ID
        assert "its issuer is unknown" in str(shake.server_error)

    def test_unexpected_client(self, web, orders):
        """A server can expect certain clients only."""
        expect = expected_peer("spiffe://example.org/ns/shop/sa/admin")
        shake = Handshake.run(client(web), server_context(orders, expect=expect))
        assert isinstance(shake.server_error, PeerUnauthorizedError)

    @pytest.mark.parametrize("trusted", [[], [PARTNER]], ids=["nobody", "only-a-partner"])
    def test_bundle_without_our_domain(self, web, orders, trusted):
        """No bundle of a domain, or no bundle at all, trusts none of its workloads."""
        orders.replace(bundles=TrustBundleSet(ca.bundle for ca in trusted))
        shake = Handshake.run(client(web), server_context(orders))
        assert isinstance(shake.server_error, PeerVerificationError)

    def test_chain_of_100_certificates(self, orders):
        """A very long chain is refused, in bounded time."""
        from kubetls_sdk.testing import IssuedChain

        svid = CA.issue(WEB)
        padding = tuple(CA.intermediate().certificate for _ in range(99))
        issued = IssuedChain((svid.leaf, *padding), svid.private_key)
        shake = Handshake.run(stock_client(issued), server_context(orders))
        assert not shake.server_done or shake.server.verified_peer is not None

    @pytest.mark.parametrize(
        "garbage", [b"\0" * 500, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"a" * 300]
    )
    def test_garbage(self, orders, garbage):
        """What is not TLS is a TLS error, not a crash and not a peer's refusal."""
        incoming = ssl.MemoryBIO()
        server = server_context(orders).wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
        incoming.write(garbage)
        incoming.write_eof()
        with pytest.raises(ssl.SSLError) as caught:
            server.do_handshake()
        assert not isinstance(caught.value, PeerVerificationError)
        _assert_no_data(server)

    def test_first_half_of_a_record(self, web, orders):
        """A client that stops in the middle of a record is waited for, without an answer."""
        shake = Handshake(client(web), server_context(orders))
        shake.step_client()
        hello = shake.to_server.read()
        shake.to_server.write(hello[: len(hello) // 2])
        shake.step_server()
        assert (shake.server_done, shake.server_error) == (False, None)
        shake.to_server.write(hello[len(hello) // 2 :])
        assert shake.finish().succeeded


class TestOptionalServer:
    def test_anonymous(self, orders):
        """Without a certificate a client is let in as nobody."""
        shake = Handshake.run(stock_client(), server_context(orders, optional=True))
        assert shake.server_done
        assert shake.server.verified_peer is None

    def test_wrong_certificate(self, orders):
        """A certificate that does not verify is worse than none."""
        shake = Handshake.run(
            stock_client(STRANGER.issue(WEB)), server_context(orders, optional=True)
        )
        assert isinstance(shake.server_error, PeerVerificationError)


class TestClientRefuses:
    @pytest.mark.parametrize(
        ("chain", "error"),
        [
            pytest.param(lambda: CA.issue(WEB), PeerUnauthorizedError, id="other-workload"),
            pytest.param(lambda: PARTNER.issue(ORDERS), PeerUnauthorizedError, id="partner"),
            pytest.param(lambda: STRANGER.issue(ORDERS), PeerVerificationError, id="stranger"),
            pytest.param(
                lambda: PARTNER.issue_for("example.org", ORDERS), PeerVerificationError, id="forged"
            ),
        ],
    )
    def test_wrong_server(self, web, chain, error):
        """The error is ours, and no data can be written."""
        shake = Handshake.run(client(web), stock_server_context(chain()))
        assert isinstance(shake.client_error, error)
        _assert_no_data(shake.client)

    def test_refusal_is_an_ssl_error(self, web):
        """Code that handles a failed verification handles ours."""
        shake = Handshake.run(client(web), stock_server_context(STRANGER.issue(ORDERS)))
        assert isinstance(shake.client_error, ssl.SSLCertVerificationError)
        assert isinstance(shake.client_error.__cause__, ssl.SSLCertVerificationError)


class TestData:
    @pytest.mark.parametrize("side", ["client", "server"])
    def test_nothing_before_the_handshake(self, web, orders, side):
        """Neither side can read or write before, or in the middle of, the handshake."""
        shake = Handshake(client(web), server_context(orders))
        _assert_no_data(getattr(shake, side))
        shake.step_client()
        shake.step_server()
        _assert_no_data(getattr(shake, side))
        assert shake.finish().echo() == b"hello"

    def test_methods_kept_from_before(self, web, orders):
        """Methods that were looked up before the handshake refuse until it, and work after."""
        shake = Handshake(client(web), server_context(orders))
        write, read = shake.client.write, shake.server.read
        with pytest.raises(PeerVerificationError):
            write(b"hello")
        with pytest.raises(PeerVerificationError):
            read(5)
        shake.finish()
        write(b"hello")
        assert read(5) == b"hello"

    def test_context_of_a_connection_cannot_be_replaced(self, web, orders):
        """A living connection keeps the context that verified it."""
        shake = Handshake.run(client(web), server_context(orders))
        with pytest.raises(ConfigurationError):
            shake.server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class TestVersions:
    def test_tls12_is_off(self, web, orders):
        """TLS 1.2 is refused on both sides unless it is asked for."""
        shake = Handshake.run(stock_client(CA.issue(WEB), version=TLS12), server_context(orders))
        assert shake.server_error.reason == "UNSUPPORTED_PROTOCOL"
        old = stock_server_context(CA.issue(ORDERS))
        old.maximum_version = TLS12
        assert Handshake.run(client(web), old).client_error is not None

    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_tls12_when_asked_for(self, web, orders, version):
        """With the opt-in both versions work, and verify the same."""
        context = server_context(orders, allow_tls12=True)
        shake = Handshake.run(stock_client(CA.issue(WEB), version=version), context)
        assert str(shake.server.verified_peer.spiffe_id) == WEB_ID
        shake = Handshake.run(stock_client(STRANGER.issue(WEB), version=version), context)
        assert isinstance(shake.server_error, PeerVerificationError)


class TestResumption:
    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_control(self, version):
        """A stock server resumes what these tests offer, else they would show nothing."""
        stock = stock_server_context(CA.issue(ORDERS), roots=CA.bundle.to_pem())
        context = stock_client(CA.issue(WEB), roots=CA.bundle.to_pem(), version=version)
        assert _resumed(context, stock, stock)

    @pytest.mark.parametrize("version", [TLS12, TLS13])
    @pytest.mark.parametrize("rotated", [False, True])
    def test_server_resumes_nothing(self, orders, version, rotated):
        """Neither tickets nor session IDs bring a client back without its chain."""
        server = server_context(orders, allow_tls12=True)
        context = stock_client(CA.issue(WEB), roots=CA.bundle.to_pem(), version=version)
        first = Handshake.run(context, server)
        assert first.echo() == b"hello"
        if rotated:
            orders.replace(svid=CA.issue(ORDERS))
        second = Handshake.run(context, server, session=first.client.session)
        assert not second.server.session_reused
        assert second.server.verified_peer is not None

    def test_server_sends_no_tickets(self, orders):
        """There is nothing to offer in the first place."""
        first = Handshake.run(stock_client(CA.issue(WEB)), server_context(orders))
        first.echo()
        assert first.client.session is None or not first.client.session.has_ticket

    @pytest.mark.parametrize("version", [TLS12, TLS13])
    def test_client_resumes_nothing(self, web, version):
        """A session that is handed to our client is not used, and one forced on it is refused."""
        server = stock_server_context(CA.issue(ORDERS), roots=CA.bundle.to_pem())
        server.maximum_version = version
        context = client(web, allow_tls12=True)
        first = Handshake.run(context, server)
        first.echo()
        assert first.client.session is not None
        second = Handshake.run(context, server, session=first.client.session)
        assert second.client_done
        assert not second.client.session_reused


class TestReload:
    def test_each_connection_takes_the_current_generation(self, web, orders):
        """A new SVID is presented by the next handshake, on both sides, with the same objects."""
        client_side, server_side = client(web), server_context(orders)
        before = Handshake.run(client_side, server_side)
        web.replace(svid=CA.issue(WEB))
        orders.replace(svid=CA.issue(ORDERS))
        after = Handshake.run(client_side, server_side)
        for side in ("client", "server"):
            peers = [getattr(shake, side).verified_peer for shake in (before, after)]
            assert peers[0].leaf != peers[1].leaf
        assert after.client.snapshot is web.snapshot
        assert after.server.snapshot is orders.snapshot

    def test_removed_domain(self, web, orders):
        """A domain whose bundle was removed is out with the next handshake."""
        server = server_context(orders)
        stock = stock_client(PARTNER.issue(WEB))
        assert Handshake.run(stock, server).server_done
        orders.replace(bundles=TrustBundleSet([CA.bundle]))
        assert isinstance(Handshake.run(stock, server).server_error, PeerVerificationError)

    @pytest.mark.parametrize("side", ["client", "server"])
    def test_root_removed_during_the_handshake(self, web, orders, side):
        """A handshake that began before a removal is judged by what holds at its end."""
        shake = Handshake(client(web), server_context(orders))
        shake.step_client()
        shake.step_server()
        {"client": web, "server": orders}[side].replace(bundles=TrustBundleSet([PARTNER.bundle]))
        shake.finish()
        error = getattr(shake, f"{side}_error")
        assert isinstance(error, PeerVerificationError)
        assert "its root was removed" in str(error)
        _assert_no_data(getattr(shake, side))

    def test_source_closed_during_the_handshake(self, web, orders, monkeypatch):
        """When trust cannot be asked for any more, nobody gets through."""
        shake = Handshake(client(web), server_context(orders))
        shake.step_client()
        shake.step_server()

        def closed(_):
            raise SourceClosedError("closed")

        monkeypatch.setattr(StaticSource, "snapshot", property(closed))
        with pytest.raises(SourceClosedError):
            shake.step_client()
        _assert_no_data(shake.client)

    def test_settings_are_built_ahead(self, web):
        """A rotation builds the new settings where it happens, not in the next handshake."""
        context = client(web)
        web.replace(svid=CA.issue(WEB))
        assert context._inner.snapshot is web.snapshot

    def test_no_build_without_a_change(self, web):
        """Connections of one generation share its settings."""
        context = client(web)
        assert context._current() is context._current()

    def test_many_threads_and_rotations(self, web, orders):
        """Handshakes in threads never mix two generations while the source rotates."""
        client_side, server_side = client(web), server_context(orders)
        stop, failed = threading.Event(), []

        def shake_hands():
            while not stop.is_set():
                if not Handshake.run(client_side, server_side).succeeded:
                    failed.append(1)

        threads = [threading.Thread(target=shake_hands) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            web.replace(svid=CA.issue(WEB))
            orders.replace(svid=CA.issue(ORDERS))
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []


class TestAlpn:
    def test_kept_over_a_rotation(self, web, orders):
        """Protocols that were set once are offered by every generation."""
        client_side = client(web)
        client_side.set_alpn_protocols(["h2", "http/1.1"])
        server_side = server_context(orders, alpn_protocols=["http/1.1"])
        for _ in range(2):
            shake = Handshake.run(client_side, server_side)
            assert shake.client.selected_alpn_protocol() == "http/1.1"
            web.replace(svid=CA.issue(WEB))
            orders.replace(svid=CA.issue(ORDERS))

    def test_changed(self, web, orders):
        """Later connections offer what was set last."""
        context = client(web, alpn_protocols=["http/1.1"])
        server = server_context(orders, alpn_protocols=["h2", "http/1.1"])
        context.set_alpn_protocols(["h2"])
        assert Handshake.run(context, server).server.selected_alpn_protocol() == "h2"
        assert context.alpn_protocols == ("h2",)

    def test_same_again(self, web):
        """Setting the same again, as httpcore does for each connection, builds nothing."""
        context = client(web, alpn_protocols=["h2"])
        inner = context._current()
        context.set_alpn_protocols(["h2"])
        assert context._current() is inner


class TestWeakening:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("verify_mode", ssl.CERT_NONE),
            ("check_hostname", False),
            ("minimum_version", ssl.TLSVersion.TLSv1),
            ("maximum_version", TLS12),
            ("options", ssl.OP_NO_TLSv1_3),
            ("verify_flags", ssl.VerifyFlags(0)),
            ("num_tickets", 2),
        ],
    )
    def test_without_effect(self, web, orders, name, value):
        """What HTTP libraries set on every context changes nothing."""
        contexts = client(web), server_context(orders)
        for context in contexts:
            setattr(context, name, value)
        good = Handshake.run(*contexts)
        assert good.client.version() == "TLSv1.3"
        bad = Handshake.run(contexts[0], stock_server_context(STRANGER.issue(ORDERS)))
        assert isinstance(bad.client_error, PeerVerificationError)
        bad = Handshake.run(stock_client(STRANGER.issue(WEB)), contexts[1])
        assert isinstance(bad.server_error, PeerVerificationError)

    @pytest.mark.parametrize("name", ["load_verify_locations", "load_default_certs"])
    def test_adding_roots(self, orders, name):
        """Roots that a caller adds are not trusted."""
        context = server_context(orders)
        arguments = {"cadata": STRANGER.bundle.to_pem().decode()} if "verify" in name else {}
        getattr(context, name)(**arguments)
        shake = Handshake.run(stock_client(STRANGER.issue(WEB)), context)
        assert isinstance(shake.server_error, PeerVerificationError)

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("load_cert_chain", ["client.pem"]),
            ("set_ciphers", ["ALL"]),
            ("set_ecdh_curve", ["prime256v1"]),
            ("set_servername_callback", [print]),
            ("set_psk_client_callback", [print]),
            ("set_psk_server_callback", [print]),
            ("load_dh_params", ["dh.pem"]),
        ],
    )
    def test_methods_that_raise(self, web, name, arguments):
        """What would replace identity or key exchange is an error."""
        with pytest.raises(ConfigurationError):
            getattr(client(web), name)(*arguments)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("sslobject_class", ssl.SSLObject),
            ("sslsocket_class", ssl.SSLSocket),
            ("sni_callback", print),
            ("keylog_filename", "keys.log"),
            ("_msg_callback", print),
            ("expect", AnyTrusted()),
            ("source", None),
            ("optional", True),
            ("allow_tls12", True),
            ("server_side", False),
        ],
    )
    def test_attributes_that_raise(self, orders, name, value):
        """What would switch the check off, or tell keys, is an error."""
        with pytest.raises(ConfigurationError):
            setattr(server_context(orders), name, value)

    def test_reports_what_it_does(self, web, orders):
        """Libraries that ask whether they must verify themselves get the truth."""
        assert client(web).verify_mode == ssl.CERT_REQUIRED
        assert client(web).check_hostname
        assert server_context(orders).verify_mode == ssl.CERT_REQUIRED
        assert server_context(orders, optional=True).verify_mode == ssl.CERT_OPTIONAL

    def test_web_roots_are_not_loaded(self, orders):
        """The trust store holds what the source says and nothing else."""
        stats = server_context(orders)._current().cert_store_stats()
        assert stats["x509"] == 2


class TestSource:
    def test_a_path_is_not_a_source(self):
        """A directory in place of a source is an error that names what to make of it."""
        with pytest.raises(ConfigurationError, match="VolumeSource"):
            server_context("/run/secrets/workload-spiffe-credentials")


class TestLife:
    @pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
    def test_no_copies(self, web, duplicate):
        """A context belongs to its process; a copy would be frozen."""
        with pytest.raises(TypeError, match="expected no pickling"):
            duplicate(client(web))

    def test_dropped_context(self, web):
        """A context that nobody needs any more no longer listens to the source."""
        context = client(web)
        assert len(web._subscribers._callbacks) == 1
        del context
        gc.collect()
        assert not web._subscribers._callbacks

    def test_dropped_connections(self, web, orders):
        """A connection leaves no reference cycle for the garbage collector."""
        contexts = client(web), server_context(orders)
        Handshake.run(*contexts)
        gc.collect()
        gc.disable()
        try:
            before = _count(ssl.SSLObject)
            Handshake.run(*contexts).echo()
            assert _count(ssl.SSLObject) == before
        finally:
            gc.enable()

    def test_memory_stays_flat(self, web):
        """A thousand generations leave nothing behind."""
        context = client(web)
        svids = [CA.issue(WEB) for _ in range(4)]
        _rotate(web, svids, 50)
        tracemalloc.start()
        try:
            _rotate(web, svids, 50)
            before, _ = tracemalloc.get_traced_memory()
            _rotate(web, svids, 1000)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 100_000
        assert context._inner.snapshot is web.snapshot

    def test_bad_svid_shows_at_construction(self, web, monkeypatch):
        """What is wrong with the credential is raised where the context is made."""
        monkeypatch.setattr(
            StaticSource,
            "snapshot",
            property(lambda _: (_ for _ in ()).throw(SourceClosedError("x"))),
        )
        with pytest.raises(SourceClosedError):
            client(web)

    def test_is_an_ssl_context(self, web):
        """Whatever wants an `ssl.SSLContext` takes it."""
        assert isinstance(client(web), ssl.SSLContext)
        assert isinstance(client(web), ReloadingContext)


class TestRecheck:
    def test_verified_peer_expires(self, web, orders):
        """What a handshake found out can be checked again later, without the connection."""
        peer = Handshake.run(client(web), server_context(orders)).server.verified_peer
        now = datetime.now(UTC)
        verification.recheck(peer, bundles=orders.snapshot.bundles, now=now)
        with pytest.raises(PeerVerificationError, match="expired"):
            verification.recheck(peer, bundles=orders.snapshot.bundles, now=now + timedelta(days=2))

    def test_expectations_are_hashable(self):
        """Pools use an expectation as part of their key."""
        assert hash(expected_peer(ORDERS_ID)) == hash(expected_peer(ORDERS_ID))
        assert isinstance(expected_peer(ORDERS_ID), OneOf)


def _assert_no_data(side):
    for call in (lambda: side.read(1), lambda: side.write(b"x")):
        with pytest.raises(PeerVerificationError, match="before the handshake"):
            call()


def _resumed(client_side, first_server, second_server):
    first = Handshake.run(client_side, first_server)
    first.echo()
    second = Handshake.run(client_side, second_server, session=first.client.session)
    return second.server.session_reused


def _rotate(source, svids, times):
    for number in range(times):
        source.replace(svid=svids[number % len(svids)])


def _count(kind):
    # Not `isinstance`: it asks each object, and other people's objects answer with work or errors.
    return sum(issubclass(type(each), kind) for each in gc.get_objects())
