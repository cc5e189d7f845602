# SPDX-License-Identifier: Apache-2.0
"""The webhook's serving certificate, made and renewed by the leader without a failed admission.

Rules:
    1. Never from the workload CA: who serves the webhook is nobody's identity.
    2. The names are those that our MutatingWebhookConfiguration dials. Without the configuration
       there is nothing to do; with cert-manager's injection asked for, cert-manager does it.
    3. The configuration is read before the Secret, and each write names the version read: a leader
       of yesterday cannot take a CA away.
    4. A Secret that is not marked as ours belongs to somebody: it is left alone, and so is the
       caBundle.
    5. Deleting the Secret cuts off what was served (a stolen key): all is made anew at once.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from webhook.api.errors import AlreadyExistsError, ConflictError, NotFoundError
from webhook.api.resources import MUTATING_WEBHOOK_CONFIGURATIONS, SECRETS
from webhook.exceptions import WebhookError
from webhook.names import SERVING_SECRET, SYSTEM_NAMESPACE
from webhook.trust.labels import MANAGED
from webhook.trust.serving_pair import VALIDITY, ServingNames
from webhook.trust.serving_state import (
    PUBLISHED_AT,
    ServingState,
    advance_serving,
    certificates_in,
)
from webhook.trust.zone_keeper import Clock, now_utc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from cryptography import x509

    from webhook.api.client import Api

__all__ = ("CONFIGURATION", "ServingError", "ServingKeeper", "dialled_names")

CONFIGURATION: Final = "kubetls-injector"
_CERT_MANAGER: Final = ("cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret")
_MAX_ROUNDS: Final = 20


class ServingError(WebhookError):
    """The serving certificate cannot be kept; says who has to do something."""


class ServingKeeper:
    """Keeps Secret and caBundle.

    Args:
        api: The API server.
        namespace: Where the Secret is.
        clock: Aware UTC time in whole seconds.
        validity: Of a certificate.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str = SYSTEM_NAMESPACE,
        clock: Clock = now_utc,
        validity: timedelta = VALIDITY,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._clock = clock
        self._validity = validity

    async def keep(self) -> ServingState | None:
        """Do what is due.

        Returns:
            How it stands when nothing is due any more; None: it is not ours to keep.

        Raises:
            ServingError: The Secret is somebody else's, or the configuration dials nobody.
            ApiError: The API server failed.
        """
        for _ in range(_MAX_ROUNDS):
            try:
                configuration = await self._api.get(MUTATING_WEBHOOK_CONFIGURATIONS, CONFIGURATION)
            except NotFoundError:
                return None
            if _is_cert_managers(configuration):
                return None
            try:
                state, is_settled = await self._round(configuration)
            except (ConflictError, AlreadyExistsError):
                continue
            if is_settled:
                return state
        raise ServingError(
            "the webhook's Secret or configuration is changed by others all the time"
        )

    async def _round(self, configuration: Mapping[str, Any]) -> tuple[ServingState, bool]:
        secret = await self._secret()
        state = _state(secret)
        after = advance_serving(
            state,
            dialled_names(configuration),
            _published(configuration),
            now=self._clock(),
            validity=self._validity,
        )
        if after != state:
            await self._store(secret, after)
            return after, False
        return state, not await self._publish(configuration, state)

    async def _secret(self) -> dict[str, Any] | None:
        try:
            secret = await self._api.get(SECRETS, SERVING_SECRET, namespace=self._namespace)
        except NotFoundError:
            return None
        labels = secret["metadata"].get("labels") or {}
        if not MANAGED.items() <= labels.items():
            raise ServingError(
                f"Secret {SERVING_SECRET} is somebody else's: delete it, or have its CA injected"
            )
        return secret

    async def _store(self, secret: Mapping[str, Any] | None, state: ServingState) -> None:
        content = {
            key: base64.b64encode(value).decode("ascii") for key, value in state.content().items()
        }
        if secret is None:
            metadata = {
                "name": SERVING_SECRET,
                "namespace": self._namespace,
                "labels": dict(MANAGED),
            }
            body = {"metadata": metadata, "type": "kubernetes.io/tls", "data": content}
            await self._api.create(SECRETS, body)
            return
        old = secret["metadata"].get("annotations") or {}
        kept = {key: value for key, value in old.items() if key != PUBLISHED_AT}
        metadata = {**secret["metadata"], "annotations": {**kept, **state.annotations()}}
        await self._api.replace(SECRETS, {**secret, "metadata": metadata, "data": content})

    async def _publish(self, configuration: Mapping[str, Any], state: ServingState) -> bool:
        """Put the CAs into the configuration; tell whether that was to be done."""
        wanted = base64.b64encode(state.ca_bundle).decode("ascii")
        webhooks = [
            {**each, "clientConfig": {**each["clientConfig"], "caBundle": wanted}}
            for each in configuration["webhooks"]
        ]
        if webhooks == configuration["webhooks"]:
            return False
        body = {**configuration, "webhooks": webhooks}
        await self._api.replace(MUTATING_WEBHOOK_CONFIGURATIONS, body)
        return True


def dialled_names(configuration: Mapping[str, Any]) -> ServingNames:
    """The names and addresses that the API server dials for a configuration's webhooks.

    Raises:
        ServingError: There are none.
    """
    hosts = {_host(each["clientConfig"]) for each in configuration.get("webhooks") or ()}
    addresses = {each for each in map(_address, hosts) if each is not None}
    names = {host for host in hosts if host and _address(host) is None}
    if not names and not addresses:
        raise ServingError(f"{CONFIGURATION} dials nobody: expected a service or a URL")
    return ServingNames(tuple(sorted(names)), tuple(sorted(addresses, key=str)))


def _host(client: Mapping[str, Any]) -> str:
    service = client.get("service")
    if service:
        return f"{service['name']}.{service['namespace']}.svc"
    return urlsplit(client.get("url") or "").hostname or ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _state(secret: Mapping[str, Any] | None) -> ServingState:
    if secret is None:
        return ServingState(None)
    content = {key: _decoded(value) for key, value in (secret.get("data") or {}).items()}
    return ServingState.parse(content, secret["metadata"].get("annotations") or {})


def _published(configuration: Mapping[str, Any]) -> frozenset[x509.Certificate]:
    """What each caBundle of the configuration has."""
    bundles = [
        frozenset(certificates_in(_decoded(each["clientConfig"].get("caBundle") or "")))
        for each in configuration.get("webhooks") or ()
    ]
    return frozenset.intersection(*bundles) if bundles else frozenset()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_cert_managers(configuration: Mapping[str, Any]) -> bool:
    return any(key in (configuration["metadata"].get("annotations") or {}) for key in _CERT_MANAGER)
