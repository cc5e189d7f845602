# SPDX-License-Identifier: Apache-2.0
"""The PKCS#10 request for a grant: what an external signer is asked to certify.

Our own signer wants a request with nothing but a key; others take the names from it.

Spec: RFC 2986; X509-SVID §2, §4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from webhook.issuance.authority import signature_digest
from webhook.issuance.leaf import BOTH_ROLES, KEY_USAGE
from webhook.issuance.profile import names_of, subject_of

if TYPE_CHECKING:
    from kubetls_sdk.svid import PrivateKey
    from webhook.issuance.grant import Grant

__all__ = ("empty_request", "named_request")


def empty_request(private_key: PrivateKey) -> bytes:
    """The PEM of a request with nothing but the key, for our own signer."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return _signed(builder, private_key)


def named_request(grant: Grant, private_key: PrivateKey) -> bytes:
    """The PEM of a request with all that the certificate shall say, for an external signer.

    Args:
        grant: Of this key's public half.
        private_key: Stays here: it signs the request.
    """
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject_of(grant))
        .add_extension(names_of(grant), critical=grant.common_name is None)
        .add_extension(KEY_USAGE, critical=True)
        .add_extension(BOTH_ROLES, critical=False)
    )
    return _signed(builder, private_key)


def _signed(builder: x509.CertificateSigningRequestBuilder, key: PrivateKey) -> bytes:
    request = builder.sign(key, signature_digest(key))  # type: ignore[arg-type]
    return request.public_bytes(Encoding.PEM)
