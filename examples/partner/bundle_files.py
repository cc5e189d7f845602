# SPDX-License-Identifier: Apache-2.0
"""Exchange trust bundles, as files: each side gives the other its roots, and mounts what it got."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.partner.trial import NOBODY

if TYPE_CHECKING:
    from examples.partner.trial import Trial

__all__ = ("show",)

_OURS = """\
version: 1
partners:
  - trustDomain: partner.example
    bundle: partner.example.json
"""
_THEIRS = """\
version: 1
partners:
  - trustDomain: example.org
    bundle: example.org.json
"""


def show(trial: Trial) -> None:
    """Nothing is fetched: whoever changes roots sends the file again."""
    terminal = trial.terminal
    trial.found_organisations()
    # Each side exports its bundle, and reads the fingerprints to the other over the phone.
    terminal.run("kubetls bundle show --volume orders --format jwks > example.org.json")
    terminal.run("kubetls bundle show --volume shop --format jwks > partner.example.json")
    terminal.run("kubetls bundle show partner.example.json --trust-domain partner.example")
    terminal.write("theirs.yaml", _THEIRS)
    trial.serve(NOBODY)
    trial.call("the partner's shop, before", "refused", "shop")
    terminal.write("ours.yaml", _OURS)
    trial.call_soon("the partner's shop reads an order", "200", "shop")
    trial.call("the partner's guest, for whom there is no rule", "403", "guest")
    trial.call("our web, forged by the partner's CA", "refused", "forged")
    trial.remove("the partner's shop, when its entry is removed", "shop")
