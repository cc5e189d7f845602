# SPDX-License-Identifier: Apache-2.0
"""gRPC servers whose partner publishes odd authorities: everybody else is served as before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from kubetls_sdk import StaticSource, TrustBundle, TrustBundleSet
from kubetls_sdk.testing import name_constraints
from tests.integration.grpc_world import World, code_of, invoke, serve
from tests.sdk.test_trust_store import imitation, upper

WEB = "spiffe://example.org/ns/shop/sa/web"
THEIRS = "spiffe://partner.example/ns/x/sa/y"
both = pytest.mark.parametrize("kind", ["threaded", "async"])


@pytest.fixture
def world():
    return World()


def source_with(world, *authorities, svid=None):
    """What a server trusts whose partner publishes these, before and beside what there is."""
    partner = world.partner.bundle
    theirs = TrustBundle(partner.trust_domain, (*authorities, *partner.authorities))
    return StaticSource(
        svid or world.ca.issue("/ns/shop/sa/orders", dns_names=("localhost",)),
        TrustBundleSet([theirs, world.ca.bundle]),
    )


def answers(serving, world, **options):
    """How our own caller and the partner's are answered."""
    callers = [
        serving.channel(world.ca.issue("/ns/shop/sa/web", **options)),
        serving.channel(world.partner.issue("/ns/x/sa/y")),
    ]
    return [invoke(channel, "unary_unary", b"a")[0].decode() for channel in callers]


def odd(name, *, key=None, days=(-1, 9), extension=None):
    """A self-signed authority that is like few others."""
    key, now = key or ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    common_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start, end = (now + timedelta(days=number) for number in days)
    builder = x509.CertificateBuilder(common_name, common_name, key.public_key(), 5, start, end)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    if extension is not None:
        builder = builder.add_extension(extension, extension.oid != _HUGE.oid)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())


def _short_rsa():
    return rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point


_HUGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55738.1"), b"a" * 2**20)
_CRITICAL = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55738.2"), b"\x05\x00")


class TestImitation:
    """gRPC's TLS finds an issuer by name and key identifier and does not look for a second one."""

    @pytest.mark.parametrize(
        "options", [{}, {"identifier": None}, "upper"], ids=["same", "no-key-identifier", "case"]
    )
    @both
    def test_our_root(self, world, kind, options, caplog):
        """A partner that publishes our root's name keeps nobody out; its own caller is served."""
        root = world.ca.authority
        chosen = {"subject": upper(root.subject)} if options == "upper" else options
        source = source_with(world, imitation(root, **chosen))
        with serve(world, kind, source=source) as serving:
            for intermediates in (0, 1):
                got = answers(serving, world, intermediates=intermediates)
                assert got == [f"{WEB} a", f"{THEIRS} a"]
        assert "an authority of 'partner.example' is not used" in caplog.text

    @both
    def test_while_serving(self, world, kind):
        """Neither does one that appears while the server runs."""
        source = source_with(world)
        with serve(world, kind, source=source) as serving:
            source.replace(
                bundles=source_with(world, imitation(world.ca.authority)).snapshot.bundles
            )
            assert answers(serving, world) == [f"{WEB} a", f"{THEIRS} a"]

    @both
    def test_our_intermediate(self, world, kind):
        """Nor one that is named like an intermediate of the server's own chain."""
        under = world.ca.intermediate()
        svid = world.ca.issue("/ns/shop/sa/orders", dns_names=("localhost",), through=under)
        source = source_with(world, imitation(svid.chain[1]), svid=svid)
        with serve(world, kind, source=source) as serving:
            assert answers(serving, world, through=under) == [f"{WEB} a", f"{THEIRS} a"]


class TestOddRoots:
    @pytest.mark.parametrize(
        "authorities",
        [
            pytest.param(lambda: [odd("expired", days=(-9, -1))], id="expired"),
            pytest.param(lambda: [odd("early", days=(3, 9))], id="not yet valid"),
            pytest.param(lambda: [odd("huge", extension=_HUGE)], id="huge"),
            pytest.param(lambda: [odd("critical", extension=_CRITICAL)], id="unknown critical"),
            pytest.param(
                lambda: [odd("nc", extension=name_constraints(permitted_uris=["other.example"]))],
                id="name constraints",
            ),
            pytest.param(
                lambda: [odd("ed", key=ed25519.Ed25519PrivateKey.generate())], id="Ed25519"
            ),
            pytest.param(lambda: [odd("rsa", key=_short_rsa())], id="short RSA"),
            pytest.param(
                lambda: [odd("k1", key=ec.generate_private_key(ec.SECP256K1()))], id="other curve"
            ),
            pytest.param(lambda: [odd("twin"), odd("twin")], id="same subjects"),
            pytest.param(lambda: [odd(f"many {n}") for n in range(200)], id="many"),
        ],
    )
    @both
    def test_everybody_is_served(self, world, kind, authorities):
        """A root of a partner that nothing can rest on is no reason to refuse anybody else."""
        source = source_with(world, *authorities())
        with serve(world, kind, source=source) as serving:
            assert answers(serving, world) == [f"{WEB} a", f"{THEIRS} a"]

    @both
    def test_our_own_root(self, world, kind):
        """A partner may publish our own root as its own; it gains no name by that."""
        source = source_with(world, world.ca.authority)
        with serve(world, kind, source=source) as serving:
            assert answers(serving, world) == [f"{WEB} a", f"{THEIRS} a"]
            forged = world.partner.issue_for("example.org", "/ns/shop/sa/web")
            code, _ = code_of(serving.channel(forged), "unary_unary", b"a")
            assert code is grpc.StatusCode.UNAUTHENTICATED
