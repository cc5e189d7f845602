# SPDX-License-Identifier: Apache-2.0
"""`X-Forwarded-Client-Cert`: a certificate that a proxy forwards, in Envoy's form.

    By=spiffe://…;Hash=0123…;Cert="-----BEGIN%20CERTIFICATE…";Subject="CN=a";URI=spiffe://…

Rules:
    1. One field with one element. Of several, all but the last are what others have written; and
       the last may be too: Envoy writes the URI and DNS names of a certificate as they are, commas
       included.
    2. Only `Cert` and `Chain` can be verified, so one of them has to be there. `Hash`, when there,
       has to fit: what a name in the certificate has smuggled in does not.
    3. The whole value is read, strictly: a quote that is left open hides what follows it.

Spec: Envoy, HTTP header manipulation, x-forwarded-client-cert.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from kubetls_sdk import _pem
from kubetls_sdk.server._forwarded_certificate import (
    MalformedFieldError,
    check_length,
    load_chain,
)

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ("elements", "read_forwarded_client_cert")

_PAIR = re.compile(
    rb"[ \t]*([A-Za-z][A-Za-z0-9-]{0,31})[ \t]*="
    rb'(?:[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*|([^",;]*))(?=[,;]|\Z)',
    re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_ENCODED = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*", re.DOTALL)
_ONCE = (b"hash", b"cert", b"chain")
_MAX_PAIRS = 256


def read_forwarded_client_cert(values: list[bytes]) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a request.

    Args:
        values: Of the header field.

    Returns:
        The client's certificate and what it sent with it; not verified in any way.

    Raises:
        MalformedFieldError: Anything but one element with a certificate.
    """
    check_length(values)
    if len(values) != 1:
        raise MalformedFieldError(f"expected one field, got {len(values)}")
    found = elements(values[0])
    if len(found) != 1:
        raise MalformedFieldError(
            f"expected one element, got {len(found)}: the proxy has to replace what clients send"
        )
    return _certificates(found[0])


def elements(value: bytes) -> list[list[tuple[bytes, bytes]]]:
    """Split a value into elements of key, in lower case, and value, without quotes.

    Raises:
        MalformedFieldError: It is not by the grammar.
    """
    found: list[list[tuple[bytes, bytes]]] = [[]]
    position, count = 0, 0
    while True:
        pair = _PAIR.match(value, position)
        if pair is None or count == _MAX_PAIRS:
            raise MalformedFieldError(f"expected key=value at byte {position}")
        count += 1
        text = pair[3].strip(b" \t") if pair[2] is None else _ESCAPED.sub(rb"\1", pair[2])
        found[-1].append((pair[1].lower(), text))
        if pair.end() == len(value):
            return found
        if value[pair.end()] == ord(","):
            found.append([])
        position = pair.end() + 1


def _certificates(element: list[tuple[bytes, bytes]]) -> tuple[x509.Certificate, ...]:
    names = [name for name, _ in element]
    if any(names.count(name) > 1 for name in _ONCE):
        raise MalformedFieldError("expected Hash, Cert and Chain once each")
    known = dict(element)
    if b"cert" not in known and b"chain" not in known:
        raise MalformedFieldError("expected Cert or Chain: names alone cannot be verified")
    chain = [der for name in (b"cert", b"chain") if name in known for der in _ders(known[name])]
    if b"cert" in known and b"chain" in known:
        chain = _without_second_leaf(chain)
    digest = known.get(b"hash")
    if digest is not None and digest.lower() != hashlib.sha256(chain[0]).hexdigest().encode():
        raise MalformedFieldError("expected the Hash of the certificate")
    return load_chain(chain)


def _without_second_leaf(chain: list[bytes]) -> list[bytes]:
    """Chain has the leaf again that is in Cert."""
    if len(chain) < 2 or chain[0] != chain[1]:
        raise MalformedFieldError("expected the Chain to begin with the Cert")
    return chain[1:]


def _ders(text: bytes) -> list[bytes]:
    if not _ENCODED.fullmatch(text):
        raise MalformedFieldError("expected URL-encoded PEM")
    try:
        blocks = _pem.blocks(unquote_to_bytes(text))
    except _pem.PemSyntaxError as err:
        raise MalformedFieldError(str(err)) from None
    if not blocks or any(block.label != "CERTIFICATE" for block in blocks):
        raise MalformedFieldError("expected PEM certificates and nothing else")
    return [block.der for block in blocks]
