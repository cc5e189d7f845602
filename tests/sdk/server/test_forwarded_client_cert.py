# SPDX-License-Identifier: Apache-2.0
"""`X-Forwarded-Client-Cert`, in Envoy's form."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from kubetls_sdk.server._forwarded_certificate import MAX_LENGTH, MalformedFieldError
from kubetls_sdk.server._forwarded_client_cert import elements, read_forwarded_client_cert
from kubetls_sdk.testing import DevelopmentCA

CA = DevelopmentCA("example.org")
SVID = CA.issue("/ns/shop/sa/phone", intermediates=1)
VICTIM = CA.issue("/ns/shop/sa/victim")


def encoded(*certificates):
    return b"".join(quote(c.public_bytes(Encoding.PEM), safe="").encode() for c in certificates)


def digest(svid=SVID):
    return hashlib.sha256(svid.leaf.public_bytes(Encoding.DER)).hexdigest().encode()


CERT = b'Cert="' + encoded(SVID.leaf) + b'"'
CHAIN = b'Chain="' + encoded(*SVID.chain) + b'"'
STOLEN = b'Cert="' + encoded(VICTIM.leaf) + b'"'
NAMES = b'Subject="CN=a\\, b,O=x;y";URI=spiffe://example.org/ns/shop/sa/phone;DNS=a.example;DNS=b.c'
ENVOY = b"By=spiffe://example.org/ns/edge/sa/envoy;Hash=" + digest() + b";" + CERT + b";" + NAMES


class TestElements:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            pytest.param(b"By=x", [[(b"by", b"x")]], id="one-pair"),
            pytest.param(b"By=", [[(b"by", b"")]], id="empty-value"),
            pytest.param(b'By=""', [[(b"by", b"")]], id="empty-quotes"),
            pytest.param(b"URI=spiffe://a/b?c=d", [[(b"uri", b"spiffe://a/b?c=d")]], id="equals"),
            pytest.param(b"a=1;b=2", [[(b"a", b"1"), (b"b", b"2")]], id="pairs"),
            pytest.param(b"a=1,a=2", [[(b"a", b"1")], [(b"a", b"2")]], id="elements"),
            pytest.param(b" a = 1 , b = 2 ", [[(b"a", b"1")], [(b"b", b"2")]], id="space"),
            pytest.param(b'A=";,=";b=1', [[(b"a", b";,="), (b"b", b"1")]], id="quoted"),
            pytest.param(b'a="x\\"y"', [[(b"a", b'x"y')]], id="quote-in-quotes"),
            pytest.param(b'a="x\\\\";b=1', [[(b"a", b"x\\"), (b"b", b"1")]], id="backslash"),
            pytest.param(b"a=x\\,b=1", [[(b"a", b"x\\")], [(b"b", b"1")]], id="no-escape-unquoted"),
        ],
    )
    def test_grammar(self, value, expected):
        """Elements by comma, pairs by semicolon, neither of them in quotes."""
        assert elements(value) == expected

    @pytest.mark.parametrize(
        "value",
        [
            b"", b" ", b",", b";", b"=", b"a", b"a=1,", b"a=1;", b",a=1", b"a=1;;b=2", b"=1",
            b'a="', b'a="x', b'a="x\\"', b'a="x"y', b'a=x"y"', b'a=""b=1', b"a b=1", b"\xff=1",
            b'a="x" "y"', b";".join([b"a=1"] * 300),
        ],
        ids=range(21),
    )  # fmt: skip
    def test_malformed(self, value):
        """What is not by the grammar is an error as a whole."""
        with pytest.raises(MalformedFieldError):
            elements(value)

    @given(st.binary(max_size=300))
    def test_noise(self, value):
        """Nothing but its own error comes out, whatever goes in."""
        try:
            found = elements(value)
        except MalformedFieldError:
            return
        assert all(found)

    @given(st.text(alphabet='ab=,;"\\ ', max_size=60).map(str.encode))
    def test_noise_of_the_grammar(self, value):
        """Delimiters in any order are read or refused, and quotes never stay open."""
        try:
            found = elements(value)
        except MalformedFieldError:
            return
        assert sum(map(len, found)) <= value.count(b"=")

    @given(st.text(alphabet='ab=,;"\\ %', max_size=40).map(str.encode))
    def test_prefix_of_strangers(self, prefix):
        """What was written before a proxy's own element never changes how that is read."""
        try:
            found = elements(prefix + b"," + ENVOY)
        except MalformedFieldError:
            return
        assert found[-1] == elements(ENVOY)[0]


