# SPDX-License-Identifier: Apache-2.0
"""Exchange trust bundles, by an endpoint: the partner publishes its roots, and we follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.demonstration.child import DemoError

if TYPE_CHECKING:
    from examples.partner.trial import Trial

__all__ = ("show",)

# The bundle that we got once verifies the first fetch; each fetched one verifies the next.
_OURS = """\
version: 1
partners:
  - trustDomain: partner.example
    bundle: partner.example.json
    endpoint:
      profile: https_spiffe
      url: https://127.0.0.1:{port}/
      spiffeId: spiffe://partner.example/ns/spire/sa/bundles
    minRefreshSeconds: 0.2 # the default of a minute is long for a demonstration
    maxRefreshSeconds: 0.2
"""
_THEIRS = """\
version: 1
partners:
  - trustDomain: example.org
    bundle: example.org.json
"""


def show(trial: Trial) -> None:
    """The partner replaces its root, and nobody here does anything."""
    terminal = trial.terminal
    trial.found_organisations()
    terminal.run("kubetls dev issue theirs --path /ns/spire/sa/bundles --volume bundles")
    terminal.run("kubetls bundle show --volume orders --format jwks > example.org.json")
    terminal.run("kubetls bundle show --volume bundles --format jwks > partner.example.json")
    terminal.write("theirs.yaml", _THEIRS)
    port = terminal.serve(
        "KUBETLS_DIR=bundles kubetls bundle serve --profile https_spiffe"
        " --host 127.0.0.1 --port 8443"
    )
    trial.serve(_OURS.format(port=port))
    trial.call("the partner's shop reads an order", "200", "shop")
    terminal.run("kubetls dev rotate theirs root add")
    _wait_for_two_roots(trial, port)
    terminal.run("kubetls dev rotate theirs root activate")
    trial.call_soon("the partner's shop, under the partner's new root", "200", "shop")
    trial.call("our web, forged by the partner's CA", "refused", "forged")
    trial.remove("the partner's shop, when its entry is removed", "shop")


def _wait_for_two_roots(trial: Trial, port: int) -> None:
    """As the partner has to: a root is published some refresh hints before it signs."""
    fetch = (
        f"kubetls bundle fetch https://127.0.0.1:{port}/ --trust-domain partner.example"
        " --profile https_spiffe --spiffe-id spiffe://partner.example/ns/spire/sa/bundles"
        " --bundle partner.example.json --json"
    )
    for _ in range(20):
        if trial.terminal.run(fetch).count("sha256") > 1:
            return
    raise DemoError("the partner's new root is not published")
