# SPDX-License-Identifier: Apache-2.0
"""One request for a JWK Set: https to exactly one URL, bounded in time and size.

Rules:
    1. No redirect is followed, no proxy or credential is taken from the environment, nothing is
       decompressed.
    2. The TLS context is made here, for the web's or the user's own roots: it holds no certificate
       of ours and no trust bundle.
    3. The whole request ends at the deadline, however slowly bytes drip.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.users.key_set import MAX_TEXT_BYTES

if TYPE_CHECKING:
    import os

__all__ = ("FetchError", "JwksRequest", "JwksResponse", "check_url")

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", re.ASCII | re.IGNORECASE)
_NO_STORE = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?:$|[\s,=])", re.ASCII | re.IGNORECASE)
_HEADERS = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}


class FetchError(Exception):
    """A JWK Set could not be fetched; the text says why."""


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
        library = _http_library()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._send(library)
        except TimeoutError:
            raise FetchError(f"no answer within {self.timeout_seconds:g} s") from None
        except (library.HTTPError, library.InvalidURL, OSError) as err:
            raise FetchError(f"{type(err).__name__}: {err}"[:300]) from err

    async def _send(self, library: Any) -> JwksResponse:
        context = await asyncio.to_thread(_context, self.ca_bundle)
        client = library.AsyncClient(
            verify=context, trust_env=False, follow_redirects=False, timeout=self.timeout_seconds
        )
        async with client, client.stream("GET", self.url, headers=_HEADERS) as response:
            if response.status_code != 200:
                raise FetchError(f"expected status 200, got {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise FetchError("expected no content coding")
            text = b""
            async for chunk in response.aiter_raw():
                text += chunk
                if len(text) > MAX_TEXT_BYTES:
                    raise FetchError(f"expected at most {MAX_TEXT_BYTES} bytes")
            return JwksResponse(text, _max_age(response.headers.get("cache-control", "")))


def check_url(url: str) -> None:
    """Refuse a URL that is not plainly https.

    Raises:
        ConfigurationError: Another scheme, no host, or credentials or a fragment in it.
    """
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError as err:
        raise ConfigurationError(f"expected an https URL of keys: {err}") from None
    is_plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    if parts.scheme != "https" or not host or not is_plain:
        raise ConfigurationError(f"expected an https URL of keys, got {url!r}")
    if user is not None or "@" in parts.netloc or "#" in url:
        raise ConfigurationError("expected a URL of keys without credentials and fragment")


def _max_age(cache_control: str) -> float | None:
    if _NO_STORE.search(cache_control):
        return 0.0
    found = _MAX_AGE.search(cache_control)
    return float(found[1]) if found else None


def _context(ca_bundle: str | os.PathLike[str] | None) -> ssl.SSLContext:
    if ca_bundle is not None:
        return ssl.create_default_context(cafile=ca_bundle)
    try:
        certifi: Any = importlib.import_module("certifi")
    except ImportError:
        return ssl.create_default_context()
    return ssl.create_default_context(cafile=certifi.where())


def _http_library() -> Any:
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise FetchError("keys by URL need httpx: pip install 'kubetls-sdk[jwt]'")
