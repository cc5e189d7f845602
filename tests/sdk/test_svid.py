# SPDX-License-Identifier: Apache-2.0
"""Our own identity document: what is read, what is refused, and what is never shown."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from kubetls_sdk import SvidError, X509Svid, _pem
from kubetls_sdk.svid import MAX_CHAIN
from kubetls_sdk.testing import FAULTS, KEY_TYPES, DevelopmentCA

IN_THE_LEAF = sorted(
    set(FAULTS)
    & {
        "no_san", "dns_only", "two_uris", "not_spiffe_scheme", "root_path_id", "upper_case_domain",
        "trailing_slash", "trailing_newline", "nul_in_uri", "dot_segment", "percent_encoding",
        "query_in_uri", "port_in_uri", "uri_too_long", "ca_leaf", "key_cert_sign", "crl_sign",
        "no_key_usage", "key_usage_not_critical", "no_digital_signature", "server_only_eku",
        "client_only_eku",
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def ca() -> DevelopmentCA:
    return DevelopmentCA()


@pytest.fixture(scope="module")
def svid(ca) -> X509Svid:
    return ca.issue(intermediates=2)


def key_pem(key, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


class TestFromPem:
    """Chain and key from text, in the forms that signers write."""

    @pytest.mark.parametrize("key_type", KEY_TYPES)
    def test_gives_back_what_was_written(self, ca, key_type) -> None:
        """Each key type that we present; text and value are inverse."""
        made = ca.issue(key_type=key_type, intermediates=1)
        read = X509Svid.from_pem(
            certificates=made.certificates_pem(), private_key=made.private_key_pem()
        )
        assert read == made
        assert read.spiffe_id == ca.spiffe_id()
        assert read.private_key_pem() == made.private_key_pem()

    @pytest.mark.parametrize("key_type", ["p256", "p384", "rsa2048"])
    def test_takes_traditional_keys(self, ca, key_type) -> None:
        """SEC1 for EC and PKCS#1 for RSA."""
        made = ca.issue(key_type=key_type)
        text = key_pem(made.private_key, PrivateFormat.TraditionalOpenSSL)
        assert b"PRIVATE KEY" in text
        assert b"BEGIN PRIVATE KEY" not in text
        assert X509Svid.from_pem(certificates=made.certificates_pem(), private_key=text) == made

    def test_takes_a_credential_bundle(self, svid) -> None:
        """Key and chain in one text, as Pod Certificates deliver them."""
        both = svid.private_key_pem() + svid.certificates_pem()
        assert X509Svid.from_pem(certificates=both, private_key=both) == svid

    @pytest.mark.parametrize(
        ("certificates", "message"),
        [
            (b"", "expected a PEM CERTIFICATE block, got none"),
            (b"hello", "expected a PEM CERTIFICATE block, got none"),
            (b"-----BEGIN CERTIFICATE-----\n", "cut off"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "X.509"),
        ],
    )
    def test_refuses_other_certificate_texts(self, svid, certificates, message) -> None:
        """Says what was expected of the text."""
        with pytest.raises(SvidError, match=message):
            X509Svid.from_pem(certificates=certificates, private_key=svid.private_key_pem())

    def test_refuses_every_truncation(self, svid) -> None:
        """A half-written file is an error wherever it ends, but between two certificates."""
        text, key = svid.certificates_pem(), svid.private_key_pem()
        for length in range(len(text)):
            if not text[:length].rstrip().endswith(b"-----END CERTIFICATE-----"):
                with pytest.raises(SvidError):
                    X509Svid.from_pem(certificates=text[:length], private_key=key)

    def test_refuses_an_unknown_version(self, svid) -> None:
        """X.509 version 5 is reported by the parser in its own way."""
        der = svid.leaf.public_bytes(Encoding.DER)
        odd = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04", 1)
        text = _pem.encode("CERTIFICATE", odd)
        with pytest.raises(SvidError, match="expected X"):
            X509Svid.from_pem(certificates=text, private_key=svid.private_key_pem())

    def test_refuses_no_key_and_two_keys(self, svid) -> None:
        """Exactly one private key."""
        for text in (b"", svid.certificates_pem(), svid.private_key_pem() * 2):
            with pytest.raises(SvidError, match="exactly one PEM private key block"):
                X509Svid.from_pem(certificates=svid.certificates_pem(), private_key=text)

    @pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
    def test_refuses_an_encrypted_key(self, svid, form) -> None:
        """There is nobody to ask for a passphrase."""
        text = svid.private_key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"x"))
        with pytest.raises(SvidError, match="encrypted"):
            X509Svid.from_pem(certificates=svid.certificates_pem(), private_key=text)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: ec.generate_private_key(ec.SECP256K1()),
            lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505
            ed448.Ed448PrivateKey.generate,
        ],
        ids=["secp256k1", "RSA-1024", "Ed448"],
    )
    def test_refuses_other_keys(self, svid, make) -> None:
        """The message names the kind of key and nothing of the key."""
        with pytest.raises(SvidError, match=r"expected an (EC|RSA)"):
            X509Svid.from_pem(certificates=svid.certificates_pem(), private_key=key_pem(make()))

    @pytest.mark.parametrize("label", ["PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"])
    def test_never_quotes_a_key(self, svid, label: str) -> None:
        """A broken key gives an error without its content, also in the causes."""
        text = f"-----BEGIN {label}-----\nc2VjcmV0\n-----END {label}-----\n".encode()
        with pytest.raises(SvidError) as caught:
            X509Svid.from_pem(certificates=svid.certificates_pem(), private_key=text)
        assert "c2VjcmV0" not in repr((caught.value, caught.value.__cause__))
        assert "secret" not in repr((caught.value, caught.value.__cause__))


