# SPDX-License-Identifier: Apache-2.0
"""What is signed: each field of the leaf, and that others accept it."""

import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.exceptions import PeerVerificationError
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
from kubetls_sdk.svid import X509Svid
from kubetls_sdk.testing import DevelopmentCA, name_constraints
from kubetls_sdk.verification import verify_svid
from tests.webhook.issuance.samples import NOW, authority, development_ca, grant, key, subordinate
from webhook.config import KeyType
from webhook.exceptions import IssuanceError
from webhook.issuance.profile import issue

OID = ExtensionOID


def issued(*, by=None, serial=None, **changes):
    return issue(grant(**changes), by or authority(development_ca()), now=NOW, serial=serial)


def extensions(certificate):
    """Extension by OID: value and whether it is critical."""
    return {each.oid: (each.value, each.critical) for each in certificate.extensions}


def bundles(by):
    return TrustBundleSet([TrustBundle(TrustDomain("example.org"), (by.anchor,))])


def chain_of(found):
    return x509.load_pem_x509_certificates(found.chain_pem)


class TestLeaf:
    def test_every_extension(self):
        """These and no others, each with its criticality."""
        found = extensions(issued().certificate)
        assert {oid: critical for oid, (_, critical) in found.items()} == {
            OID.BASIC_CONSTRAINTS: True,
            OID.KEY_USAGE: True,
            OID.EXTENDED_KEY_USAGE: False,
            OID.SUBJECT_ALTERNATIVE_NAME: False,
            OID.AUTHORITY_KEY_IDENTIFIER: False,
            OID.SUBJECT_KEY_IDENTIFIER: False,
        }

    def test_no_authority(self):
        """It signs nobody."""
        value, _ = extensions(issued().certificate)[OID.BASIC_CONSTRAINTS]
        assert (value.ca, value.path_length) == (False, None)

    def test_every_usage_bit(self):
        """Of all usages it has digitalSignature."""
        value, _ = extensions(issued().certificate)[OID.KEY_USAGE]
        assert value.public_bytes() == bytes.fromhex("03020780")
        assert value.digital_signature

    def test_roles(self):
        """It is for servers and for clients, and for nothing else."""
        value, _ = extensions(issued().certificate)[OID.EXTENDED_KEY_USAGE]
        assert list(value) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]

    def test_names(self):
        """Exactly one URI, the identity, then the DNS names in their order."""
        value, _ = extensions(issued().certificate)[OID.SUBJECT_ALTERNATIVE_NAME]
        assert list(value) == [
            x509.UniformResourceIdentifier("spiffe://example.org/ns/shop/sa/web"),
            x509.DNSName("web.shop.svc"),
            x509.DNSName("web.shop.svc.cluster.local"),
        ]

    def test_without_dns_names(self):
        """A pod of no Service has its identity alone."""
        value, _ = extensions(issued(dns_names=()).certificate)[OID.SUBJECT_ALTERNATIVE_NAME]
        assert len(list(value)) == 1

    def test_subject(self):
        """The subject is the common name, and nothing else."""
        subject = issued().certificate.subject
        assert [(each.oid, each.value) for each in subject] == [(NameOID.COMMON_NAME, "web-0")]

    def test_an_empty_subject(self):
        """Without a common name the subject is empty, and then the names are critical."""
        leaf = issued(common_name=None).certificate
        assert list(leaf.subject) == []
        assert extensions(leaf)[OID.SUBJECT_ALTERNATIVE_NAME][1] is True

    def test_identifiers(self):
        """The identifiers are the authority's own and the key's."""
        below = subordinate()
        found = extensions(issued(by=below).certificate)
        own = extensions(below.certificate)[OID.SUBJECT_KEY_IDENTIFIER][0]
        assert found[OID.AUTHORITY_KEY_IDENTIFIER][0] == x509.AuthorityKeyIdentifier(
            own.digest, None, None
        )
        of_key = x509.SubjectKeyIdentifier.from_public_key(key().public_key())
        assert found[OID.SUBJECT_KEY_IDENTIFIER][0] == of_key

    def test_issuer(self):
        """The issuer is byte for byte the authority's subject."""
        below = subordinate()
        leaf = issued(by=below).certificate
        assert leaf.issuer.public_bytes() == below.certificate.subject.public_bytes()

    def test_version_and_key(self):
        """An X.509 certificate of version 3 about the requester's key."""
        leaf = issued().certificate
        assert leaf.version is x509.Version.v3
        assert leaf.public_key() == key().public_key()

    @pytest.mark.parametrize("kind", KeyType)
    def test_key_types(self, kind):
        """Each type of key is certified, and proves itself with its private one."""
        by = authority(development_ca())
        found = issue(grant(public_key=key(kind).public_key()), by, now=NOW)
        svid = X509Svid(tuple(chain_of(found)), key(kind))
        assert svid.spiffe_id == grant().spiffe_id
        assert verify_svid(svid.chain, bundles=bundles(by), now=NOW)


