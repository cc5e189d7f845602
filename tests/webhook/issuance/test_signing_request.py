# SPDX-License-Identifier: Apache-2.0
"""Requests that we make: for our own signer, and for others."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.webhook.issuance.samples import grant, key
from webhook.config import KeyType
from webhook.exceptions import IssuanceError
from webhook.issuance.csr import public_key_of
from webhook.issuance.leaf import BOTH_ROLES, KEY_USAGE
from webhook.issuance.profile import names_of
from webhook.issuance.signing_request import empty_request, named_request


def read(text):
    return x509.load_pem_x509_csr(text)


def der(text):
    return read(text).public_bytes(Encoding.DER)


class TestEmptyRequest:
    @pytest.mark.parametrize("kind", KeyType)
    def test_our_signer_takes_it(self, kind):
        """It is what our own signer wants, with any type of key."""
        assert public_key_of(der(empty_request(key(kind)))) == key(kind).public_key()


class TestNamedRequest:
    @pytest.mark.parametrize("kind", KeyType)
    def test_content(self, kind):
        """It says all that the certificate shall say, and proves the key."""
        found = read(named_request(grant(public_key=key(kind).public_key()), key(kind)))
        assert found.is_signature_valid
        assert found.public_key() == key(kind).public_key()
        assert found.subject.rfc4514_string() == "CN=web-0"
        assert {each.value: each.critical for each in found.extensions} == {
            names_of(grant()): False,
            KEY_USAGE: True,
            BOTH_ROLES: False,
        }

    def test_an_empty_subject(self):
        """Without a common name, the names are critical."""
        found = read(named_request(grant(common_name=None), key()))
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.critical
        assert list(found.subject) == []

    def test_our_signer_refuses_it(self):
        """Our own signer takes no names from a request."""
        with pytest.raises(IssuanceError, match="nothing but a key"):
            public_key_of(der(named_request(grant(), key())))
