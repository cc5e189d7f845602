# SPDX-License-Identifier: Apache-2.0
"""One request for a JWK Set: https to exactly one URL, bounded in time and size.

Rules:
    1. No redirect is followed.
    2. The TLS context is made here, for the web's or the user's own roots: it holds no certificate
       of ours and no trust bundle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kubetls_sdk import _document_request
from kubetls_sdk._document_request import DocumentRequest, FetchError, web_context
from kubetls_sdk.users.key_set import MAX_TEXT_BYTES

if TYPE_CHECKING:
    import os

__all__ = ("FetchError", "JwksRequest", "JwksResponse", "check_url")

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", re.ASCII | re.IGNORECASE)
_NO_STORE = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?:$|[\s,=])", re.ASCII | re.IGNORECASE)
_ACCEPT = "application/jwk-set+json, application/json"


class JwksResponse(NamedTuple):
    """What a server answered.

    Attributes:
        text: The document.
        max_age: Seconds that it may be kept by its `Cache-Control`; None when that is not said.
    """

    text: bytes
    max_age: float | None


@dataclass(frozen=True, slots=True)
class JwksRequest:
    """A request that can be made again and again.

    Attributes:
        url: https.
        ca_bundle: PEM file of the roots to trust; None for the web's.
        timeout_seconds: For all of it.
    """

    url: str
    ca_bundle: str | os.PathLike[str] | None
    timeout_seconds: float

    async def send(self) -> JwksResponse:
        """Make the request.

        Raises:
            FetchError: No usable answer.
        """
        request = DocumentRequest(
            self.url,
            partial(web_context, self.ca_bundle),
            self.timeout_seconds,
            max_bytes=MAX_TEXT_BYTES,
            accept=_ACCEPT,
            extra="jwt",
        )
        document = await request.send()
        return JwksResponse(document.text, _max_age(document.cache_control))


def check_url(url: str) -> None:
    """Refuse a URL that is not plainly https.

    Raises:
        ConfigurationError: Another scheme, no host, or credentials or a fragment in it.
    """
    _document_request.check_url(url, what="keys")


def _max_age(cache_control: str) -> float | None:
    if _NO_STORE.search(cache_control):
        return 0.0
    found = _MAX_AGE.search(cache_control)
    return float(found[1]) if found else None
