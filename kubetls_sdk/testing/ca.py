# SPDX-License-Identifier: Apache-2.0
"""The development CA of one trust domain, for tests and for a developer's own machine.

Rules:
    1. Never for production: the root key lies in memory or in a plain file.
    2. What it issues passes the strictest checks of OpenSSL (`X509_V_FLAG_X509_STRICT`) and
       our own; only `issue_faulty` and `issue_for` make what a peer must refuse.
    3. A root is replaced with overlap: published, then signing, then the old one withdrawn.

Spec: X509-SVID §2 to §4.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Unpack

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
from kubetls_sdk.svid import X509Svid
from kubetls_sdk.testing import ca_files
from kubetls_sdk.testing.authority import Authority, IssuedChain
from kubetls_sdk.testing.draft import MAX_COMMON_NAME, Draft, subject
from kubetls_sdk.testing.faults import faulty_chain
from kubetls_sdk.testing.keys import KeyType, key_type_of, new_key
from kubetls_sdk.testing.root_pool import RootPool

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from kubetls_sdk.testing.leaf_options import LeafOptions

__all__ = ("DEFAULT_PATH", "DevelopmentCA")

DEFAULT_PATH = "/ns/shop/sa/web"
_BACKDATE = timedelta(minutes=1)  # Clocks differ, and a whole second is cut off.
_ROOT_TTL = timedelta(days=3650)
_ROOT_AGE = timedelta(days=365)
_LEAF_TTL = timedelta(hours=1)


class DevelopmentCA:
    """A trust domain that issues whatever it is asked for.

    Args:
        name: The trust domain.
        key_type: Of the roots and, unless said otherwise, of intermediates.
        now: The time that certificates are made for; None follows the clock.
        pool: Existing roots; a fresh one by default.

    Raises:
        SpiffeIdError: The name is no trust domain.
        ConfigurationError: The key type is unknown.
    """

    def __init__(
        self,
        name: str = "example.org",
        *,
        key_type: KeyType = "p256",
        now: datetime | None = None,
        pool: RootPool | None = None,
    ) -> None:
        self.trust_domain = TrustDomain.parse(name)
        self._key_type = key_type
        self._fixed_now = now
        self._pool = pool if pool is not None else RootPool((self._new_root(None, None),))

    @property
    def now(self) -> datetime:
        """The aware UTC time that certificates are made for."""
        return self._fixed_now if self._fixed_now is not None else datetime.now(UTC)

    @property
    def bundle(self) -> TrustBundle:
        """The authorities that are published now."""
        return TrustBundle(self.trust_domain, tuple(root.certificate for root in self._pool.roots))

    @property
    def root(self) -> Authority:
        """The root that signs, with its key: for `intermediate(under=…)` and `through=`."""
        return self._pool.signing

    @property
    def authority(self) -> x509.Certificate:
        """The certificate of the root that signs."""
        return self.root.certificate

    def spiffe_id(self, path: str = DEFAULT_PATH) -> SpiffeId:
        """A name in this trust domain."""
        return SpiffeId(self.trust_domain, path)

    def issue(self, path: str = DEFAULT_PATH, **options: Unpack[LeafOptions]) -> X509Svid:
        """Issue an SVID by the certificate profile; the options are those of `LeafOptions`.

        Raises:
            SpiffeIdError: The path is not one of a SPIFFE ID.
            ConfigurationError: An option is out of range.
        """
        return self._svid(self.spiffe_id(path), options)

    def issue_for(
        self, trust_domain: str, path: str = DEFAULT_PATH, **options: Unpack[LeafOptions]
    ) -> X509Svid:
        """Forge: an SVID with a name of ANOTHER trust domain, signed by our own root.

        Raises:
            SpiffeIdError: The name or path is not one of a SPIFFE ID.
            ConfigurationError: An option is out of range.
        """
        return self._svid(SpiffeId(TrustDomain.parse(trust_domain), path), options)

    def issue_faulty(
        self, fault: str, path: str = DEFAULT_PATH, **options: Unpack[LeafOptions]
    ) -> IssuedChain:
        """Issue what every peer must refuse; `kubetls_sdk.testing.FAULTS` lists the faults.

        Raises:
            ConfigurationError: The fault is unknown or an option is out of range.
        """
        issuer = self._issuer(options)
        return faulty_chain(fault, self._draft(self.spiffe_id(path), issuer, options), issuer)

    def intermediate(
        self,
        *,
        under: Authority | None = None,
        path_length: int | None = None,
        constraints: x509.NameConstraints | None = None,
        key_type: KeyType | None = None,
        ttl: timedelta = _ROOT_TTL,
    ) -> Authority:
        """Make an intermediate, to issue `through=` it.

        Args:
            under: Its issuer; the active root by default.
            path_length: How many intermediates may follow; None for any number.
            constraints: See `kubetls_sdk.testing.name_constraints`; critical in the certificate.
            key_type: As the root's by default.
            ttl: Lifetime from now; negative for an expired one.
        """
        issuer = under if under is not None else self.root
        draft = self._authority_draft("intermediate", key_type, path_length, ttl)
        draft = draft.having(issuer.key_identifier(), critical=False)
        if constraints is not None:
            draft = draft.having(constraints, critical=True)
        signed = issuer.sign(draft)
        return Authority(signed.leaf, draft.key, above=signed.certificates[1:])

    def add_root(
        self, *, path_length: int | None = None, constraints: x509.NameConstraints | None = None
    ) -> Authority:
        """Publish a new root in the bundle; the one before goes on signing."""
        root = self._new_root(path_length, constraints)
        self._pool = self._pool.with_root(root)
        return root

    def activate_root(self) -> None:
        """Let the next published root sign from now on.

        Raises:
            ConfigurationError: No root was added that does not sign yet.
        """
        self._pool = self._pool.activated()

    def retire_root(self) -> None:
        """Withdraw the oldest root from the bundle.

        Raises:
            ConfigurationError: The oldest root is the one that signs.
        """
        self._pool = self._pool.retired()

    def save(self, directory: str | Path) -> None:
        """Write roots and keys to a directory, readable to its owner only.

        Raises:
            OSError: A file cannot be written.
        """
        ca_files.save(directory, self.trust_domain, self._pool)

    @classmethod
    def load(cls, directory: str | Path, *, now: datetime | None = None) -> DevelopmentCA:
        """Read what `save` wrote.

        Raises:
            ConfigurationError: The directory holds no development CA, or a broken one.
        """
        trust_domain, pool = ca_files.load(directory)
        key_type = key_type_of(pool.signing.private_key)
        return cls(str(trust_domain), key_type=key_type, now=now, pool=pool)

    def _svid(self, spiffe_id: SpiffeId, options: LeafOptions) -> X509Svid:
        issuer = self._issuer(options)
        chain = issuer.sign(self._draft(spiffe_id, issuer, options))
        return X509Svid(chain.certificates, chain.private_key)

    def _issuer(self, options: LeafOptions) -> Authority:
        issuer = options.get("through") or self.root
        count = options.get("intermediates", 0)
        if count < 0:
            raise ConfigurationError(f"expected intermediates of 0 or more, got {count}")
        for _ in range(count):
            issuer = self.intermediate(under=issuer)
        return issuer

    def _draft(self, spiffe_id: SpiffeId, issuer: Authority, options: LeafOptions) -> Draft:
        end_of_path = spiffe_id.path.rpartition("/")[2][:MAX_COMMON_NAME]
        not_before, not_after = self._validity(
            options.get("ttl", _LEAF_TTL), options.get("not_before")
        )
        draft = Draft(
            subject(options.get("common_name") or end_of_path or "root"),
            new_key(options.get("key_type", "p256")),
            not_before,
            not_after,
        )
        return draft.with_leaf_profile(str(spiffe_id), options.get("dns_names", ())).having(
            issuer.key_identifier(), critical=False
        )

    def _new_root(
        self, path_length: int | None, constraints: x509.NameConstraints | None
    ) -> Authority:
        draft = self._authority_draft("root", None, path_length, _ROOT_TTL)
        if constraints is not None:
            draft = draft.having(constraints, critical=True)
        return Authority.self_signed(draft)

    def _authority_draft(
        self, kind: str, key_type: KeyType | None, path_length: int | None, ttl: timedelta
    ) -> Draft:
        key = new_key(key_type or self._key_type)
        # Names differ as keys do, else a validator that looks an issuer up by name is misled.
        mark = secrets.token_hex(4)
        name = f"{kind} {mark} of {self.trust_domain}"[:MAX_COMMON_NAME]
        not_before, not_after = self._validity(ttl, None)
        # Older than any leaf that a test makes for an earlier time.
        draft = Draft(subject(name), key, not_before - _ROOT_AGE, not_after)
        return draft.with_authority_profile(f"spiffe://{self.trust_domain}", path_length)

    def _validity(self, ttl: timedelta, not_before: datetime | None) -> tuple[datetime, datetime]:
        try:
            if not_before is not None:
                return not_before, not_before + ttl
            not_after = self.now + ttl
            return min(self.now, not_after) - _BACKDATE, not_after
        except OverflowError:
            raise ConfigurationError(f"expected a shorter ttl, got {ttl}") from None
