# SPDX-License-Identifier: Apache-2.0
"""One request for a small document: https to a configured URL, bounded in time, size and hops.

Rules:
    1. No proxy or credential is taken from the environment, nothing is decompressed, and a redirect
       is followed only as often as was asked for, to another plain https URL, never in a circle.
    2. The TLS context is the caller's, made for this request and the same at each hop.
    3. The whole request ends at the deadline, however slowly bytes drip.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from kubetls_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__all__ = ("Document", "DocumentRequest", "FetchError", "check_url", "web_context")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SHOWN = 300
_SHARE = 0.9


class FetchError(Exception):
    """A document could not be fetched; the text says why."""


class Document(NamedTuple):
    """What a server answered.

    Attributes:
        text: The body.
        content_type: Of the body as the server names it; empty when it does not.
        cache_control: Likewise.
    """

    text: bytes
    content_type: str
    cache_control: str


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """A request that can be made again and again.

    Attributes:
        url: https.
        make_context: Makes the TLS context of one request, in a thread, since it may read files.
        timeout_seconds: For all of it.
        max_bytes: Of the document.
        accept: Media types, as the field of that name.
        extra: The extra of the distribution that brings an HTTP library.
        max_redirects: How many are followed.
    """

    url: str
    make_context: Callable[[], ssl.SSLContext]
    timeout_seconds: float
    max_bytes: int
    accept: str
    extra: str
    max_redirects: int = 0

    async def send(self) -> Document:
        """Make the request.

        Raises:
            FetchError: No usable answer.
        """
        library = await asyncio.to_thread(_http_library, self.extra)  # The first time it is slow.
        try:
            async with asyncio.timeout(self.timeout_seconds):
                context = await asyncio.to_thread(self.make_context)
                return await self._follow(library, context)
        except (TimeoutError, library.TimeoutException):
            raise FetchError(f"no answer within {self.timeout_seconds:g} s") from None
        except (library.HTTPError, library.InvalidURL, OSError) as err:
            raise FetchError(f"{type(err).__name__}: {_words(err)}"[:_SHOWN]) from err

    async def _follow(self, library: Any, context: ssl.SSLContext) -> Document:
        url, seen = self.url, {self.url}
        # The library closes what its own timeout ends, and forgets what ours does: its is shorter.
        patience = self.timeout_seconds * _SHARE
        client = library.AsyncClient(
            verify=context, trust_env=False, follow_redirects=False, timeout=patience
        )
        async with client:
            for _ in range(self.max_redirects + 1):
                found = await self._ask(client, url)
                if isinstance(found, Document):
                    return found
                url = found
                if url in seen:
                    raise FetchError(f"expected no circle of redirects, got {url!r} again"[:_SHOWN])
                seen.add(url)
        raise FetchError(f"expected at most {self.max_redirects} redirects")

    async def _ask(self, client: Any, url: str) -> Document | str:
        """The document, or the URL where it is."""
        headers = {"accept": self.accept, "accept-encoding": "identity"}
        async with client.stream("GET", url, headers=headers) as response:
            if response.status_code in _REDIRECTS and self.max_redirects:
                return _target(url, response.headers.get("location"))
            if response.status_code != 200:
                raise FetchError(f"expected status 200, got {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise FetchError("expected no content coding")
            text = bytearray()
            async for chunk in response.aiter_raw():
                text += chunk
                if len(text) > self.max_bytes:
                    raise FetchError(f"expected at most {self.max_bytes} bytes")
            return Document(
                bytes(text),
                response.headers.get("content-type", ""),
                response.headers.get("cache-control", ""),
            )


def _words(err: Exception) -> str:
    """What OpenSSL calls a wrong version is nearly always a server without TLS."""
    is_plain = "WRONG_VERSION_NUMBER" in str(err)
    return "expected TLS, got something else, such as plain HTTP" if is_plain else str(err)


def check_url(url: str, *, what: str) -> None:
    """Refuse a URL that is not plainly https.

    Args:
        url: It.
        what: What is behind it, for the error.

    Raises:
        ConfigurationError: Another scheme, no host, or credentials or a fragment in it.
    """
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError as err:
        raise ConfigurationError(f"expected an https URL of {what}: {err}") from None
    is_plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    if parts.scheme != "https" or not host or not is_plain:
        raise ConfigurationError(f"expected an https URL of {what}, got {url!r}")
    if user is not None or "@" in parts.netloc or "#" in url:
        raise ConfigurationError(f"expected a URL of {what} without credentials and fragment")


def web_context(
    ca_file: str | os.PathLike[str] | None, *, text: str | None = None
) -> ssl.SSLContext:
    """Make a context for an ordinary https server; it has no certificate of ours.

    Args:
        ca_file: PEM file of the roots to trust; None for the web's.
        text: The same as PEM text.

    Raises:
        OSError: They cannot be used.
    """
    if ca_file is not None or text is not None:
        return ssl.create_default_context(cafile=ca_file, cadata=text)
    try:
        certifi: Any = importlib.import_module("certifi")
    except ImportError:
        return ssl.create_default_context()
    return ssl.create_default_context(cafile=certifi.where())


def _target(url: str, location: str | None) -> str:
    if not location:
        raise FetchError("expected a redirect that says where to")
    target = urljoin(url, location)
    try:
        check_url(target, what="a redirect")
    except ConfigurationError as err:
        raise FetchError(str(err)[:_SHOWN]) from None
    return target


def _http_library(extra: str) -> Any:
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise FetchError(f"documents by URL need httpx: pip install 'kubetls-sdk[{extra}]'")