class TestRead:
    @pytest.mark.parametrize(
        ("value", "length"),
        [
            pytest.param(CERT, 1, id="certificate"),
            pytest.param(CHAIN, 2, id="chain"),
            pytest.param(CERT + b";" + CHAIN, 2, id="both"),
            pytest.param(ENVOY, 1, id="envoy"),
            pytest.param(b"hash=" + digest().upper() + b";" + CERT, 1, id="hash-in-upper-case"),
            pytest.param(CERT.replace(b'"', b""), 1, id="not-quoted"),
        ],
    )
    def test_certificates(self, value, length):
        """The certificates of Cert or Chain, leaf first."""
        assert read_forwarded_client_cert([value]) == SVID.chain[:length]

    @pytest.mark.parametrize(
        "values",
        [
            pytest.param([], id="nothing"),
            pytest.param([b""], id="empty"),
            pytest.param([CERT, CERT], id="two-fields"),
            pytest.param([STOLEN + b"," + ENVOY], id="appended-to-a-stranger's"),
            pytest.param([ENVOY + b"," + STOLEN], id="followed-by-a-stranger's"),
            pytest.param([ENVOY + b";" + STOLEN], id="certificate-smuggled-in-a-name"),
            pytest.param(
                [ENVOY + b",Hash=" + digest(VICTIM) + b";" + STOLEN], id="element-in-name"
            ),
            pytest.param(
                [b"Hash=" + digest() + b";URI=x;" + STOLEN], id="smuggled-where-none-is-configured"
            ),
            pytest.param([STOLEN + b';X=",' + ENVOY], id="open-quote"),
            pytest.param([STOLEN + b';X="\\,' + ENVOY], id="open-quote-and-backslash"),
            pytest.param([b"By=x;Hash=" + digest() + b";URI=" + b"spiffe://a/b"], id="names-alone"),
            pytest.param([CERT + b";" + CERT], id="twice"),
            pytest.param([STOLEN + b";" + CHAIN], id="chain-of-another"),
            pytest.param([CERT + b';Chain="' + encoded(SVID.leaf)[:90] + b'"'], id="half-a-chain"),
            pytest.param([b'Cert=""'], id="empty-certificate"),
            pytest.param([CERT.replace(b"%0A", b"%0")], id="half-an-escape"),
            pytest.param([CERT.replace(b"%2B", b"%zz", 1).replace(b"%0A", b"%zz", 1)], id="no-hex"),
            pytest.param([b'Cert="' + quote("-----BEGIN X-----").encode() + b'"'], id="no-pem"),
            pytest.param([CERT.replace(b"CERTIFICATE", b"PRIVATE%20KEY")], id="a-key"),
            pytest.param([b'Chain="' + encoded(*[SVID.leaf] * 11) + b'"'], id="eleven"),
            pytest.param([b"By=" + b"x" * MAX_LENGTH], id="too-long"),
        ],
    )
    def test_refused(self, values):
        """Anything but one element with one certificate is an error that quotes nothing."""
        with pytest.raises(MalformedFieldError) as caught:
            read_forwarded_client_cert(values)
        assert len(str(caught.value)) < 120

    @given(st.binary(max_size=200))
    def test_noise_in_a_certificate(self, text):
        """Nothing but its own error comes out of a certificate that is none."""
        with pytest.raises(MalformedFieldError):
            read_forwarded_client_cert([b'Cert="' + text + b'"'])
