# SPDX-License-Identifier: Apache-2.0
"""The key of a request, with the proof of its possession."""

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import PublicFormat as Public
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from tests.webhook.issuance.samples import UID, key, stub
from webhook.config import KeyType
from webhook.exceptions import IssuanceError
from webhook.issuance.csr import MAX_REQUEST_BYTES, public_key_of, public_key_of_pkix

CN = x509.NameAttribute(NameOID.COMMON_NAME, "web-0")
NAMES = x509.SubjectAlternativeName([x509.DNSName("bank.example")])
PASSWORD = (AttributeOID.CHALLENGE_PASSWORD, b"secret")


def refusal(call, *arguments, **options):
    """The reason of the refusal, which is final."""
    with pytest.raises(IssuanceError) as caught:
        call(*arguments, **options)
    assert not caught.value.is_retryable
    return caught.value.reason


def openssl_stub(directory, private_key, *options):
    """A request with nothing but the key, made by OpenSSL."""
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "key.pem").write_bytes(pem)
    command = ["openssl", "req", "-new", "-subj", "/", "-outform", "DER", *options]
    done = subprocess.run(
        [*command, "-key", directory / "key.pem", "-config", "/dev/null"],
        check=True,
        capture_output=True,
    )
    return done.stdout


def signature_start(der):
    signature = x509.load_der_x509_csr(der).signature
    return der.index(signature)