class TestConsistency:
    """An instance is consistent: the key belongs to the leaf, the chain is in order."""

    def test_refuses_the_key_of_another(self, ca, svid) -> None:
        """Key and certificate of two generations never meet."""
        with pytest.raises(SvidError, match="expected the private key of the leaf"):
            X509Svid(svid.chain, ca.issue(intermediates=2).private_key)

    @pytest.mark.parametrize(
        ("order", "message"),
        [
            ((0, 2, 1), "leaf-first order"),
            ((0, 2), "leaf-first order"),
            ((0, 0), "certificate 2 to be an intermediate CA, got a leaf"),
            ((1, 0, 2), "got a leaf"),
        ],
    )
    def test_refuses_a_chain_out_of_order(self, svid, order, message: str) -> None:
        """Each certificate signed the one before it."""
        chain = tuple(svid.chain[number] for number in order)
        with pytest.raises(SvidError, match=message):
            X509Svid(chain, svid.private_key)

    def test_refuses_two_leaves(self, ca, svid) -> None:
        """A file into which two SVIDs were written."""
        text = svid.certificates_pem() + ca.issue().certificates_pem()
        with pytest.raises(SvidError, match="got a leaf"):
            X509Svid.from_pem(certificates=text, private_key=svid.private_key_pem())

    def test_bounds_the_chain(self, ca) -> None:
        """One to `MAX_CHAIN` certificates."""
        longest = ca.issue(intermediates=MAX_CHAIN - 1)
        assert len(longest.chain) == MAX_CHAIN
        text = longest.certificates_pem() + pem(ca.authority)
        with pytest.raises(SvidError, match="at most 10"):
            X509Svid.from_pem(certificates=text, private_key=longest.private_key_pem())
        for chain in ((), (*longest.chain, ca.authority)):
            with pytest.raises(SvidError, match="expected 1 to 10 certificates"):
                X509Svid(chain, longest.private_key)

    def test_refuses_a_leaf_whose_key_cannot_be_read(self, svid) -> None:
        """An unknown curve is an error of the SVID."""
        der = svid.leaf.public_bytes(Encoding.DER)
        p256 = bytes.fromhex("06082a8648ce3d030107")
        unknown = bytes.fromhex("06082a8648ce3d03017f")
        leaf = x509.load_der_x509_certificate(der.replace(p256, unknown, 1))
        with pytest.raises(SvidError, match="unusable public key"):
            X509Svid((leaf,), svid.private_key)

    @pytest.mark.parametrize("fault", IN_THE_LEAF)
    def test_refuses_a_leaf_outside_the_profile(self, ca, fault: str) -> None:
        """What a peer would refuse is refused at home, where it can be mended."""
        issued = ca.issue_faulty(fault)
        with pytest.raises(SvidError, match=r"certificate is not an X\.509-SVID"):
            X509Svid(issued.certificates, issued.private_key)

    def test_knows_all_those_faults(self) -> None:
        """The list above is of faults that exist."""
        assert len(IN_THE_LEAF) == 22


class TestValidity:
    """Expiry is a question to an SVID, not a condition of it."""

    def test_is_that_of_the_whole_chain(self, ca) -> None:
        """The latest start and the first end count."""
        through = ca.intermediate(ttl=timedelta(minutes=5))
        svid = ca.issue(through=through)
        assert svid.not_after == through.certificate.not_valid_after_utc
        assert svid.is_valid_at(svid.not_before)
        assert svid.is_valid_at(svid.not_after)
        assert not svid.is_valid_at(svid.not_before - timedelta(seconds=1))
        assert not svid.is_valid_at(svid.not_after + timedelta(seconds=1))

    def test_may_be_over(self, ca) -> None:
        """An expired SVID is still a value: doctor and logs have to show it."""
        issued = ca.issue_faulty("expired")
        svid = X509Svid(issued.certificates, issued.private_key)
        assert not svid.is_valid_at(ca.now)


class TestSecrecy:
    """The private key goes nowhere unasked."""

    def test_repr_shows_identity_serial_and_end_only(self, svid) -> None:
        """What a log may show."""
        assert repr(svid) == (
            f"<X509Svid spiffe://example.org/ns/shop/sa/web serial={svid.leaf.serial_number:x}"
            f" not_after={svid.not_after:%Y-%m-%dT%H:%M:%SZ}>"
        )

    @pytest.mark.parametrize("through", [pickle.dumps, copy.copy, copy.deepcopy])
    def test_is_not_pickled_or_copied(self, svid, through) -> None:
        """A key does not slip into a queue or a cache."""
        with pytest.raises(TypeError, match="private key"):
            through(svid)


class TestValue:
    """Equal by chain, hashable; names as the signer wrote them."""

    def test_is_equal_by_its_chain(self, ca, svid) -> None:
        """The leaf fixes the key."""
        same = X509Svid(svid.chain, svid.private_key)
        assert same == svid
        assert hash(same) == hash(svid)
        assert svid != ca.issue(intermediates=2)
        assert svid != "an svid"

    def test_has_its_dns_names(self, ca, svid) -> None:
        """In order; none is an empty tuple."""
        names = ("b.shop.svc", "a.shop.svc")
        assert ca.issue(dns_names=names).dns_names == names
        assert svid.dns_names == ()
