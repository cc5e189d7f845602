# SPDX-License-Identifier: Apache-2.0
"""Browser and app: what the external API and the internal API behind it make of their calls."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING

from examples.demonstration.case import Case
from examples.edge.service import outcomes, program
from examples.edge.witness import Witness

if TYPE_CHECKING:
    from examples.edge.stage import Stage

__all__ = ("outside_cases", "tampered")

_INSIDE = "inside: external-api for"
_NOBODY = "401; outside: user authentication failed; inside: nothing"
_STRANGER = "403; outside: user authorization failed; inside: nothing"
_OTHERS_ORDER = (
    "403; outside: alice by user-reads-order; inside: user authorization failed"  # its owner is bob
)
_WRONG = {
    "an expired token": "expired",
    "a token for another API": "audience",
    "a token in another issuer's name": "issuer",
    "a token signed by another key": "key",
}


def outside_cases(stage: Stage) -> list[Case]:
    """Try everybody who comes from outside with a request for orders."""
    return [*_browser(stage), *_broken_tokens(stage), *_app(stage)]


def tampered(token: str) -> str:
    """The token with another user in it, under the old signature."""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    claims["sub"] = "bob"
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{head}.{changed}.{signature}"


def _browser(stage: Stage) -> list[Case]:
    witness, visitor = Witness(stage), stage.visitor()
    alice = visitor.token("alice")
    own = f"200; outside: alice by owner-reads-orders; {_INSIDE} alice by edge-reads-orders-of-user"
    one = f"200; outside: alice by user-reads-order; {_INSIDE} alice by owner-reads-order"
    calls = (
        ("alice in a browser: her orders", "/users/alice/orders", own),
        ("alice in a browser: an order of hers", "/orders/A1", one),
        ("alice in a browser: bob's orders", "/users/bob/orders", _STRANGER),
        ("alice in a browser: an order of bob's", "/orders/B1", _OTHERS_ORDER),
    )
    return [
        Case(name, expected, witness.through(partial(visitor.get, path, alice)))
        for name, path, expected in calls
    ]


def _broken_tokens(stage: Stage) -> list[Case]:
    witness, visitor = Witness(stage), stage.visitor()
    tokens = {
        "no token": None,
        "a token with another user written into it": tampered(visitor.token("alice")),
        **{name: visitor.token("bob", fault) for name, fault in _WRONG.items()},
    }
    return [
        Case(
            f"bob's orders, with {name}",
            _NOBODY,
            witness.through(partial(visitor.get, "/users/bob/orders", token)),
        )
        for name, token in tokens.items()
    ]


def _app(stage: Stage) -> list[Case]:
    witness = Witness(stage)
    expected = {
        "/users/carol/orders": "200; outside: carol by owner-reads-orders-by-app;"
        f" {_INSIDE} carol by edge-reads-orders-of-user",
        "/users/dave/orders": _STRANGER,
    }
    names = ("carol in the app: her orders", "carol in the app: dave's orders")
    marks = witness.marks()
    arguments = [stage.url, str(stage.zones.public.roots), *expected]
    statuses = outcomes(program("app", arguments, log=stage.place.logs / "app.log"))
    return [
        Case(name, text, witness.program(statuses[path], marks, path))
        for name, (path, text) in zip(names, expected.items(), strict=True)
    ]
