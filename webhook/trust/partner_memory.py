# SPDX-License-Identifier: Apache-2.0
"""What the next leader has to know of a fetched bundle, as annotations of what is published.

Without it a new leader would take an older bundle again, and count the age of the last good one
anew.

Rules:
    1. What is remembered counts only for the very endpoint that it came from.
    2. A text that is not the one that was published is somebody's edit: it is not trusted, and the
       sequence still counts.
    3. The time of the last fetch is written now and then, and never later than it was: a restart
       may shorten the life of a bundle a little, and never lengthen it.

Spec: SPIFFE Federation §4.2, §6.3.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError
from kubetls_sdk.federation._kept import Kept
from webhook.names import annotation
from webhook.trust.labels import WITHDRAWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubetls_sdk.federation._relation import Relation
    from kubetls_sdk.federation.partner import Partner as FederatedPartner
    from webhook.trust.publisher import Published

__all__ = ("FETCHED_AT", "SEQUENCE", "fetched_at", "recall", "remember")

_log = logging.getLogger(__name__)

SEQUENCE: Final = annotation("bundle-sequence")
FETCHED_AT: Final = annotation("bundle-fetched-at")
_HINT: Final = annotation("bundle-refresh-hint")
_SOURCE: Final = annotation("bundle-source")
_BOOTSTRAP: Final = annotation("bundle-bootstrap")
_DIGEST: Final = annotation("bundle-digest")
_LAST_GOOD: Final = annotation("bundle-last-good")
_MAX_LAST_GOOD: Final = 128 * 1024
"""All annotations of an object may have twice as many bytes."""
_WRITES_WITHIN_AGE: Final = 20


def remember(relation: Relation, *, is_published: bool, found: Published | None) -> dict[str, str]:
    """The annotations of what is published now.

    Args:
        relation: What is known of the partner.
        is_published: Whether its bundle is the text of the object; otherwise it is withdrawn.
        found: What is published until now.
    """
    kept = relation.kept
    text = b"" if kept.bundle is None else kept.bundle.to_pem()
    wanted: dict[str, str | None] = {
        _SOURCE: _source(relation.partner),
        _BOOTSTRAP: relation.bootstrap_tag,
        SEQUENCE: None if kept.sequence is None else str(kept.sequence),
        _HINT: None if kept.refresh_hint is None else str(kept.refresh_hint),
        FETCHED_AT: None if kept.good_at is None else kept.good_at.isoformat(),
        _DIGEST: hashlib.sha256(text).hexdigest(),
    }
    if text and not is_published and len(text) <= _MAX_LAST_GOOD:
        wanted[_LAST_GOOD] = text.decode("ascii")
    made = {key: value for key, value in wanted.items() if value is not None}
    return _written_seldom(made, found, relation.partner)


def recall(partner: FederatedPartner, found: Published | None) -> tuple[Kept, str | None] | None:
    """What was remembered of a partner with this endpoint, and of which bootstrap bundle.

    Args:
        partner: As it is configured now.
        found: What is published.

    Returns:
        None when there is nothing that counts.
    """
    annotations = {} if found is None else found.annotations
    if found is None or annotations.get(_SOURCE) != _source(partner):
        return None
    try:
        kept = Kept(
            partner.trust_domain,
            sequence=_integer(annotations, SEQUENCE),
            refresh_hint=_integer(annotations, _HINT),
        )
        good_at = fetched_at(found)
        text = _last_good(found)
        if good_at is not None and hashlib.sha256(text).hexdigest() == annotations.get(_DIGEST):
            bundle = TrustBundle.from_pem(partner.trust_domain, text)
            kept = replace(kept, bundle=bundle, changed_at=good_at, good_at=good_at)
    except (ValueError, BundleError) as err:
        _log.warning("what is published of %s is not taken up: %s", partner.trust_domain, err)
        return None
    return kept, annotations.get(_BOOTSTRAP)


def fetched_at(found: Published) -> datetime | None:
    """When a published bundle was last confirmed, as far as it was written down.

    Raises:
        ValueError: Somebody has edited it.
    """
    text = found.annotations.get(FETCHED_AT)
    return None if text is None else _moment(text)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError as err:  # a time of year 1 or 9999, in another zone than UTC
        raise ValueError(str(err)) from err


def _last_good(found: Published) -> bytes:
    if WITHDRAWN in found.annotations:
        return found.annotations.get(_LAST_GOOD, "").encode()
    return found.text.encode()


def _written_seldom(
    wanted: dict[str, str], found: Published | None, partner: FederatedPartner
) -> dict[str, str]:
    """The same, with the time that is written already when nothing else is new."""
    written = {} if found is None else dict(found.annotations)
    if FETCHED_AT not in wanted or any(written.get(key) != wanted[key] for key in _news(wanted)):
        return wanted
    try:
        before, now = (_moment(each[FETCHED_AT]) for each in (written, wanted))
    except (KeyError, ValueError):
        return wanted
    patience = timedelta(seconds=partner.max_stale_seconds / _WRITES_WITHIN_AGE)
    if timedelta(0) <= now - before < patience:
        return {**wanted, FETCHED_AT: written[FETCHED_AT]}
    return wanted


def _news(wanted: Mapping[str, str]) -> set[str]:
    return set(wanted) - {FETCHED_AT}


def _source(partner: FederatedPartner) -> str:
    """A short name of the endpoint, that tells nobody its URL."""
    endpoint: Any = partner.endpoint
    place = [str(partner.trust_domain), endpoint.url, endpoint.profile]
    place.append(str(endpoint.spiffe_id or ""))
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()


def _integer(annotations: Mapping[str, str], name: str) -> int | None:
    text = annotations.get(name)
    if text is not None and not (text.isascii() and text.isdecimal()):
        raise ValueError(f"expected a number in {name}, got {text[:32]!r}")
    return None if text is None else int(text)
