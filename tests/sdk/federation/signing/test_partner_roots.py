# SPDX-License-Identifier: Apache-2.0
"""Certificates of ours for a partner's workloads: who they are, and how they end."""

from __future__ import annotations

import stat
import threading
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.context import server_context
from kubetls_sdk.exceptions import ConfigurationError, PeerVerificationError, SpiffeIdError
from kubetls_sdk.federation.signing import PartnerRoots
from kubetls_sdk.source import StaticSource
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.testing.authority import IssuedChain
from kubetls_sdk.verification import verify_svid
from tests.handshaking import Handshake, stock_client

OWN = TrustDomain("example.org")
DAY = timedelta(days=1)


@pytest.fixture
def ours():
    return DevelopmentCA("example.org")


@pytest.fixture
def roots(tmp_path):
    return PartnerRoots(tmp_path / "partners", OWN)


def csr(key=None, extensions=(), digest=SHA256):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for value in extensions:
        builder = builder.add_extension(value, critical=False)
    key = key or ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, digest() if digest else None).public_bytes(Encoding.PEM)


def issue(roots, ours, partner="acme", path="/orders", text=None, **options):
    wanted = {"now": ours.now, "ttl": DAY, **options}
    return roots.issue(partner, path, csr() if text is None else text, **wanted)


def verify(leaf, bundle, ours):
    return verify_svid([leaf], bundles=TrustBundleSet([bundle]), now=ours.now)


class TestIssue:
    def test_identity(self, roots, ours):
        """A name below the partner's, in a trust domain whose bundle alone verifies it."""
        leaf = issue(roots, ours)
        peer = verify(leaf, roots.bundle(), ours)
        assert str(peer.spiffe_id) == "spiffe://partners.example.org/acme/orders"
        with pytest.raises(PeerVerificationError):
            verify(leaf, ours.bundle, ours)

    def test_bundle_file(self, roots, ours):
        """The bundle file is the bundle, under the name that a volume wants."""
        issue(roots, ours)
        issue(roots, ours, "globex")
        assert roots.bundle_file.name == "partners.example.org.trust-bundle.pem"
        found = TrustBundle.from_pem(roots.trust_domain, roots.bundle_file.read_bytes())
        assert found == roots.bundle()
        assert len(found) == 2

    def test_root_is_kept(self, roots, ours):
        """A partner has one root."""
        assert issue(roots, ours).issuer == issue(roots, ours, path="/other").issuer
        assert len(roots.bundle()) == 1

    def test_files(self, roots, ours):
        """Keys are for their owner only."""
        issue(roots, ours)
        place = roots.bundle_file.parent / "acme"
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE((place / "root.key.pem").stat().st_mode) == 0o600
        assert sorted(each.name for each in place.iterdir()) == ["root.key.pem", "root.pem"]

    def test_csr_gives_its_key_only(self, roots, ours):
        """What a CSR asks for besides has no effect."""
        key = ec.generate_private_key(ec.SECP384R1())
        names = x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier("spiffe://example.org/admin"), x509.DNSName("a.b")]
        )
        leaf = issue(roots, ours, text=csr(key, [names]))
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert leaf.public_key() == key.public_key()
        assert [each.value for each in found] == ["spiffe://partners.example.org/acme/orders"]

    @pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), None])
    def test_kinds_of_keys(self, roots, ours, key):
        """EC, RSA and Ed25519 keys are fine."""
        made = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        text = csr(made, digest=SHA256 if key is None else None)
        assert verify(issue(roots, ours, text=text), roots.bundle(), ours)

    def test_lifetime(self, roots, ours):
        """Short-lived: a week at most, and not longer than the root."""
        leaf = issue(roots, ours, ttl=timedelta(hours=1))
        assert leaf.not_valid_after_utc - ours.now < timedelta(hours=1, seconds=1)
        for ttl in (timedelta(0), timedelta(days=8)):
            with pytest.raises(ConfigurationError, match="lifetime"):
                issue(roots, ours, ttl=ttl)
        nearly = ours.now + timedelta(days=364, hours=12)
        root_end = roots.bundle().authorities[0].not_valid_after_utc
        assert issue(roots, ours, now=nearly).not_valid_after_utc == root_end
        with pytest.raises(ConfigurationError, match="expired"):
            issue(roots, ours, now=ours.now + timedelta(days=366))

    def test_handshake(self, roots, ours):
        """The workload connects with it, and is known by its name; OpenSSL agrees."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = issue(roots, ours, text=csr(key))
        bundles = TrustBundleSet([ours.bundle, roots.bundle()])
        server = server_context(StaticSource(ours.issue("/server"), bundles))
        done = Handshake.run(stock_client(IssuedChain((leaf,), key)), server)
        assert str(done.server.verified_peer.spiffe_id).endswith("partners.example.org/acme/orders")

    def test_two_at_once(self, roots, ours):
        """Two commands at once make one root."""
        leaves = []
        threads = [
            threading.Thread(target=lambda: leaves.append(issue(roots, ours))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(leaves) == 8
        assert all(verify(leaf, roots.bundle(), ours) for leaf in leaves)
        assert len(roots.bundle()) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        "name", ["", "A", "a b", "..", "../x", "a/b", ".a", "a.b", "-a", "a-", "a\n", "ä", "x" * 43]
    )
    def test_partner(self, roots, ours, name):
        """A partner's name is a name, and no path."""
        with pytest.raises(ConfigurationError, match="partner's name"):
            issue(roots, ours, name)
        with pytest.raises(ConfigurationError, match="partner's name"):
            roots.revoke(name)

    @pytest.mark.parametrize(
        "path", ["", "/", "orders", "corp/x", "/a/", "/..", "/../globex/x", "/ä"]
    )
    def test_path(self, roots, ours, path):
        """A path stays below the partner's name: `acme` gets no name of `acmecorp`."""
        with pytest.raises(SpiffeIdError):
            issue(roots, ours, path=path)

    @pytest.mark.parametrize("text", [b"", b"x", b"-----BEGIN CERTIFICATE REQUEST-----\n"])
    def test_csr(self, roots, ours, text):
        """Without a CSR there is no certificate, and no root."""
        with pytest.raises(ConfigurationError, match="CSR"):
            issue(roots, ours, text=text)
        assert not roots.bundle_file.exists()

    def test_weak_keys(self, roots, ours):
        """Weak keys are refused."""
        for key in (
            rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505
            ec.generate_private_key(ec.SECP256K1()),
            dsa.generate_private_key(2048),
        ):
            with pytest.raises(ConfigurationError, match="key"):
                issue(roots, ours, text=csr(key))

    def test_possession(self, roots, ours):
        """Whoever asks has to have the key."""
        der = bytearray(x509.load_pem_x509_csr(csr()).public_bytes(Encoding.DER))
        der[-1] ^= 1
        broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
        with pytest.raises(ConfigurationError, match="own key"):
            issue(roots, ours, text=broken)


