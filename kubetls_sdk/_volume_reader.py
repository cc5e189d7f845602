# SPDX-License-Identifier: Apache-2.0
"""The looks of a source at its volume: parsed again only when the bytes are other ones."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING

from kubetls_sdk.exceptions import VolumeError
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.volume import parse_volume, read_volume

if TYPE_CHECKING:
    from kubetls_sdk._last_good import LastGood
    from kubetls_sdk.volume import Volume, VolumeContent, VolumeFiles

__all__ = ("VolumeReader", "missing_at_start")

_log = logging.getLogger("kubetls_sdk.volume_source")


class VolumeReader:
    """Reads one volume again and again.

    Args:
        place: Its directory, absolute, or explicit paths.
        trust_domain: Refuse an SVID of any other trust domain, when given.

    Attributes:
        directories: What is to be watched; absolute.
        advice: What a person who looks for the fault may do, to end a message with.
    """

    def __init__(self, place: str | VolumeFiles, trust_domain: TrustDomain | str | None) -> None:
        self.directories = [place] if isinstance(place, str) else place.directories()
        self.advice = (
            f"; what to do: kubetls doctor {shlex.quote(place)}" if isinstance(place, str) else ""
        )
        self._place = place
        self._trust_domain = (
            TrustDomain.parse(trust_domain) if isinstance(trust_domain, str) else trust_domain
        )
        self._last: tuple[bytes, Volume | VolumeError] | None = None

    def read(self, known: LastGood) -> Volume | VolumeError:
        """Read the files; parse them only when they are not what they were at the last look."""
        try:
            content = read_volume(self._place)
        except VolumeError as err:
            return err
        fingerprint = content.fingerprint()
        if self._last is None or self._last[0] != fingerprint:
            self._last = (fingerprint, self._parse(content, known))
        return self._last[1]

    def forget(self) -> None:
        """Hold no key any more."""
        self._last = None

    def _parse(self, content: VolumeContent, known: LastGood) -> Volume | VolumeError:
        try:
            return parse_volume(
                content,
                trust_domain=self._trust_domain,
                last_trust_domain=known.svid.spiffe_id.trust_domain if known.svid else None,
            )
        except Exception as err:  # noqa: BLE001 - trust that cannot be read ages, whatever the reason
            _log.exception("parsing %s failed", content.directory)
            return VolumeError(f"cannot be parsed: {type(err).__name__}", path=content.directory)


def missing_at_start(last: LastGood, read: Volume | VolumeError) -> str | None:
    """Why a first look is not enough to start with, or None."""
    if isinstance(read, VolumeError):
        return str(read)
    if last.svid is None:
        return next(each.text for each in last.problems if each.kind == "svid")
    own = last.bundles.get(last.svid.spiffe_id.trust_domain)
    if own is not None and own.error is not None:
        return str(own.error)
    if not last.bundles:
        unusable = "".join(f"; {error}" for error in read.misnamed)
        expected = "'<trust-domain>.trust-bundle.pem', 'ca.crt' or 'svid_bundle.pem'"
        return f"{read.directory}: expected a trust bundle ({expected}), got none{unusable}"
    return None
