# SPDX-License-Identifier: Apache-2.0
"""The bundle documents that the tables speak of, by their words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kubetls_sdk.federation.bundle_document import _entry, to_jwks
from kubetls_sdk.testing import DevelopmentCA

if TYPE_CHECKING:
    from collections.abc import Callable

CA = DevelopmentCA("partner.example")
OTHER = DevelopmentCA("other.example")
HUGE = 2**62
_GOOD = to_jwks(CA.bundle, sequence=5, refresh_hint=300)
_JWT = {"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256", "x": "x", "y": "y"}


def _good() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_GOOD)
    return found


def _x509() -> dict[str, Any]:
    entry: dict[str, Any] = _good()["keys"][0]
    return entry


def _member(**changes: Any) -> bytes:
    """The good document with other members; `...` leaves one out."""
    found = {**_good(), **changes}
    return json.dumps({name: value for name, value in found.items() if value is not ...}).encode()


def _changed(**changes: Any) -> bytes:
    """The good document with its entry changed; `...` leaves a member out."""
    entry = {**_x509(), **changes}
    return _member(keys=[{name: value for name, value in entry.items() if value is not ...}])


def _beside(*entries: dict[str, Any], **changes: Any) -> bytes:
    """The good document with more entries, or with the good one again, changed."""
    changed = {name: value for name, value in {**_x509(), **changes}.items() if value is not ...}
    return _member(keys=[_x509(), *(entries or [changed])])


def _only(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in _JWT.items() if key != name}


def _two_certificates() -> bytes:
    return _changed(x5c=[*_x509()["x5c"], *_entry(OTHER.authority)["x5c"]])


DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "one x509-svid entry": lambda: _GOOD,
    "no keys member": lambda: _member(keys=...),
    "keys is null": lambda: _member(keys=None),
    "an empty keys array": lambda: _member(keys=[]),
    "x5c with two certificates": _two_certificates,
    "no x5c": lambda: _changed(x5c=...),
    "an empty x5c": lambda: _changed(x5c=[]),
    "an x509-svid entry with a kid": lambda: _changed(kid="a"),
    "the same certificate twice": lambda: _beside(_x509()),
    "a leaf as authority": lambda: _beside(_entry(CA.issue().leaf)),
    "an authority that says it is another domain's": lambda: _beside(_entry(OTHER.authority)),
    "no use": lambda: _beside(use=...),
    "a use of the future": lambda: _beside(use="x509-svid-2"),
    "use in capitals": lambda: _beside(use="X509-SVID"),
    "a wit-svid entry": lambda: _beside({**_JWT, "use": "wit-svid"}),
    "a jwt-svid entry": lambda: _beside(_JWT),
    "a jwt-svid entry without kid": lambda: _beside(_without("kid")),
    "two jwt-svid entries of one kid": lambda: _beside(_JWT, {**_JWT, "x": "z"}),
    "only a jwt-svid entry": lambda: _only(_JWT),
    "only a jwt-svid entry without kid": lambda: _only(_without("kid")),
    "only two jwt-svid entries of one kid": lambda: _only(_JWT, {**_JWT, "x": "z"}),
    "only a secret with a kid": lambda: _only({**_JWT, "kty": "oct", "k": "AA"}),
    "only a kid with no use": lambda: _only(_without("use")),
    "no sequence and no hint": lambda: _member(spiffe_sequence=..., spiffe_refresh_hint=...),
    "sequence 0": lambda: _member(spiffe_sequence=0),
    "sequence of 64 bits": lambda: _member(spiffe_sequence=2**64 - 1),
    "sequence of 65 bits": lambda: _member(spiffe_sequence=2**64),
    "a negative sequence": lambda: _member(spiffe_sequence=-1),
    "a sequence with a fraction": lambda: _member(spiffe_sequence=1.5),
    "a sequence as text": lambda: _member(spiffe_sequence="1"),
    "a null sequence": lambda: _member(spiffe_sequence=None),
    "a negative hint": lambda: _member(spiffe_refresh_hint=-1),
    "a huge hint": lambda: _member(spiffe_refresh_hint=HUGE),
    "a duplicate member": lambda: _GOOD.replace(b'"keys"', b'"keys": [], "keys"', 1),
    "a second document after it": lambda: _GOOD + _GOOD,
    "nothing": lambda: b"",
    "malformed JSON": lambda: b"{" + _GOOD,
    "a byte order mark": lambda: b"\xef\xbb\xbf" + _GOOD,
    "text that is not UTF-8": lambda: _member(x="?").replace(b"?", b"\xff"),
    "deep nesting": lambda: _GOOD.rstrip()[:-1] + b', "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
}
