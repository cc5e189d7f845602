# SPDX-License-Identifier: Apache-2.0
"""Between outside and inside: nobody gets from the one to the other but through the API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from examples.demonstration.case import Case
from examples.demonstration.child import until
from examples.demonstration.wire import StockCaller
from examples.edge.witness import Witness
from examples.edge.zones import EXTERNAL

if TYPE_CHECKING:
    from examples.demonstration.wire import Credential
    from examples.edge.stage import Stage

__all__ = ("inside_cases",)

_ORDERS, _FIGURES = "/users/alice/orders", "/figures"
_BILLING = "spiffe://example.org/ns/shop/sa/billing"
_CLAIMS = {
    "X-Forwarded-Client-Cert": f"By={EXTERNAL};URI={_BILLING}",
    "X-SPIFFE-ID": _BILLING,
    "X_Client_Cert": "MIIB",
    "Client-Cert": ":MIIB:",
}
_ORDINARY = "X-Ordinary"
_LOG_SECONDS = 3.0


def inside_cases(stage: Stage) -> list[Case]:
    """Try to get around the external API, or inside with what somebody stole."""
    return [*_visitors(stage), *_thieves(stage), *_impostors(stage), *_outbound(stage)]


def _visitors(stage: Stage) -> list[Case]:
    witness, port = Witness(stage), stage.internal.port
    web = StockCaller(port, stage.zones.public.of_visitor())
    return [
        Case(
            "the internal API, from outside, without certificate",
            "refused: no certificate",
            witness.inside(StockCaller(port).call(_ORDERS)),
        ),
        Case(
            "the internal API, from outside, with a public certificate",
            "refused: unknown root",
            witness.inside(web.call(_ORDERS)),
        ),
    ]


def _thieves(stage: Stage) -> list[Case]:
    """Each has half of what the internal API wants: a certificate, or a user's token."""
    visitor, zones = stage.visitor(), stage.zones
    alice, bob = visitor.token("alice"), visitor.token("bob")
    witness, port = Witness(stage), stage.internal.port

    def call(credential: Credential, token: str | None) -> str:
        headers = {"Authorization": f"Bearer {token}"} if token else None
        return witness.inside(StockCaller(port, credential).call(_ORDERS, headers=headers))

    external, billing = zones.external(), zones.billing()
    return [
        Case(
            "alice's orders, by the external API without her token",
            "401: user authentication failed",
            call(external, None),
        ),
        Case(
            "alice's orders, by the external API with bob's token",
            "403: user authorization failed",
            call(external, bob),
        ),
        Case(
            "alice's orders, by billing with her token",
            "403: service authorization failed",
            call(billing, alice),
        ),
    ]


def _impostors(stage: Stage) -> list[Case]:
    """Billing may read figures; on the outside face nobody is billing."""
    witness, visitor, billing = Witness(stage), stage.visitor(), stage.zones.billing()
    inner, outer = (StockCaller(port, billing) for port in (stage.external.port, stage.edge_port))
    refused = "403: service authorization failed"
    return [
        Case(
            "billing's figures, on the inner face",
            "200: billing by billing-reads-figures",
            witness.outside(inner.call(_FIGURES)),
        ),
        Case(
            "billing's figures, on the outside face with its certificate",
            refused,
            witness.outside(outer.call(_FIGURES)),
        ),
        Case(
            "the page, on the outside face with billing's certificate",
            "200: anybody by everybody-sees-the-page",
            witness.outside(outer.call("/")),
        ),
        Case(
            "billing's figures, from outside with headers that claim it",
            refused,
            witness.outside(visitor.get(_FIGURES, headers=_CLAIMS)),
        ),
        Case("header fields that claim an identity", "0 of 4 arrived", _arrived(stage)),
    ]


def _arrived(stage: Stage) -> str:
    answer = stage.visitor().get("/checks/headers", headers={**_CLAIMS, _ORDINARY: "yes"})
    arrived = answer.body["headers"]
    if _ORDINARY.lower() not in arrived:
        return "even an ordinary field did not arrive"
    return f"{sum(name.lower() in arrived for name in _CLAIMS)} of {len(_CLAIMS)} arrived"


def _outbound(stage: Stage) -> list[Case]:
    """The login service asks for a certificate: who shows it one?"""
    calls = r"200 (?:POST /token|GET /jwks.json) .*client certificate: (\S+)"
    ours = set(re.findall(calls, stage.login.text()))
    StockCaller(stage.login_port, stage.zones.external()).call("/jwks.json")
    pattern = rf"GET /jwks.json .*client certificate: ({re.escape(EXTERNAL)})"
    shown = until(lambda: re.findall(pattern, stage.login.text()), _LOG_SECONDS)
    return [
        Case(
            "certificates that our APIs show the login service",
            "None",
            ", ".join(sorted(ours)) or "it did not call",
        ),
        Case(
            "control: by a stock client that loads our certificate",
            EXTERNAL,
            ", ".join(sorted(set(shown))) or "None",
        ),
    ]
