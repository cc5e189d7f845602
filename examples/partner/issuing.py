# SPDX-License-Identifier: Apache-2.0
"""Issue a certificate for one workload of a partner that has no CA."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.partner.trial import Trial

__all__ = ("show",)

# A trust domain of its own: no rule for ours matches it, and no other partner is in its root.
_OURS = """\
version: 1
partners:
  - trustDomain: partners.example.org
    bundle: partners/partners.example.org.trust-bundle.pem
"""
_DELIVERY = ("POST", "/deliveries")


def show(trial: Trial) -> None:
    """The partner sends a CSR; revoking all that it has is removing one root."""
    terminal = trial.terminal
    trial.found_organisations()
    terminal.run("python request.py acme")
    terminal.run(
        "kubetls ca issue-partner partners --trust-domain example.org --partner acme"
        " --path /orders --csr acme.csr --ttl 24h --out acme/tls.crt"
    )
    # What acme mounts: its certificate, its key, and whom it trusts.
    terminal.run("cp partners/partners.example.org.trust-bundle.pem acme/ca.crt")
    terminal.run(
        "kubetls bundle show --volume orders --format pem > acme/example.org.trust-bundle.pem"
    )
    terminal.write("theirs.yaml", "version: 1\npartners: []\n")
    trial.serve(_OURS)
    trial.call("acme delivers", "201", "acme", *_DELIVERY)
    trial.call("acme reads an order, for which there is no rule", "403", "acme")
    terminal.run("kubetls ca revoke-partner partners --trust-domain example.org --partner acme")
    trial.call_soon("acme delivers, revoked", "refused", "acme", *_DELIVERY)
