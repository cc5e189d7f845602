# SPDX-License-Identifier: Apache-2.0
"""All partners of a source: who is declared, and what is in force of each.

Rules:
    1. A relation ends at once when its partner is declared no more; another endpoint or another
       bundle file begins a new one (§6.3). What arrives for one that has ended is dropped.
    2. A federation file that is gone ends all of them; one that cannot be used changes nothing, for
       a bounded time.
    3. At most one bundle of each trust domain, and none of our own or of one that the platform
       gave us already.

Spec: SPIFFE Federation §4.2, §6.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import BundleError, ConfigurationError
from kubetls_sdk.federation._declared import directories_of, read_bundle, read_partners
from kubetls_sdk.federation._relation import Relation
from kubetls_sdk.federation.status import FederationStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from kubetls_sdk.bundle import TrustBundle
    from kubetls_sdk.federation._store import BundleStore
    from kubetls_sdk.federation.partner import Partner
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("Registry",)

_log = logging.getLogger("kubetls_sdk.federation")
_MAX_STALE_SECONDS = 3600.0


class Registry:
    """The relations, safe for threads.

    Args:
        file: The federation file, if there is one.
        partners: Otherwise.
        store: Where last good bundles are kept.
        clock: Returns the aware time of now.

    Raises:
        ConfigurationError: Both, or a trust domain twice.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | None,
        partners: tuple[Partner, ...],
        *,
        clock: Callable[[], datetime],
        store: BundleStore | None = None,
    ) -> None:
        if file is not None and partners:
            raise ConfigurationError("expected a federation file or partners, got both")
        self._file = None if file is None else os.path.abspath(file)
        self._clock = clock
        self._store = store
        self._content: bytes | None = None
        self._error: str | None = None
        self._good_at = clock()
        self._relations: dict[TrustDomain, Relation] = {}
        self._given: Mapping[TrustDomain, TrustBundle] = {}
        self._lock = threading.Lock()  # around the state, never while a file is read
        self._looking = threading.Lock()
        self._replace(partners)

    @property
    def relations(self) -> tuple[Relation, ...]:
        """Those that are declared now."""
        with self._lock:
            return tuple(self._relations.values())

    @property
    def directories(self) -> list[str]:
        """Where the declared files are."""
        return directories_of(self._file, [each.partner for each in self.relations])

    def declare(self, partners: tuple[Partner, ...]) -> None:
        """Declare other partners, and read their bundle files.

        Raises:
            ConfigurationError: There is a federation file, or a trust domain is there twice.
        """
        if self._file is not None:
            raise ConfigurationError("expected no partners beside a federation file")
        with self._looking:
            self._replace(partners)
            self._read_bundles()

    def read_first(self) -> None:
        """Read everything that is declared.

        Raises:
            ConfigurationError: The federation file is missing or cannot be used.
        """
        with self._looking:
            if self._file is not None:
                self._content, partners = read_partners(self._file, None)
                if self._content is None:
                    raise ConfigurationError(f"{self._file}: expected a federation file, got none")
                self._replace(partners)
            self._read_bundles()

    def look(self) -> None:
        """Read everything again; what is wrong is in `status` and in the log."""
        with self._looking:
            if self._file is not None:
                self._look_at(self._file)
            self._read_bundles()

    def bundles(
        self, *, own: TrustDomain, given: Mapping[TrustDomain, TrustBundle]
    ) -> list[TrustBundle]:
        """The bundles of partners that are in force beside those that are given."""
        with self._lock:
            self._given = given
            now = self._clock()
            found = []
            for domain, relation in self._relations.items():
                relation.shadow(_shadow(domain, own, given))
                found.append(relation.in_force(now))
            return [bundle for bundle in found if bundle is not None]

    def latest(self, trust_domain: TrustDomain) -> TrustBundle | None:
        """The latest bundle of a trust domain, to verify a server of it by."""
        with self._lock:
            if trust_domain in self._given:
                return self._given[trust_domain]
            relation = self._relations.get(trust_domain)
            return None if relation is None else relation.kept.bundle

    def put(self, relation: Relation, found: TrustBundle | str) -> None:
        """Take the result of a fetch, if its relation still exists."""
        with self._lock:
            if self._relations.get(relation.partner.trust_domain) is not relation:
                return
            relation.take(found, now=self._clock())
        if self._store is not None and relation.kept.error is None:
            self._store.save(relation)  # Not under the lock: a disk may be slow.
            if self._relations.get(relation.partner.trust_domain) is not relation:
                self._store.remove(relation.partner.trust_domain)

    def show(self) -> None:
        """Record the state in the metrics."""
        with self._lock:
            now = self._clock()
            for relation in self._relations.values():
                relation.show(now)

    def status(self) -> FederationStatus:
        """The state for people."""
        with self._lock:
            now = self._clock()
            partners = [self._relations[each].status(now) for each in sorted(self._relations)]
            return FederationStatus(tuple(partners), self._error)

    def disown(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here."""
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._relations = {}

    def _look_at(self, file: str) -> None:
        now = self._clock()
        try:
            content, partners = read_partners(file, self._content)
        except ConfigurationError as err:
            self._refuse(str(err), now)
            return
        self._good_at = now
        if content is None:
            self._note(f"{file}: the federation file is gone: nobody is a partner")
        else:
            self._note(None)
        self._content = content
        self._replace(partners)

    def _refuse(self, error: str, now: datetime) -> None:
        self._good_at = min(self._good_at, now)
        if (now - self._good_at).total_seconds() > _MAX_STALE_SECONDS:
            error = f"{error}; nobody is a partner until it can be used"
            self._content = None
            self._replace(())
        self._note(error)

    def _note(self, error: str | None) -> None:
        if error != self._error and error is not None:
            _log.error("%s", error)
        elif error is None and self._error is not None:
            _log.info("the federation file can be used again")
        self._error = error

    def _replace(self, partners: tuple[Partner, ...]) -> None:
        declared = {partner.trust_domain: partner for partner in partners}
        if len(declared) < len(partners):
            raise ConfigurationError("expected each trust domain once among the partners")
        with self._lock:
            before = self._relations
            self._relations = {
                domain: self._relation(before.get(domain), partner)
                for domain, partner in declared.items()
            }
            for domain in before.keys() - declared.keys():
                before[domain].end()
                if self._store is not None:
                    self._store.remove(domain)

    def _relation(self, before: Relation | None, partner: Partner) -> Relation:
        """The relation that goes on, or a new one, with what was stored of it."""
        if before is not None and before.goes_on_as(partner):
            before.partner = partner
            return before
        made = Relation(partner)
        stored = None if self._store is None else self._store.load(partner)
        if stored is not None:
            made.kept, made.bootstrap_tag = stored
        return made

    def _read_bundles(self) -> None:
        for relation in self.relations:
            if relation.partner.bundle is not None:
                found = read_bundle(relation.partner)
                with self._lock:
                    _take(relation, found, self._clock())


def _take(relation: Relation, found: TrustBundle | BundleError | None, now: datetime) -> None:
    """Take what a bundle file holds: the bundle, or what verifies the first fetch."""
    partner = relation.partner
    if partner.endpoint is not None:
        if not isinstance(found, BundleError) and found is not None:
            relation.begin_with(found)
        elif relation.known is None:
            relation.take(_missing(partner, found), now=now)
    elif found is None:
        relation.remove(_missing(partner, found), now=now)
    else:
        relation.take(str(found) if isinstance(found, BundleError) else found, now=now)


def _missing(partner: Partner, found: BundleError | None) -> str:
    return f"{partner.bundle}: expected a bundle file, got none" if found is None else str(found)


def _shadow(
    domain: TrustDomain, own: TrustDomain, given: Mapping[TrustDomain, TrustBundle]
) -> str | None:
    if domain == own:
        return "it is our own trust domain, whose bundle comes with our SVID"
    if domain in given:
        return "the platform gave us a bundle of this trust domain, which is in force"
    return None
