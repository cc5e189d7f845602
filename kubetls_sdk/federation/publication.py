# SPDX-License-Identifier: Apache-2.0
"""What a bundle endpoint of ours answers: our own trust bundle as a document, and nothing else.

Rules:
    1. GET and HEAD only, nobody is authenticated, and nothing but public keys is in an answer.
    2. Every answer is of the source's snapshot now, and has to be revalidated: a root that was
       removed must not live on in a cache.
    3. The sequence number never goes back while this process lives, and grows with each change.
    4. No bundle, or an empty one, is answered with 503: partners keep what they have for their
       bounded time. A volume that one of us cannot read must not tell the world that our whole
       domain is revoked. Whoever means that says `allow_empty`.

Spec: SPIFFE Federation §5.2.1.3, §5.2.2.3; SPIFFE Trust Domain and Bundle §4.1; RFC 9110 §13.1.2.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kubetls_sdk.exceptions import ConfigurationError, CredentialError
from kubetls_sdk.federation.bundle_document import to_jwks

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.bundle import TrustBundle

__all__ = ("Answer", "Publication", "PublishedSource")

_HEADERS = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}
_LONGEST_HINT = 30 * 86400


class _Published(Protocol):
    @property
    def own_bundle(self) -> TrustBundle | None:
        """Of the source's trust domain; None: it is not known."""


class PublishedSource(Protocol):
    """Whoever knows the bundle to publish: any source, or less than one."""

    @property
    def snapshot(self) -> _Published:
        """What is known now; its `own_bundle` is published.

        Raises:
            CredentialError: Nothing is.
        """


class Answer(NamedTuple):
    """An answer of HTTP.

    Attributes:
        status: Of HTTP.
        headers: Lower-case names, without the length.
        body: To send, if the method is not HEAD.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""


class _Document(NamedTuple):
    bundle: TrustBundle
    sequence: int
    text: bytes
    tag: str


class Publication:
    """The answers of an endpoint for one source.

    Args:
        source: Whose own trust domain's bundle is published; partners' never are.
        refresh_hint: How often partners should ask, in seconds; new roots have to be published
            three to five times as long before they sign.
        sequence: Gives the number of a bundle that has none of its own, for those who keep one
            themselves; by default the time at which this process first saw its content.
        allow_empty: Publish an empty bundle as such, which revokes everything.

    Raises:
        ConfigurationError: The hint is out of range.
    """

    def __init__(
        self,
        source: PublishedSource,
        *,
        refresh_hint: int = 300,
        sequence: Callable[[TrustBundle], int] | None = None,
        allow_empty: bool = False,
    ) -> None:
        if not 1 <= refresh_hint <= _LONGEST_HINT:
            raise ConfigurationError(f"expected a refresh hint from 1 to {_LONGEST_HINT} seconds")
        self._source = source
        self._refresh_hint = refresh_hint
        self._sequence = sequence
        self._allow_empty = allow_empty
        self._last: _Document | None = None
        self._lock = threading.Lock()

    def answer(self, method: str, if_none_match: str | None = None) -> Answer:
        """Answer a request.

        Args:
            method: Of HTTP.
            if_none_match: The field of that name.
        """
        if method not in ("GET", "HEAD"):
            return Answer(405, {**_HEADERS, "allow": "GET, HEAD"})
        document = self._document()
        if document is None:
            return Answer(503, {**_HEADERS, "retry-after": str(self._refresh_hint)})
        headers = {**_HEADERS, "etag": document.tag}
        if if_none_match is not None and _names(if_none_match, document.tag):
            return Answer(304, headers)
        return Answer(200, {**headers, "content-type": "application/json"}, document.text)

    def _document(self) -> _Document | None:
        try:
            bundle = self._source.snapshot.own_bundle
        except CredentialError:
            return None
        if bundle is None or (not len(bundle) and not self._allow_empty):
            return None
        with self._lock:
            last = self._last
            if last is None or last.bundle != bundle:
                last = self._last = self._write(bundle)
            return last

    def _write(self, bundle: TrustBundle) -> _Document:
        number = self._number(bundle)
        text = to_jwks(bundle, sequence=number, refresh_hint=self._refresh_hint)
        return _Document(bundle, number, text, f'"{hashlib.sha256(text).hexdigest()[:32]}"')

    def _number(self, bundle: TrustBundle) -> int:
        if bundle.sequence is not None:
            number = bundle.sequence
        else:
            number = int(time.time()) if self._sequence is None else self._sequence(bundle)
        return number if self._last is None else max(number, self._last.sequence + 1)


def _names(if_none_match: str, tag: str) -> bool:
    given = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return tag in given or given == ["*"]
