# SPDX-License-Identifier: Apache-2.0
"""The authorities that OpenSSL gets: a partner cannot hide ours behind its own."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kubetls_sdk import StaticSource, TrustBundle, TrustBundleSet, TrustDomain, _trust_store
from kubetls_sdk._context import client_context, server_context
from kubetls_sdk._trust_store import trusted_authorities
from kubetls_sdk.expectation import AnyTrusted
from kubetls_sdk.testing import DevelopmentCA
from tests.handshaking import Handshake

CA = DevelopmentCA("example.org")
PARTNER = DevelopmentCA("partner.example")


def upper(name):
    (attribute,) = name
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, attribute.value.upper())])


def imitation(certificate, *, subject=None, identifier=...):
    """A self-signed authority that passes for a certificate until its key is tried."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = subject or certificate.subject
    builder = x509.CertificateBuilder(name, name, key.public_key(), 5)
    builder = builder.not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(days=9999))
    for extension in certificate.extensions:
        is_identifier = isinstance(extension.value, x509.SubjectKeyIdentifier)
        value = identifier if is_identifier and identifier is not ... else extension.value
        if value is not None and not isinstance(value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(value, extension.critical)
    return builder.sign(key, hashes.SHA256())


def source_with(*authorities, svid=None):
    """A source whose partner publishes authorities, before ours in every order there is."""
    theirs = TrustBundle(PARTNER.trust_domain, (*PARTNER.bundle.authorities, *authorities))
    return StaticSource(svid or CA.issue(), TrustBundleSet([theirs, CA.bundle]))


class TestHandshake:
    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({}, id="same"),
            pytest.param({"identifier": None}, id="no-key-identifier"),
            pytest.param({"subject": upper(CA.authority.subject)}, id="other-case"),
        ],
    )
    def test_our_own_peers_get_in(self, options, caplog):
        """Whatever a partner publishes; one line says what is not used."""
        source = source_with(imitation(CA.authority, **options))
        ours = client_context(
            StaticSource(CA.issue(), TrustBundleSet([CA.bundle])), expect=AnyTrusted()
        )
        server = server_context(source)
        assert Handshake.run(ours, server).succeeded
        assert caplog.text.count("an authority of 'partner.example' is not used") == 1

    def test_partner_gets_in(self):
        """Its other authorities are used."""
        source = source_with(imitation(CA.authority))
        theirs = StaticSource(PARTNER.issue(), TrustBundleSet([CA.bundle]))
        shake = Handshake.run(client_context(theirs, expect=AnyTrusted()), server_context(source))
        assert shake.succeeded

    def test_our_intermediate(self):
        """Those of our own chain cannot be hidden either."""
        svid = CA.issue(intermediates=1)
        source = source_with(imitation(svid.chain[1]), svid=svid)
        peer = StaticSource(svid, TrustBundleSet([CA.bundle]))
        assert Handshake.run(
            client_context(peer, expect=AnyTrusted()), server_context(source)
        ).succeeded


class TestTrustedAuthorities:
    def test_equal_names_alone(self):
        """Domains may name their authorities alike, as long as key identifiers tell them apart."""
        other = x509.SubjectKeyIdentifier(b"another")
        theirs = imitation(CA.authority, identifier=other)
        assert theirs in trusted_authorities(source_with(theirs).snapshot)

    def test_one_certificate_in_two_bundles(self):
        """The same certificate hides nothing."""
        found = list(trusted_authorities(source_with(CA.authority).snapshot))
        assert found.count(CA.authority) == 2

    def test_ours_first(self):
        """Nothing is lost, and our own domain leads."""
        found = list(trusted_authorities(source_with().snapshot))
        assert found == [CA.authority, PARTNER.authority]

    def test_no_bundle_of_our_own(self):
        """Then there is nothing to hide."""
        source = StaticSource(CA.issue(), TrustBundleSet([PARTNER.bundle]))
        assert list(trusted_authorities(source.snapshot)) == [PARTNER.authority]


class TestOtherPartners:
    """One partner cannot keep the peers of another one out."""

    MALLORY = TrustDomain("mallory.example")
    EARLY = TrustDomain("a.example")  # Before the other partner in every order there is.

    def source(self, *authorities, domain):
        theirs = TrustBundle(domain, authorities)
        return StaticSource(CA.issue(), TrustBundleSet([CA.bundle, theirs, PARTNER.bundle]))

    def gets_in(self, source):
        theirs = StaticSource(PARTNER.issue(), TrustBundleSet([CA.bundle]))
        context = client_context(theirs, expect=AnyTrusted())
        return Handshake.run(context, server_context(source)).succeeded

    def variant(self):
        """The partner's own name, identifier and key, under somebody else's signature."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        root = PARTNER.authority
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mallory")])
        builder = x509.CertificateBuilder(name, root.subject, root.public_key(), 7)
        builder = builder.not_valid_before(now - timedelta(hours=1))
        builder = builder.not_valid_after(now + timedelta(days=9999))
        for extension in root.extensions:
            if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
                builder = builder.add_extension(extension.value, extension.critical)
        return builder.sign(key, hashes.SHA256())

    @pytest.mark.parametrize("domain", [MALLORY, EARLY], ids=str)
    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({}, id="same"),
            pytest.param({"identifier": None}, id="no-key-identifier"),
            pytest.param({"subject": upper(PARTNER.authority.subject)}, id="other-case"),
        ],
    )
    def test_imitation(self, domain, options, caplog):
        """An authority that passes for another partner's until its key is tried is not used."""
        source = self.source(imitation(PARTNER.authority, **options), domain=domain)
        assert self.gets_in(source)
        assert f"an authority of {str(domain)!r} is not used" in caplog.text

    @pytest.mark.parametrize("domain", [MALLORY, EARLY], ids=str)
    def test_variant(self, domain):
        """Nor is one with the partner's own key, which only the partner can sign itself with."""
        assert self.gets_in(self.source(self.variant(), domain=domain))

    def test_same_authority(self):
        """The very authority in two bundles hides nothing: the leaf's domain decides."""
        assert self.gets_in(self.source(PARTNER.authority, domain=self.EARLY))

    @pytest.mark.parametrize("key_type", ["p256", "p384", "ed25519", "rsa2048"])
    @pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
    def test_identifiers(self, key_type, digest):
        """The usual ways to make a key identifier are known, with every kind of key."""
        root = DevelopmentCA("x.example", key_type=key_type).authority
        info = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        key = {"p256": 65, "p384": 97, "ed25519": 32}.get(key_type)
        bits = info[-key:] if key else _trust_store._bit_string(info)
        wanted = hashlib.new(digest, bits).digest()[:20]
        assert wanted in set(_trust_store._identifiers_of(root))

    def test_two_of_equal_proof(self):
        """Where nothing tells two of them apart both stay, and nothing fails on the way."""
        bare = imitation(PARTNER.authority, identifier=None)
        other = imitation(PARTNER.authority, identifier=None)
        bundles = TrustBundleSet(
            [CA.bundle, TrustBundle(self.MALLORY, (bare,)), TrustBundle(self.EARLY, (other,))]
        )
        snapshot = StaticSource(CA.issue(), bundles).snapshot
        assert len(list(trusted_authorities(snapshot))) == 3
