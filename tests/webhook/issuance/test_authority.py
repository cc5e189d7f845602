# SPDX-License-Identifier: Apache-2.0
"""Authorities: which certificates and keys are one."""

import copy
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubetls_sdk import _pem
from kubetls_sdk.exceptions import CredentialError
from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.issuance.samples import NOW, authority, development_ca, subordinate
from webhook.issuance.authority import MAX_AUTHORITY_CHAIN, Authority


def pem(*certificates):
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def key_pem(private, style=PrivateFormat.PKCS8, encryption=None):
    return private.private_bytes(Encoding.PEM, style, encryption or NoEncryption())


def certificate(private, *, issuer=None, signer=None, extensions=(), name="a", digest=None):
    """A certificate of any content."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(signer or private, digest or hashes.SHA256())


def usage(**bits):
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        " key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names.split()})


CA = (x509.BasicConstraints(ca=True, path_length=None), True)
SIGNS = (usage(key_cert_sign=True), True)
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


class TestFromPem:
    def test_a_root(self):
        """A root is its own anchor, and nothing follows its leaves."""
        ca = development_ca()
        found = Authority.from_pem(pem(ca.authority), key_pem(ca.root.private_key))
        assert found.certificates == (ca.authority,)
        assert found.anchor == ca.authority
        assert found.chain_pem == b""
        assert found == authority(ca)

    @pytest.mark.parametrize("depth", [1, 2, MAX_AUTHORITY_CHAIN])
    def test_below_a_corporate_root(self, depth):
        """Its way up follows its leaves, without the root."""
        below = subordinate(depth=depth)
        found = Authority.from_pem(
            pem(*below.certificates), key_pem(below.private_key), pem(below.anchor)
        )
        assert found.certificates == below.certificates
        assert len(found.certificates) == depth
        assert found.chain_pem == pem(*below.certificates)
        assert found.certificate == below.certificates[0]

    def test_the_root_in_the_same_file(self):
        """A file that ends in the root needs no other, and the root is not sent."""
        below = subordinate()
        text = pem(*below.certificates, below.anchor)
        assert Authority.from_pem(text, key_pem(below.private_key)) == below
        assert Authority.from_pem(text, key_pem(below.private_key), pem(below.anchor)) == below

    def test_an_intermediate_as_anchor(self):
        """What peers trust may itself be below a root that they do not know."""
        below = subordinate()
        text = pem(below.certificate)
        found = Authority.from_pem(text, key_pem(below.private_key), text)
        assert found.anchor == below.certificate
        assert found.chain_pem == b""

    def test_without_the_anchor(self):
        """An intermediate without its root is refused: peers could not be told whom to trust."""
        below = subordinate()
        with pytest.raises(CredentialError, match="expected the anchor"):
            Authority.from_pem(pem(below.certificate), key_pem(below.private_key))

    @pytest.mark.parametrize("style", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
    def test_key_formats(self, style):
        """PKCS#8 and the older forms are read."""
        ca = development_ca()
        assert Authority.from_pem(pem(ca.authority), key_pem(ca.root.private_key, style))

    def test_round_trip(self):
        """What it writes is what it reads."""
        below = subordinate(depth=2)
        again = Authority.from_pem(
            below.certificates_pem(), below.private_key_pem(), pem(below.anchor)
        )
        assert again == below

    @pytest.mark.parametrize(
        ("certificates", "private", "anchor", "message"),
        [
            pytest.param(b"", b"", None, "PEM CERTIFICATE blocks as certificate", id="empty"),
            pytest.param(b"x", b"", None, "PEM CERTIFICATE blocks as certificate", id="no-pem"),
            pytest.param(
                key_pem(KEY), b"", None, "PEM CERTIFICATE blocks as certificate", id="key-first"
            ),
            pytest.param(
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                b"",
                None,
                "certificate PEM",
                id="no-der",
            ),
            pytest.param(
                pem(development_ca().authority),
                b"",
                None,
                "one unencrypted private key",
                id="no-key",
            ),
            pytest.param(
                pem(development_ca().authority),
                key_pem(KEY, encryption=BestAvailableEncryption(b"secret")),
                None,
                "one unencrypted private key",
                id="encrypted-key",
            ),
            pytest.param(
                pem(development_ca().authority),
                key_pem(KEY),
                None,
                "expected the private key of the signing certificate, got another",
                id="another-key",
            ),
            pytest.param(
                pem(subordinate().certificate),
                key_pem(KEY),
                pem(*[development_ca().authority] * 2),
                "expected one anchor certificate, got 2",
                id="two-anchors",
            ),
        ],
    )
    def test_refused(self, certificates, private, anchor, message):
        """What is no certificate, key or anchor is told apart."""
        with pytest.raises(CredentialError, match=message):
            Authority.from_pem(certificates, private, anchor)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            pytest.param(b"\x0c\x01r", b"\x05\x01r", id="name"),
            pytest.param(bytes.fromhex("0603551d13"), bytes.fromhex("0603551d0f"), id="extension"),
        ],
    )
    def test_unreadable_certificates(self, old, new):
        """A certificate that can be split but not be read is refused like any other."""
        der = certificate(KEY, extensions=[CA, SIGNS], name="r").public_bytes(Encoding.DER)
        assert old in der
        text = _pem.encode("CERTIFICATE", der.replace(old, new))
        with pytest.raises(CredentialError, match="certificate PEM"):
            Authority.from_pem(text, key_pem(KEY))