class TestSerial:
    def test_random(self):
        """Serial numbers are random, positive and of at most 20 bytes."""
        numbers = [issued().serial for _ in range(200)]
        assert len(set(numbers)) == 200
        assert all(0 < each < 1 << 159 for each in numbers)
        assert max(numbers).bit_length() > 150
        ones = sum(number.bit_count() for number in numbers)
        assert 0.45 < ones / (159 * 200) < 0.55

    def test_in_the_certificate(self):
        """What is told is what is signed."""
        found = issued()
        assert found.certificate.serial_number == found.serial

    def test_given(self):
        """A given number is taken, and with it all that is signed is determined."""
        first, again = issued(serial=5), issued(serial=5)
        assert first.serial == 5
        tbs = (each.certificate.tbs_certificate_bytes for each in (first, again))
        assert len(set(tbs)) == 1
        assert first.begin_refresh_at == again.begin_refresh_at

    @pytest.mark.parametrize("serial", [0, -1, 1 << 159, 1 << 160])
    def test_out_of_range(self, serial):
        """Other numbers are a programming error."""
        with pytest.raises(ValueError, match="positive serial number"):
            issued(serial=serial)

    @pytest.mark.parametrize("serial", [1, (1 << 159) - 1, 1 << 158])
    def test_at_the_edge(self, serial):
        """The smallest and the largest are in at most 20 bytes of the certificate."""
        assert issued(serial=serial).certificate.serial_number == serial


class TestTimes:
    @pytest.mark.parametrize("microsecond", [0, 1, 499_999, 500_000, 999_999])
    def test_status_and_certificate_agree(self, microsecond):
        """The times told are the certificate's, to the second."""
        now = NOW.replace(microsecond=microsecond)
        found = issue(grant(), authority(development_ca()), now=now)
        assert found.not_before == found.certificate.not_valid_before_utc
        assert found.not_after == found.certificate.not_valid_after_utc
        assert found.not_before == NOW.replace(microsecond=0) - timedelta(minutes=2)

    def test_early(self):
        """A pod that waits for its Service comes back as soon as it may."""
        found = issued(refreshes_early=True)
        assert found.begin_refresh_at == found.not_before + timedelta(minutes=10)

    def test_far_away(self):
        """Times from 2050 on, which X.509 writes in another form, agree as well."""
        far = NOW.replace(year=2049, month=12, day=31)
        ca = DevelopmentCA("example.org", now=far)
        found = issue(grant(lifetime=timedelta(days=30)), authority(ca), now=far)
        assert found.not_after == found.certificate.not_valid_after_utc
        assert found.not_after.year == 2050

    def test_an_authority_that_ends(self):
        """What cannot live long enough is not signed."""
        ending = subordinate(ttl=timedelta(minutes=57))
        with pytest.raises(IssuanceError) as caught:
            issued(by=ending)
        assert caught.value.is_retryable


