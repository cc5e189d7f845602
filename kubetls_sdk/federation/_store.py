# SPDX-License-Identifier: Apache-2.0
"""The last good bundles of partners on disk, so that a restart does not begin again.

A restarted process trusts a partner at once, knows the sequence that must not go back, and verifies
a self-serving endpoint by the roots that it has now, though those it began with may be long gone.

Rules:
    1. Whoever can write here decides whom we trust: the directory has to be ours alone.
    2. What is stored counts only for the very endpoint that it came from, and its age goes on.
    3. A file that cannot be used is as good as none, and is said once. A partner that is declared
       no more leaves none behind (§6.3).

Spec: SPIFFE Federation §4.2, §5.2.2.4, §6.3.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kubetls_sdk.exceptions import BundleError, ConfigurationError
from kubetls_sdk.federation._kept import Kept
from kubetls_sdk.federation.bundle_document import parse_document, to_jwks
from kubetls_sdk.federation.output_file import write_file

if TYPE_CHECKING:
    from kubetls_sdk.federation._relation import Relation
    from kubetls_sdk.federation.partner import Endpoint, Partner
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("BundleStore", "Stored")

_log = logging.getLogger("kubetls_sdk.federation")
_FORMAT = 1
_MAX_BYTES = 4 * 1024 * 1024
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Stored(NamedTuple):
    """What is in a file.

    Attributes:
        kept: The state.
        bootstrap_tag: Of the operator's bundle that the first fetch was verified by.
    """

    kept: Kept
    bootstrap_tag: str | None


class BundleStore:
    """The directory.

    Args:
        directory: Made when it is not there.

    Raises:
        ConfigurationError: It is not ours alone, or cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(os.path.abspath(directory))
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = self._directory.stat()
        except OSError as err:
            raise ConfigurationError(f"{self._directory}: expected a directory: {err}") from err
        if state.st_uid != os.geteuid() or state.st_mode & _OTHERS_MAY_WRITE:
            raise ConfigurationError(
                f"{self._directory}: expected a directory that this process owns and nobody else"
                " may write"
            )

    def load(self, partner: Partner) -> Stored | None:
        """What was stored of a partner with this endpoint; None when nothing can be used."""
        if partner.endpoint is None:
            return None
        try:
            with self._path(partner.trust_domain).open("rb") as file:
                found = json.loads(file.read(_MAX_BYTES))
            return _stored(found, partner, partner.endpoint)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, BundleError) as err:
            _log.warning("stored bundle of %s is not used: %s", partner.trust_domain, err)
            return None

    def save(self, relation: Relation) -> None:
        """Store what is in force; a disk that is full is logged and harms nothing else."""
        partner, kept = relation.partner, relation.kept
        if partner.endpoint is None or kept.bundle is None or kept.good_at is None:
            return
        text = to_jwks(kept.bundle, sequence=kept.sequence, refresh_hint=kept.refresh_hint)
        document = {
            "format": _FORMAT,
            "trust_domain": str(partner.trust_domain),
            "endpoint": _place(partner.endpoint),
            "changed_at": (kept.changed_at or kept.good_at).isoformat(),
            "good_at": kept.good_at.isoformat(),
            "bootstrap": relation.bootstrap_tag,
            "bundle": json.loads(text),
        }
        try:
            content = json.dumps(document).encode()
            write_file(self._path(partner.trust_domain), content, is_secret=True)
        except OSError as err:
            _log.error("bundle of %s was not stored: %s", partner.trust_domain, err)

    def remove(self, trust_domain: TrustDomain) -> None:
        """Leave nothing of a partner behind."""
        try:
            self._path(trust_domain).unlink(missing_ok=True)
        except OSError as err:
            _log.error("stored bundle of %s was not removed: %s", trust_domain, err)

    def _path(self, trust_domain: TrustDomain) -> Path:
        return self._directory / f"{trust_domain}.stored.json"


def _stored(found: Any, partner: Partner, endpoint: Endpoint) -> Stored:
    if found["format"] != _FORMAT or found["trust_domain"] != str(partner.trust_domain):
        raise ValueError("expected a stored bundle of this trust domain")
    if found["endpoint"] != _place(endpoint):
        raise ValueError("expected one of the configured endpoint, got one of another")
    text = json.dumps(found["bundle"]).encode()
    bundle = parse_document(partner.trust_domain, text).bundle
    fresh = Kept(partner.trust_domain).after(bundle, now=_time(found["good_at"]))
    tag = found["bootstrap"]
    if tag is not None and not isinstance(tag, str):
        raise ValueError("expected a digest of the first bundle")
    return Stored(fresh.changed_since(_time(found["changed_at"])), tag)


def _place(endpoint: Endpoint) -> dict[str, str | None]:
    server = None if endpoint.spiffe_id is None else str(endpoint.spiffe_id)
    return {"url": endpoint.url, "profile": str(endpoint.profile), "spiffe_id": server}


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("expected a time with its zone")
    return found
