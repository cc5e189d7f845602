# SPDX-License-Identifier: Apache-2.0
"""Sign the partner's CA with ours, under constraints: until then, and for these names only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.partner.trial import Trial

__all__ = ("show",)

# What is signed is an authority of the partner's own trust domain, in place of the partner's root.
_OURS = """\
version: 1
partners:
  - trustDomain: partner.example
    bundle: partner.example.trust-bundle.pem
"""
_THEIRS = """\
version: 1
partners:
  - trustDomain: example.org
    bundle: example.org.trust-bundle.pem
"""
_SIGN = (
    "kubetls ca cross-sign {theirs}/root-*[0-9a-f].pem --trust-domain {own} --partner {domain}"
    " --ca-certificate {ours}/root-*[0-9a-f].pem --ca-key {ours}/root-*.key.pem"
    " --any-subject --ttl 30d --out {domain}.trust-bundle.pem"
)


def show(trial: Trial) -> None:
    """Each side signs the other's CA; either may sign without the other."""
    terminal = trial.terminal
    trial.found_organisations()
    terminal.run(
        _SIGN.format(own="example.org", ours="ours", domain="partner.example", theirs="theirs")
    )
    terminal.run(
        _SIGN.format(own="partner.example", ours="theirs", domain="example.org", theirs="ours")
    )
    terminal.write("theirs.yaml", _THEIRS)
    trial.serve(_OURS)
    trial.call("the partner's shop reads an order", "200", "shop")
    trial.call("the partner's guest, for whom there is no rule", "403", "guest")
    trial.call("our web, forged by the partner's CA", "refused", "forged")
    trial.remove("the partner's shop, when its entry is removed", "shop")
