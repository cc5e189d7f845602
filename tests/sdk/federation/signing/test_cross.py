# SPDX-License-Identifier: Apache-2.0
"""What may be cross-signed, and what the certificate says; attacks on it are integration tests."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation.signing import (
    PartnerAuthority,
    PartnerConstraints,
    SigningAuthority,
    cross_sign,
)
from kubetls_sdk.federation.signing.content import Content
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.testing.draft import name_constraints

PARTNER = TrustDomain("partner.example")
OWN = TrustDomain("example.org")


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def pem(certificate):
    return certificate.public_bytes(Encoding.PEM)


@pytest.fixture
def ours():
    return DevelopmentCA("example.org")


@pytest.fixture
def theirs():
    return DevelopmentCA("partner.example")


def issuer_of(ca):
    return SigningAuthority(ca.root.certificate, ca.root.private_key)


def sign(ours, text, *, now=None, trust_domain=PARTNER, ttl=timedelta(days=90), **constraints):
    moment = now or ours.now
    return cross_sign(
        PartnerAuthority.parse(text, trust_domain=trust_domain, now=moment),
        issuer=issuer_of(ours),
        own=OWN,
        constraints=PartnerConstraints(trust_domain=trust_domain, **constraints),
        now=moment,
        ttl=ttl,
    )


def csr(subject="partner root", key=None, extensions=()):
    builder = x509.CertificateSigningRequestBuilder().subject_name(named(subject))
    for value in extensions:
        builder = builder.add_extension(value, critical=False)
    key = key or ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


class TestCertificate:
    def test_profile(self, ours, theirs):
        """The partner's name and key, a CA for TLS only, every constraint critical."""
        found = sign(ours, pem(theirs.authority))
        assert found.subject == theirs.authority.subject
        assert found.public_key() == theirs.authority.public_key()
        assert found.issuer == ours.authority.subject
        found.verify_directly_issued_by(ours.authority)
        get = found.extensions.get_extension_for_class
        for kind in (x509.BasicConstraints, x509.KeyUsage, x509.NameConstraints):
            assert get(kind).critical
        assert get(x509.BasicConstraints).value == x509.BasicConstraints(ca=True, path_length=0)
        assert get(x509.KeyUsage).value.key_cert_sign
        assert not get(x509.KeyUsage).value.digital_signature
        assert set(get(x509.ExtendedKeyUsage).value) == {
            ExtendedKeyUsageOID.CLIENT_AUTH,
            ExtendedKeyUsageOID.SERVER_AUTH,
        }
        assert get(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.UniformResourceIdentifier
        ) == ["spiffe://partner.example"]

    def test_key_identifiers(self, ours, theirs):
        """The partner's leaves find it, and it finds our CA, by key identifier."""
        found = sign(ours, pem(theirs.authority)).extensions
        kind = x509.SubjectKeyIdentifier
        theirs_id = theirs.authority.extensions.get_extension_for_class(kind).value
        ours_id = ours.authority.extensions.get_extension_for_class(kind).value
        assert found.get_extension_for_class(kind).value == theirs_id
        above = found.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        assert above.key_identifier == ours_id.digest

    def test_validity(self, ours, theirs):
        """It ends with the first of: our CA, the partner's, the lifetime that was asked for."""
        short = DevelopmentCA("partner.example")
        end = sign(ours, pem(theirs.authority), ttl=timedelta(hours=1)).not_valid_after_utc
        assert abs(end - ours.now - timedelta(hours=1)) < timedelta(minutes=1)
        limited = short.intermediate(ttl=timedelta(days=2)).certificate
        found = sign(ours, pem(limited))
        assert found.not_valid_after_utc == limited.not_valid_after_utc
        long = sign(ours, pem(theirs.authority), ttl=timedelta(days=36500))
        ends = (ours.authority.not_valid_after_utc, theirs.authority.not_valid_after_utc)
        assert long.not_valid_after_utc == min(ends)

    def test_begins_with_the_partner(self, ours, theirs):
        """It is not valid before the partner's CA is, however new that one is."""
        old = theirs.authority
        begin = (ours.now - timedelta(minutes=1)).replace(microsecond=0)
        extensions = tuple(
            (each.value, each.critical)
            for each in old.extensions
            if not isinstance(each.value, x509.AuthorityKeyIdentifier)
        )
        young = Content(old.subject, old.public_key(), begin, old.not_valid_after_utc, extensions)
        assert sign(ours, pem(issuer_of(theirs).sign(young))).not_valid_before_utc == begin

    def test_of_a_csr(self, ours):
        """A CSR gives name and key; what it asks for has no effect."""
        wanted = [
            x509.SubjectAlternativeName([x509.DNSName("orders.shop.svc")]),
            x509.BasicConstraints(ca=True, path_length=None),
        ]
        found = sign(ours, csr(extensions=wanted)).extensions
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == []
        assert found.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


