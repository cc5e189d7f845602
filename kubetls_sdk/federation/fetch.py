# SPDX-License-Identifier: Apache-2.0
"""One fetch of a partner's bundle from its endpoint.

Rules:
    1. Each fetch has a TLS context of its own, which holds no certificate of ours.
    2. Redirects are followed a few times, under the same authentication, and forgotten.
    3. What is not a bundle document of that trust domain is an error, whatever its status.
    4. What takes long for a large document is done in a thread: others share the event loop.

Spec: SPIFFE Federation §5.2.1.4, §5.2.2.4.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from kubetls_sdk._document_request import DocumentRequest, FetchError, web_context
from kubetls_sdk.exceptions import BundleError
from kubetls_sdk.federation._endpoint_context import EndpointContext
from kubetls_sdk.federation.bundle_document import MAX_DOCUMENT_BYTES, parse_document

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation.bundle_document import BundleDocument
    from kubetls_sdk.federation.partner import Endpoint
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("MAX_REDIRECTS", "FetchError", "fetch_bundle")

MAX_REDIRECTS = 3
_JSON = frozenset({"", "application/json", "application/jwk-set+json"})


async def fetch_bundle(
    trust_domain: TrustDomain,
    endpoint: Endpoint,
    *,
    known: TrustBundle | None = None,
    timeout_seconds: float = 10.0,
) -> BundleDocument:
    """Fetch the bundle of a trust domain.

    Args:
        trust_domain: Whose bundle it is.
        endpoint: Where it is served.
        known: The bundle of the server's trust domain, for `https_spiffe`.
        timeout_seconds: For all of it.

    Raises:
        FetchError: No usable answer; the text says why.
    """
    request = DocumentRequest(
        endpoint.url,
        _context_of(endpoint, known),
        timeout_seconds,
        max_bytes=MAX_DOCUMENT_BYTES,
        accept="application/json",
        extra="httpx2",
        max_redirects=MAX_REDIRECTS,
    )
    try:
        document = await request.send()
        _check_type(document.content_type)
        return await asyncio.to_thread(parse_document, trust_domain, document.text)
    except BundleError as err:
        raise FetchError(str(err)) from err


def _context_of(endpoint: Endpoint, known: TrustBundle | None) -> Callable[[], ssl.SSLContext]:
    if endpoint.spiffe_id is None:
        return partial(web_context, endpoint.ca_file, text=endpoint.roots)
    if known is None:
        domain = str(endpoint.spiffe_id.trust_domain)
        raise FetchError(f"no trust bundle of {domain!r} to verify the endpoint by")
    return partial(EndpointContext.build, endpoint.spiffe_id, known)


def _check_type(value: str) -> None:
    media, _, parameters = value.partition(";")
    if media.strip().lower() not in _JSON:
        raise FetchError(f"expected a JSON document, got content type {value[:100]!r}")
    charset = parameters.strip().lower()
    if charset.startswith("charset=") and charset[8:].strip('"') not in ("utf-8", "utf8"):
        raise FetchError(f"expected UTF-8, got content type {value[:100]!r}")