class TestConsistency:
    def test_a_leaf(self):
        """A leaf is no authority."""
        leaf = development_ca().issue()
        with pytest.raises(CredentialError, match="is not a CA"):
            Authority((leaf.leaf,), leaf.private_key, development_ca().authority)

    @pytest.mark.parametrize(
        ("extensions", "message"),
        [
            pytest.param([SIGNS], "is not a CA", id="no-constraints"),
            pytest.param(
                [(x509.BasicConstraints(ca=False, path_length=None), True), SIGNS],
                "is not a CA",
                id="no-ca",
            ),
            pytest.param([CA], "expected KeyUsage keyCertSign", id="no-usage"),
            pytest.param(
                [CA, (usage(crl_sign=True), True)], "may not sign certificates", id="crl-only"
            ),
            pytest.param(
                [CA, SIGNS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
                "not for TLS on both sides",
                id="servers-only",
            ),
            pytest.param(
                [
                    CA,
                    SIGNS,
                    (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True),
                ],
                "unknown critical extension",
                id="unknown-critical",
            ),
        ],
    )
    def test_certificates_that_may_not_sign(self, extensions, message):
        """Basic constraints, usages and extensions are those of an authority for both roles."""
        root = certificate(KEY, extensions=extensions)
        with pytest.raises(CredentialError, match=message):
            Authority((root,), KEY, root)

    def test_another_root(self):
        """The anchor must have signed the way up to it."""
        below, other = subordinate(), DevelopmentCA("example.org", now=NOW)
        with pytest.raises(CredentialError, match="not an authority"):
            Authority(below.certificates, below.private_key, other.authority)

    def test_a_root_of_the_same_name(self):
        """A name proves nothing: the signature must be the anchor's."""
        extensions = [CA, SIGNS]
        real, false = (certificate(each, extensions=extensions, name="r") for each in (KEY, OTHER))
        below = ec.generate_private_key(ec.SECP256R1())
        signing = certificate(below, issuer=real, signer=KEY, extensions=extensions, name="i")
        assert Authority((signing,), below, real)
        with pytest.raises(CredentialError, match="is not signed by"):
            Authority((signing,), below, false)

    def test_a_gap(self):
        """Every certificate in between is needed, in order."""
        below = subordinate(depth=3)
        first, second, third = below.certificates
        for broken in ((first, third), (first, third, second), (first,)):
            with pytest.raises(CredentialError):
                Authority(broken, below.private_key, below.anchor)

    def test_path_length(self):
        """An anchor that allows no intermediate below it cannot have this one."""
        ca = DevelopmentCA("example.org", now=NOW)
        tight = ca.intermediate(path_length=0)
        assert Authority(tight.chain, tight.private_key, ca.authority)
        under = ca.intermediate(under=tight)
        with pytest.raises(CredentialError, match="path length exceeded"):
            Authority(under.chain, under.private_key, ca.authority)

    def test_the_anchor_among_the_certificates(self):
        """The anchor is kept apart: it is never sent."""
        below = subordinate()
        with pytest.raises(CredentialError, match="apart from"):
            Authority((*below.certificates, below.anchor), below.private_key, below.anchor)
        with pytest.raises(CredentialError, match="nothing above"):
            Authority((*below.certificates, below.anchor), below.private_key, below.certificate)

    def test_length(self):
        """The path is as long as the SDK follows it, and not empty."""
        longest = subordinate(depth=MAX_AUTHORITY_CHAIN)
        certificates = (longest.certificate, *longest.certificates)
        for each in ((), certificates):
            with pytest.raises(CredentialError, match=rf"expected 1 to 8 .*, got {len(each)}$"):
                Authority(each, longest.private_key, longest.anchor)

    def test_weak_keys(self):
        """A key that peers would refuse signs nothing."""
        weak = ec.generate_private_key(ec.SECP224R1())
        root = certificate(weak, extensions=[CA, SIGNS])
        with pytest.raises(CredentialError, match="on the curve 'secp224r1'"):
            Authority((root,), weak, root)


class TestValues:
    def test_times(self):
        """It is valid as long as all of its path is."""
        root = DevelopmentCA("example.org", now=NOW)
        below = subordinate(root, ttl=timedelta(days=30))
        end = (NOW + timedelta(days=30)).replace(microsecond=0)
        assert below.not_after == end == below.certificate.not_valid_after_utc
        assert below.not_before == max(
            each.not_valid_before_utc for each in (below.certificate, below.anchor)
        )
        assert authority(root).not_after == root.authority.not_valid_after_utc

    @pytest.mark.parametrize(
        ("key_type", "digest"),
        [("p256", "sha256"), ("p384", "sha384"), ("rsa2048", "sha256"), ("ed25519", None)],
    )
    def test_digests(self, key_type, digest):
        """The digest is as strong as the key."""
        found = authority(key_type=key_type).digest
        assert (found.name if found else None) == digest

    def test_a_p521_key(self):
        """The largest curve has the largest digest."""
        private = ec.generate_private_key(ec.SECP521R1())
        root = certificate(private, extensions=[CA, SIGNS])
        assert Authority((root,), private, root).digest.name == "sha512"

    def test_name(self):
        """Its name is the start of the fingerprint that every tool shows."""
        found = authority()
        assert found.name == found.certificate.fingerprint(hashes.SHA256()).hex()[:20]

    def test_equality(self):
        """Two of one path are equal, whoever read them; others are not."""
        below = subordinate()
        same = Authority(below.certificates, below.private_key, below.anchor)
        assert same == below
        assert hash(same) == hash(below)
        assert below != subordinate()
        assert below != "authority"

    def test_the_key_stays_inside(self):
        """Neither text nor copies of it lead out of the process."""
        found = authority()
        secret = found.private_key_pem().splitlines()[1].decode()
        assert secret not in repr(found)
        assert repr(found).startswith(f"<Authority {found.name} not_after=")
        for leave in (pickle.dumps, copy.deepcopy, copy.copy):
            with pytest.raises(TypeError, match="holds a private key"):
                leave(found)

    def test_errors_hold_no_key(self):
        """The message about an unusable key does not show it."""
        broken = key_pem(KEY).replace(b"-----END", b"AAAA\n-----END")
        secret = key_pem(KEY).splitlines()[1].decode()
        with pytest.raises(CredentialError) as caught:
            Authority.from_pem(pem(development_ca().authority), broken)
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_keys_of_other_algorithms(self):
        """A key that no authority has is refused before it is compared."""
        root = development_ca().authority
        with pytest.raises(CredentialError, match="expected an EC, RSA or Ed25519 key"):
            Authority((root,), x25519.X25519PrivateKey.generate(), root)
