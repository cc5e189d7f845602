# SPDX-License-Identifier: Apache-2.0
"""What a proxy at the edge sends: the header fields of a client's certificate, in both forms."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding

if TYPE_CHECKING:
    from cryptography import x509

Fields = list[tuple[bytes, bytes]]


def client_cert(chain: Any) -> Fields:
    """Fields by RFC 9440; the chain field only when there is more than the leaf."""
    first, *rest = [_sequence(certificate) for certificate in chain]
    fields = [(b"client-cert", first)]
    return fields + ([(b"client-cert-chain", b", ".join(rest))] if rest else [])


def forwarded_client_cert(chain: Any) -> Fields:
    """The field of Envoy."""
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    digest = hashlib.sha256(chain[0].public_bytes(Encoding.DER)).hexdigest()
    value = f'By=spiffe://example.org/x;Hash={digest};Chain="{quote(pem, safe="")}"'
    return [(b"x-forwarded-client-cert", value.encode())]


def lines(fields: Fields) -> bytes:
    """The fields as they are on the wire."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in fields)


def _sequence(certificate: x509.Certificate) -> bytes:
    return b":" + base64.b64encode(certificate.public_bytes(Encoding.DER)) + b":"
