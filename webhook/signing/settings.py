# SPDX-License-Identifier: Apache-2.0
"""What a signer replica is started with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from webhook.names import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("SignerSettings",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerSettings:
    """What a replica is started with.

    Attributes:
        config: The platform's configuration, a mounted file.
        identity: Of this replica: its pod's name.
        namespace: Where the control plane lives.
        kubeconfig: How to reach the API server; None: as the pod's service account.
        secret_issuer: Name of the secret issuer's service account; empty: there is none.
        host: Where probes and metrics are served.
        status_port: Of probes and metrics.
        limit: Answers under way at once, of each kind.
        drain_seconds: How long an end waits for what is under way.
        leads: Whether it stands for election as the leader (`webhook.trust.leader`).
        keeps_serving: Whether the leader keeps the webhook's serving certificate.
    """

    config: Path
    identity: str
    namespace: str = SYSTEM_NAMESPACE
    kubeconfig: Path | None = None
    secret_issuer: str = "kubetls-secret-issuer"  # noqa: S105 - the name of an account
    host: str = "0.0.0.0"  # noqa: S104 - the kubelet comes from outside the pod
    status_port: int = 8080
    limit: int = 32
    drain_seconds: float = 10.0
    leads: bool = True
    keeps_serving: bool = True

    @property
    def secret_issuer_user(self) -> str:
        """The secret issuer's account as the API server names it."""
        if not self.secret_issuer:
            return ""
        return f"system:serviceaccount:{self.namespace}:{self.secret_issuer}"