class TestRevoke:
    def test_revoked(self, roots, ours):
        """Removing a partner's root ends all that it signed, and nothing of others."""
        acme, globex = issue(roots, ours), issue(roots, ours, "globex")
        roots.revoke("acme")
        with pytest.raises(PeerVerificationError):
            verify(acme, roots.bundle(), ours)
        assert verify(globex, roots.bundle(), ours)
        found = TrustBundle.from_pem(roots.trust_domain, roots.bundle_file.read_bytes())
        assert found == roots.bundle()

    def test_last(self, roots, ours):
        """When nobody is left the bundle file is empty: it trusts nobody."""
        issue(roots, ours)
        roots.revoke("acme")
        assert roots.bundle_file.read_bytes() == b""

    def test_begin_again(self, roots, ours):
        """A partner that comes back has another root: what was revoked stays so."""
        old = issue(roots, ours)
        roots.revoke("acme")
        assert verify(issue(roots, ours), roots.bundle(), ours)
        with pytest.raises(PeerVerificationError):
            verify(old, roots.bundle(), ours)

    def test_unknown(self, roots, ours):
        """A partner that is none is an error, which names those that are."""
        issue(roots, ours)
        with pytest.raises(ConfigurationError, match=r"its partners \(acme\), got 'nobody'"):
            roots.revoke("nobody")


class TestRoot:
    def test_constraints(self, roots, ours):
        """The root itself may vouch for the partners' trust domain only, without CAs below."""
        issue(roots, ours)
        (root,) = roots.bundle().authorities
        get = root.extensions.get_extension_for_class
        permitted = get(x509.NameConstraints).value.permitted_subtrees
        assert x509.UniformResourceIdentifier("partners.example.org") in permitted
        assert get(x509.NameConstraints).critical
        assert get(x509.BasicConstraints).value.path_length == 0