class TestPublicKeyOf:
    @pytest.mark.parametrize("kind", KeyType)
    def test_empty_requests(self, kind):
        """A request with nothing but a key of each type gives the key."""
        assert public_key_of(stub(key(kind))) == key(kind).public_key()

    @pytest.mark.parametrize("kind", [KeyType.ECDSA_P256, KeyType.ED25519])
    def test_of_another_maker(self, kind, tmp_path):
        """What OpenSSL makes is read as well."""
        assert public_key_of(openssl_stub(tmp_path, key(kind))) == key(kind).public_key()

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param({"subject": [CN]}, id="subject"),
            pytest.param({"extensions": [NAMES]}, id="names"),
            pytest.param(
                {"extensions": [x509.BasicConstraints(ca=True, path_length=None)]}, id="ca"
            ),
            pytest.param({"attributes": [PASSWORD]}, id="attribute"),
            pytest.param(
                {"subject": [CN], "extensions": [NAMES], "attributes": [PASSWORD]}, id="everything"
            ),
        ],
    )
    def test_anything_else_is_refused(self, content):
        """A request that says more than a key is refused, not read in part."""
        assert refusal(public_key_of, stub(**content)) == "NonEmptyRequest"

    def test_a_refusal_says_what_there_was(self):
        """The message names the part, not its content."""
        with pytest.raises(IssuanceError, match=r"got one with subject$"):
            public_key_of(stub(subject=[CN]))

    @pytest.mark.parametrize(
        "private",
        [
            pytest.param(ec.generate_private_key(ec.SECP224R1()), id="p224"),
            pytest.param(ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
            pytest.param(rsa.generate_private_key(65537, 2048), id="rsa2048"),
            pytest.param(rsa.generate_private_key(3, 3072), id="rsa3072-e3"),
        ],
    )
    def test_keys_of_other_types(self, private):
        """A key that is none of Kubernetes' types has the documented reason."""
        assert refusal(public_key_of, stub(private)) == "UnsupportedKeyType"

    def test_an_unknown_algorithm(self):
        """A key of an algorithm that nobody knows has the documented reason, too."""
        assert refusal(public_key_of, unknown_kind(stub)) == "UnsupportedKeyType"

    @pytest.mark.parametrize("digest", ["sha1", "sha224", "sha3-256"])
    def test_weak_digests(self, digest, tmp_path):
        """A proof with another digest than SHA-256, 384 or 512 is none."""
        der = openssl_stub(tmp_path, key(), f"-{digest}")
        assert refusal(public_key_of, der) == "InvalidSignature"

    def test_a_signature_of_another_key(self):
        """A request with somebody else's key, signed with our own, is refused."""
        ours, theirs = stub(key()), stub(key(number=1))
        mine, other = key().public_key(), key(number=1).public_key()
        spki = [
            each.public_bytes(Encoding.DER, Public.SubjectPublicKeyInfo) for each in (mine, other)
        ]
        forged = ours.replace(*spki)
        assert forged != ours
        assert forged != theirs
        assert refusal(public_key_of, forged) == "InvalidSignature"

    def test_every_bit_counts(self):
        """Whichever bit is flipped, a request is refused, or all that was signed is unchanged."""
        der, accepted = stub(), []
        for position in range(len(der) * 8):
            changed = bytearray(der)
            changed[position // 8] ^= 1 << position % 8
            try:
                public_key_of(bytes(changed))
            except IssuanceError:
                continue
            accepted.append(position // 8)
        # How many bits the last byte of a BIT STRING leaves unused: not signed, and not read.
        assert set(accepted) <= {signature_start(der) - 1}

    @pytest.mark.parametrize(
        "der",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\x30\x00", id="empty-sequence"),
            pytest.param(stub()[:-1], id="cut-off"),
            pytest.param(stub() + b"\x00", id="more-behind"),
            pytest.param(stub() * 2, id="twice"),
            pytest.param(b"-----BEGIN CERTIFICATE REQUEST-----\n", id="pem"),
            pytest.param(bytes(MAX_REQUEST_BYTES + 1), id="too-large"),
            pytest.param(b"\x30\x80" * 4000, id="nested"),
        ],
    )
    def test_malformed(self, der):
        """What is no request is refused."""
        assert refusal(public_key_of, der) == "InvalidRequest"

    @given(st.binary(max_size=300))
    def test_any_bytes(self, der):
        """Whatever comes, the answer is a refusal and never another error."""
        with pytest.raises(IssuanceError):
            public_key_of(der)

    @given(st.integers(0, len(stub()) - 1), st.binary(max_size=4), st.integers(0, 4))
    def test_any_change(self, position, put, cut):
        """A request that was changed anywhere is refused, or it is the same one."""
        der = stub()
        changed = der[:position] + put + der[position + cut :]
        try:
            found = public_key_of(changed)
        except IssuanceError:
            return
        assert found == key().public_key()
        signed = signature_start(der) - 1
        assert changed[:signed] == der[:signed]


def proof_of(private, message):
    match private:
        case rsa.RSAPrivateKey():
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
            return private.sign(message, pss, hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            return private.sign(message, ec.ECDSA(hashes.SHA256()))
    return private.sign(message)


def spki(private):
    return private.public_key().public_bytes(Encoding.DER, Public.SubjectPublicKeyInfo)


def unknown_kind(make):
    """What `make` makes of an Ed25519 key, of an algorithm that nobody knows (1.3.101.99)."""
    return make(key(KeyType.ED25519)).replace(
        bytes.fromhex("06032b6570"), bytes.fromhex("06032b6563")
    )


class TestPublicKeyOfPkix:
    @pytest.mark.parametrize("kind", KeyType)
    def test_proven(self, kind):
        """The signature over the pod's UID proves each type of key."""
        private = key(kind)
        found = public_key_of_pkix(
            spki(private), proof=proof_of(private, UID.encode()), pod_uid=UID
        )
        assert found == private.public_key()

    @pytest.mark.parametrize("kind", KeyType)
    def test_proof_of_another_pod(self, kind):
        """A proof that was made for another pod is none."""
        proof = proof_of(key(kind), b"other")
        reason = refusal(public_key_of_pkix, spki(key(kind)), proof=proof, pod_uid=UID)
        assert reason == "InvalidSignature"

    @pytest.mark.parametrize("kind", KeyType)
    def test_proof_of_another_key(self, kind):
        """A proof of one key is none of another."""
        other = key(KeyType.ECDSA_P256, 1) if kind is not KeyType.ECDSA_P256 else key(number=2)
        proof = proof_of(other, UID.encode())
        reason = refusal(public_key_of_pkix, spki(key(kind)), proof=proof, pod_uid=UID)
        assert reason == "InvalidSignature"

    def test_pkcs1_proof(self):
        """RSA proves itself with PSS only."""
        private = key(KeyType.RSA_3072)
        proof = private.sign(UID.encode(), padding.PKCS1v15(), hashes.SHA256())
        reason = refusal(public_key_of_pkix, spki(private), proof=proof, pod_uid=UID)
        assert reason == "InvalidSignature"

    @pytest.mark.parametrize(
        ("der", "reason"),
        [
            pytest.param(b"", "InvalidRequest", id="empty"),
            pytest.param(bytes(MAX_REQUEST_BYTES + 1), "InvalidRequest", id="too-large"),
            pytest.param(spki(key())[:-1], "InvalidRequest", id="cut-off"),
            pytest.param(
                spki(ec.generate_private_key(ec.SECP224R1())), "UnsupportedKeyType", id="p224"
            ),
            pytest.param(unknown_kind(spki), "UnsupportedKeyType", id="unknown-algorithm"),
        ],
    )
    def test_unusable_keys(self, der, reason):
        """What is no key, or none of the six types, is refused before the proof is looked at."""
        assert refusal(public_key_of_pkix, der, proof=b"", pod_uid=UID) == reason