class TestConstraints:
    def test_nothing_given(self):
        """Without names given, everything but the trust domain is excluded."""
        found = PartnerConstraints(trust_domain=PARTNER).extension()
        assert found.permitted_subtrees == [
            x509.UniformResourceIdentifier("partner.example"),
            x509.RFC822Name("nobody@partner.invalid"),
        ]
        excluded = [each.value for each in found.excluded_subtrees]
        assert x509.DNSName("") in found.excluded_subtrees
        assert x509.DirectoryName(x509.Name([])) in found.excluded_subtrees
        assert [str(each) for each in excluded[:2]] == ["0.0.0.0/0", "::/0"]

    def test_given(self):
        """What is given is permitted, and nothing else of its kind."""
        given = PartnerConstraints(
            trust_domain=PARTNER,
            dns_names=("api.partner.example",),
            subjects=(x509.Name.from_rfc4514_string("O=Partner"),),
        ).extension()
        assert x509.DNSName("api.partner.example") in given.permitted_subtrees
        assert {type(each) for each in given.excluded_subtrees} == {x509.IPAddress}
        assert x509.DirectoryName in {type(each) for each in given.permitted_subtrees}

    def test_subjects_left_alone(self):
        """Leaving subjects alone has to be said."""
        found = PartnerConstraints(trust_domain=PARTNER, subjects=None).extension()
        kinds = {type(each) for each in (*found.permitted_subtrees, *found.excluded_subtrees)}
        assert x509.DirectoryName not in kinds

    def test_words(self):
        """What is allowed is said in words, each kind of name in a line."""
        assert list(PartnerConstraints(trust_domain=PARTNER).words()) == [
            "SPIFFE IDs: spiffe://partner.example/..., and of no other trust domain",
            "DNS names: none",
            "subjects: none: certificates with a subject are refused",
            "IP addresses: none",
            "e-mail addresses: none",
            "intermediate CAs below the partner's: none",
        ]
        more = list(
            PartnerConstraints(
                trust_domain=PARTNER, dns_names=("a.b",), subjects=None, path_length=1
            ).words()
        )
        assert "DNS names: 'a.b' and all names below" in more
        assert "subjects: any (they are left alone; nothing should decide by them)" in more
        assert "intermediate CAs below the partner's: 1" in more

    @pytest.mark.parametrize(
        "name",
        [
            ".partner.example",
            "partner.example.",
            "a..b",
            "-a.b",
            "10.0.0.1",
            "1.2",
            "_.9",
            "x" * 64,
        ],
    )
    def test_trust_domain(self, name):
        """A trust domain that verifiers would read differently as a constraint is refused."""
        with pytest.raises(ConfigurationError, match="trust domain"):
            PartnerConstraints(trust_domain=TrustDomain(name))

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "com",
            ".a.b",
            "a.b.",
            "*.a.b",
            "A.b",
            "a b.c",
            "10.0.0.1",
            "ä.b",
            "shop.svc",
            "svc.cluster.local",
            "cluster.local",
            "x.cluster.local",
        ],
    )
    def test_dns_name(self, name):
        """So is a DNS name, and those of our own services."""
        with pytest.raises(ConfigurationError, match="DNS name"):
            PartnerConstraints(trust_domain=PARTNER, dns_names=(name,))

    def test_empty_subject(self):
        """An empty subject would permit all of them."""
        with pytest.raises(ConfigurationError, match="empty"):
            PartnerConstraints(trust_domain=PARTNER, subjects=(x509.Name([]),))


