# SPDX-License-Identifier: Apache-2.0
"""Where verification keys come from: the seam, inline keys, and the keys of trust bundles.

Rules:
    1. `usable` is a plain read for each request; nothing here blocks.
    2. A changed key set is another object: whatever was verified with the old one is verified
       again.
    3. Keys that cannot be had verify nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kubetls_sdk.exceptions import CredentialError
from kubetls_sdk.users.key_set import NO_KEYS, KeySet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.source import Source
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("BundleKeys", "InlineKeys", "Keys", "LiveKeys")


class LiveKeys(Protocol):
    """The keys of one issuer in this process."""

    def usable(self) -> KeySet | None:
        """The keys to verify with now; None when they have to be fetched first."""
        ...

    def flight(self, kid: str | None) -> Future[None] | None:
        """What to wait for before verifying with a key; None when waiting would bring nothing."""
        ...

    def last(self) -> KeySet:
        """The keys to verify with when there is nothing to wait for."""
        ...

    def close(self) -> None:
        """End what `open` started."""
        ...


class Keys(Protocol):
    """A setting that says where keys are."""

    def open(self) -> LiveKeys:
        """Start to follow them.

        Raises:
            ConfigurationError: They cannot be used.
        """
        ...


class _ConstantKeys:
    """Keys that are always at hand."""

    def usable(self) -> KeySet | None:
        """The keys."""
        return self.last()

    def flight(self, kid: str | None) -> Future[None] | None:
        """Nothing to wait for."""
        del kid
        return None

    def last(self) -> KeySet:
        """The keys; none by default."""
        return NO_KEYS

    def close(self) -> None:
        """Nothing runs."""


@dataclass(frozen=True)
class InlineKeys(_ConstantKeys):
    """Keys written into the configuration.

    Attributes:
        keys: The keys.
    """

    keys: KeySet

    @classmethod
    def parse(cls, text: str | bytes) -> InlineKeys:
        """Read a JWK Set document.

        Raises:
            ConfigurationError: Not a JWK Set.
        """
        return cls(KeySet.parse(text.encode() if isinstance(text, str) else text))

    def open(self) -> InlineKeys:
        """Nothing to start."""
        return self

    def last(self) -> KeySet:
        """The keys."""
        return self.keys


class BundleKeys(_ConstantKeys):
    """The JWT-SVID keys of one trust domain, out of the trust bundles in force.

    Args:
        source: Whom we trust.
        trust_domain: Whose keys.
    """

    def __init__(self, source: Source, trust_domain: TrustDomain) -> None:
        self._source = source
        self._trust_domain = trust_domain
        self._seen: tuple[Mapping[str, object] | None, KeySet] = (None, NO_KEYS)

    def last(self) -> KeySet:
        """The keys of the bundle in force; another object only when they are others."""
        try:
            bundle: TrustBundle | None = self._source.snapshot.bundles.get(self._trust_domain)
        except CredentialError:
            return NO_KEYS
        if bundle is None:
            return NO_KEYS
        entries, keys = self._seen
        if bundle.jwt_authorities is not entries:
            if entries != bundle.jwt_authorities:
                keys = KeySet.of(bundle.jwt_authorities.values(), use="jwt-svid")
            self._seen = (bundle.jwt_authorities, keys)
        return keys