class TestChain:
    def test_of_a_root(self):
        """The chain of a root is the leaf alone."""
        found = issued()
        assert found.chain_pem == found.certificate.public_bytes(Encoding.PEM)

    @pytest.mark.parametrize("depth", [1, 2, 8])
    def test_of_an_intermediate(self, depth):
        """The leaf, then the way up, without the root."""
        below = subordinate(depth=depth)
        found = issued(by=below)
        assert chain_of(found) == [found.certificate, *below.certificates]
        assert below.anchor not in chain_of(found)

    @pytest.mark.parametrize("count", [0, 2, 600])
    def test_size(self, count):
        """With as many names as there is room for, the API server takes the chain."""
        names = tuple(f"s{number:04}.shop.svc" for number in range(count))
        found = issued(by=subordinate(depth=8), dns_names=names)
        assert len(found.chain_pem) <= 100 * 1024

    def test_repr(self):
        """A log line of it is short."""
        assert len(repr(issued())) < 100


class TestVerification:
    """Others accept what we sign."""

    AUTHORITIES = pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda: authority(key_type="p256"), id="p256"),
            pytest.param(lambda: authority(key_type="p384"), id="p384"),
            pytest.param(lambda: authority(key_type="rsa2048"), id="rsa2048"),
            pytest.param(lambda: authority(key_type="ed25519"), id="ed25519"),
            pytest.param(subordinate, id="intermediate"),
            pytest.param(lambda: subordinate(depth=3), id="three-intermediates"),
            pytest.param(lambda: subordinate(key_type="rsa2048"), id="rsa-under-ec"),
        ],
    )

    @AUTHORITIES
    def test_the_sdk(self, make):
        """The SDK finds the identity, for as long as the certificate says."""
        by = make()
        found = issued(by=by)
        peer = verify_svid(chain_of(found), bundles=bundles(by), now=NOW)
        assert peer.spiffe_id == SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
        assert peer.expires_at == found.not_after
        for now in (found.not_before, found.not_after):
            verify_svid(chain_of(found), bundles=bundles(by), now=now)
        for now in (
            found.not_before - timedelta(seconds=1),
            found.not_after + timedelta(seconds=1),
        ):
            with pytest.raises(PeerVerificationError):
                verify_svid(chain_of(found), bundles=bundles(by), now=now)

    @AUTHORITIES
    @pytest.mark.parametrize("common_name", ["web-0", None])
    @pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
    def test_openssl(self, make, common_name, purpose, tmp_path):
        """OpenSSL accepts it for both roles, by its strictest rules."""
        by = make()
        found = issued(by=by, common_name=common_name)
        (tmp_path / "root.pem").write_bytes(by.anchor.public_bytes(Encoding.PEM))
        (tmp_path / "leaf.pem").write_bytes(found.chain_pem)
        (tmp_path / "below.pem").write_bytes(by.chain_pem)
        command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose]
        command += ["-CAfile", "root.pem", "-attime", str(int(NOW.timestamp()))]
        if by.chain_pem:
            command += ["-untrusted", "below.pem"]
        done = subprocess.run(
            [*command, "leaf.pem"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout == "leaf.pem: OK\n", done.stderr

    def test_constraints_of_a_corporate_root(self):
        """A root that permits another trust domain only makes no certificate that peers accept."""
        ca = DevelopmentCA("example.org", now=NOW)
        fitting = subordinate(ca, constraints=name_constraints(permitted_uris=["example.org"]))
        assert verify_svid(
            chain_of(issued(by=fitting)), bundles=bundles(fitting), now=NOW
        ).spiffe_id
        other = subordinate(ca, constraints=name_constraints(permitted_uris=["other.example"]))
        with pytest.raises(PeerVerificationError):
            verify_svid(chain_of(issued(by=other)), bundles=bundles(other), now=NOW)

    def test_another_domain(self):
        """The certificate proves nothing under another trust domain's bundle."""
        by = authority(development_ca())
        others = TrustBundleSet([TrustBundle(TrustDomain("other.example"), (by.anchor,))])
        with pytest.raises(PeerVerificationError):
            verify_svid(chain_of(issued(by=by)), bundles=others, now=NOW)