class TestRefusals:
    def refuse(self, ours, text, message, **options):
        with pytest.raises(ConfigurationError, match=message):
            sign(ours, text, **options)

    def test_our_own_domain(self, ours, theirs):
        """Ours is nobody's partner."""
        self.refuse(ours, csr(), "got ours", trust_domain=OWN)

    def test_other_domain(self, ours):
        """A CA that says it is of another trust domain is refused, certificate and CSR alike."""
        other = DevelopmentCA("other.example")
        self.refuse(ours, pem(other.authority), "got one of 'spiffe://other")
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://example.org")])
        self.refuse(ours, csr(extensions=[name]), "got one of 'spiffe://example")

    def test_our_name(self, ours):
        """A CA named like ours would look self-issued, and constraints do not bind that."""
        ours_name = ours.authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        self.refuse(ours, csr(ours_name), "another name than ours")
        self.refuse(ours, csr(f" {ours_name.upper()} "), "another name than ours")

    def test_our_key(self, ours):
        """Nobody gets our key certified under their name."""
        self.refuse(ours, csr("x", key=ours.root.private_key), "our own CA")

    def test_leaf(self, ours, theirs):
        """Only CAs are cross-signed."""
        self.refuse(ours, theirs.issue().certificates_pem(), "not a CA")
        leaf = x509.BasicConstraints(ca=False, path_length=None)
        self.refuse(ours, csr(extensions=[leaf]), "asks for a leaf")

    def test_constraints_of_its_own(self, ours):
        """A CA that is constrained already would lose that."""
        root = DevelopmentCA("partner.example")
        limited = root.add_root(constraints=name_constraints(excluded_dns=["a.b"]))
        self.refuse(ours, pem(limited.certificate), "would be lost")

    def test_path_length(self, ours):
        """No more CAs below than the partner's own certificate allows, or ours."""
        root = DevelopmentCA("partner.example")
        short = root.add_root(path_length=0)
        self.refuse(ours, pem(short.certificate), "path length", path_length=1)
        assert sign(ours, pem(short.certificate))
        limited = DevelopmentCA("example.org")
        limited.add_root(path_length=1)
        limited.activate_root()
        assert sign(limited, pem(short.certificate))
        self.refuse(limited, csr(), "path length", path_length=1)
        none = DevelopmentCA("example.org")
        none.add_root(path_length=0)
        none.activate_root()
        self.refuse(none, csr(), "path length")

    def test_expired(self, ours, theirs):
        """Neither CA may be outside its validity."""
        late = theirs.authority.not_valid_after_utc + timedelta(days=1)
        self.refuse(ours, pem(theirs.authority), "expired", now=late)
        self.refuse(ours, csr(), "our CA: .*expired", now=late)

    def test_weak_key(self, ours):
        """Weak keys and curves that TLS does not use are refused."""
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
        self.refuse(ours, csr(key=weak), "weak RSA key")
        self.refuse(ours, csr(key=ec.generate_private_key(ec.SECP256K1())), "curve")

    def test_possession(self, ours, theirs):
        """A CSR, or a self-signed certificate, whose signature is wrong is refused."""
        der = bytearray(x509.load_pem_x509_csr(csr()).public_bytes(Encoding.DER))
        der[-1] ^= 1
        broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
        self.refuse(ours, broken, "own key")
        der = bytearray(theirs.authority.public_bytes(Encoding.DER))
        der[-1] ^= 1
        broken = x509.load_der_x509_certificate(bytes(der)).public_bytes(Encoding.PEM)
        self.refuse(ours, broken, "not signed by")

    @pytest.mark.parametrize(
        "text",
        [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
        ids=["nothing", "noise", "not a certificate"],
    )
    def test_malformed(self, ours, text):
        """What is neither certificate nor CSR is refused."""
        self.refuse(ours, text, "expected|malformed")

    def test_two(self, ours, theirs):
        """One at a time."""
        self.refuse(ours, pem(theirs.authority) * 2, "got 2 blocks")

    def test_no_subject(self, ours):
        """A CA without a name cannot be found by its leaves."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        text = request.sign(key, SHA256()).public_bytes(Encoding.PEM)
        self.refuse(ours, text, "empty")

    def test_our_ca_of_another_domain(self, theirs):
        """Our own CA is of our own trust domain."""
        self.refuse(DevelopmentCA("else.example"), pem(theirs.authority), "expected a CA of")


class TestSigningAuthority:
    def test_load(self, ours, tmp_path):
        """A certificate and its key, from PEM."""
        ours.save(tmp_path)
        (certificate,) = tmp_path.glob("root-*[0-9a-f].pem")
        key = certificate.with_suffix(".key.pem").read_bytes()
        loaded = SigningAuthority.load(certificate.read_bytes(), key)
        assert loaded.certificate == ours.authority
        assert "PRIVATE" not in repr(loaded)

    def test_misfit(self, ours, theirs):
        """The key of another CA, or no key, is refused, and no error shows one."""
        key = theirs.issue().private_key_pem()
        for text in (key, b"x", key[:100]):
            with pytest.raises(ConfigurationError) as caught:
                SigningAuthority.load(pem(ours.authority), text)
            assert key.decode()[30:80] not in str(caught.value)
