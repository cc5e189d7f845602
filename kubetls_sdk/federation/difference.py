# SPDX-License-Identifier: Apache-2.0
"""What a change of a trust bundle adds and removes, by fingerprint, before it is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256

from kubetls_sdk.exceptions import BundleError

if TYPE_CHECKING:
    from cryptography import x509

    from kubetls_sdk.bundle import TrustBundle

__all__ = ("BundleDifference", "fingerprint")


@dataclass(frozen=True, slots=True)
class BundleDifference:
    """The difference between two bundles of one trust domain.

    Attributes:
        added: Authorities that only the new one has.
        removed: Authorities that only the old one has.
        kept: Authorities of both.
        added_keys: `kid` of keys for JWT-SVIDs that are new or other ones under an old name.
        removed_keys: `kid` of those that are gone or replaced.
    """

    added: tuple[x509.Certificate, ...]
    removed: tuple[x509.Certificate, ...]
    kept: tuple[x509.Certificate, ...]
    added_keys: tuple[str, ...]
    removed_keys: tuple[str, ...]

    @classmethod
    def between(cls, old: TrustBundle, new: TrustBundle) -> BundleDifference:
        """Compare two bundles; sequence and hint are not compared.

        Raises:
            BundleError: They are of two trust domains.
        """
        if old.trust_domain != new.trust_domain:
            raise BundleError(
                f"expected bundles of one trust domain, got {str(old.trust_domain)!r}"
                f" and {str(new.trust_domain)!r}"
            )
        before, after = set(old.authorities), set(new.authorities)
        old_keys, new_keys = old.jwt_authorities.items(), new.jwt_authorities.items()
        return cls(
            tuple(each for each in new.authorities if each not in before),
            tuple(each for each in old.authorities if each not in after),
            tuple(each for each in new.authorities if each in before),
            tuple(sorted(kid for kid, key in new_keys if old.jwt_authorities.get(kid) != key)),
            tuple(sorted(kid for kid, key in old_keys if new.jwt_authorities.get(kid) != key)),
        )

    @property
    def is_empty(self) -> bool:
        """Whether both trust the same."""
        return not (self.added or self.removed or self.added_keys or self.removed_keys)


def fingerprint(authority: x509.Certificate) -> str:
    """SHA-256 of the DER, in hexadecimal."""
    return authority.fingerprint(SHA256()).hex()
