# SPDX-License-Identifier: Apache-2.0
"""Which public keys a certificate may be about."""

import pytest
from cryptography.hazmat.primitives.asymmetric import (
    dsa,
    ec,
    ed448,
    ed25519,
    padding,
    rsa,
    x448,
    x25519,
)

from tests.webhook.issuance.samples import key
from webhook.config import KeyType
from webhook.exceptions import IssuanceError
from webhook.issuance.public_key import key_type_of, supported

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493


def rsa_key(bits, exponent=65537):
    """A public key of that size; what its factors are does not matter here."""
    return rsa.RSAPublicNumbers(exponent, (1 << (bits - 1)) + 12345).public_key()


def small_order_points():
    """The eight points of Ed25519 whose order divides 8, computed, as (x, y)."""
    d = -121665 * pow(121666, -1, FIELD) % FIELD
    root = pow(2, (FIELD - 1) // 4, FIELD)

    def plus(p, q):
        k = d * p[0] * q[0] * p[1] * q[1] % FIELD
        return (
            (p[0] * q[1] + p[1] * q[0]) * pow(1 + k, -1, FIELD) % FIELD,
            (p[1] * q[1] + p[0] * q[0]) * pow(1 - k, -1, FIELD) % FIELD,
        )

    def times(p, n):
        found = (0, 1)
        while n:
            found, p, n = plus(found, p) if n & 1 else found, plus(p, p), n >> 1
        return found

    def on_curve():
        for y in range(2, 40):
            square = (y * y - 1) * pow(d * y * y + 1, -1, FIELD) % FIELD
            candidate = pow(square, (FIELD + 3) // 8, FIELD)
            for x in (candidate, candidate * root % FIELD):
                if x * x % FIELD == square:
                    yield x, y

    return {times(point, ORDER) for point in on_curve()}


def encodings():
    """Every encoding of a point of small order, with those that are not canonical."""
    for x, y in small_order_points():
        for value in (y, y + FIELD):
            for sign in {x & 1, 1} if x == 0 else {x & 1}:
                if value < 1 << 255:
                    yield (value | sign << 255).to_bytes(32, "little")


class TestSupported:
    @pytest.mark.parametrize("kind", KeyType)
    def test_the_six_types(self, kind):
        """Each of Kubernetes' types is taken and named."""
        public = key(kind).public_key()
        assert supported(public) is public
        assert key_type_of(public) is kind

    @pytest.mark.parametrize(
        "public",
        [
            pytest.param(ec.generate_private_key(curve()).public_key(), id=curve.name)
            for curve in (ec.SECP224R1, ec.SECP256K1, ec.BrainpoolP256R1, ec.SECP192R1)
        ]
        + [
            pytest.param(rsa_key(bits), id=f"rsa-{bits}")
            for bits in (1024, 2048, 3071, 3073, 4095, 4097, 8192)
        ]
        + [
            pytest.param(rsa_key(3072, exponent), id=f"rsa-3072-e-{exponent}")
            for exponent in (3, 17, 65539)
        ]
        + [
            pytest.param(kind.generate().public_key(), id=kind.__name__)
            for kind in (ed448.Ed448PrivateKey, x25519.X25519PrivateKey, x448.X448PrivateKey)
        ]
        + [pytest.param(dsa.generate_private_key(2048).public_key(), id="dsa")],
    )
    def test_other_keys(self, public):
        """Any other algorithm, curve, size or exponent is refused for ever."""
        with pytest.raises(IssuanceError, match=r"expected a key of ECDSAP256, .* got ") as caught:
            supported(public)
        assert caught.value.reason == "UnsupportedKeyType"
        assert not caught.value.is_retryable

    def test_small_order_points_are_complete(self):
        """The test knows the eight points, in all 14 encodings of theirs."""
        assert len(small_order_points()) == 8
        assert len(set(encodings())) == 14

    @pytest.mark.parametrize("encoded", sorted(set(encodings())), ids=bytes.hex)
    def test_points_of_small_order(self, encoded):
        """An Ed25519 key that verifies signatures which nobody made is refused."""
        public = ed25519.Ed25519PublicKey.from_public_bytes(encoded)
        with pytest.raises(IssuanceError, match="small order"):
            supported(public)

    def test_why_small_order_is_refused(self):
        """OpenSSL verifies the same made-up signature of any message under such a key."""
        identity = (1).to_bytes(32, "little")
        public = ed25519.Ed25519PublicKey.from_public_bytes(identity)
        for message in (b"", b"anything"):
            public.verify(identity + bytes(32), message)

    def test_a_point_next_to_one_of_small_order(self):
        """Neighbours of those encodings are keys like any other."""
        for encoded in ((3).to_bytes(32, "little"), key(KeyType.ED25519).public_key()):
            public = encoded
            if isinstance(encoded, bytes):
                public = ed25519.Ed25519PublicKey.from_public_bytes(encoded)
            assert supported(public) is public

    def test_a_made_up_modulus_is_a_key_to_the_library(self):
        """The refused RSA keys are refused by us, not by the library that loads them."""
        assert rsa_key(3072).key_size == 3072
        assert supported(rsa_key(3072))
        assert padding.PKCS1v15().name
