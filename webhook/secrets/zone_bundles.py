# SPDX-License-Identifier: Apache-2.0
"""The published trust bundles of our zones: what the secret issuer verifies under and hands on.

It has no right to see a CA pool; it reads what every pod may read.

Rules:
    1. An external signer's zone has its bundle in the configuration, and from nowhere else.
    2. Our own zones' bundles come from their ClusterTrustBundle; from the leader's ConfigMap where
       the API server has none.
    3. A bundle that is missing, empty or cannot be read issues nothing.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError
from webhook.api import Informer
from webhook.api.informer_group import InformerGroup
from webhook.exceptions import IssuanceError
from webhook.names import bundle_name
from webhook.trust.publication import fallback_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from webhook.api import Api, Resource
    from webhook.config import Zone

__all__ = ("NO_BUNDLE", "ZoneBundles")

NO_BUNDLE: Final = "NoTrustBundle"


class ZoneBundles(InformerGroup["Zone", str]):
    """The bundles of the zones that are followed.

    Args:
        api: The API server.
        resource: Where our own zones' bundles are: ClusterTrustBundles or ConfigMaps.
        namespace: Of the ConfigMaps.
        changed: Called when a bundle has changed.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        *,
        namespace: str,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(self._watch, order=attrgetter("name"))
        self._api = api
        self._resource = resource
        self._namespace = namespace
        self._changed = changed
        self._parsed: dict[Zone, tuple[str, TrustBundle]] = {}

    async def follow(self, keys: Iterable[Zone]) -> frozenset[Zone]:
        """Follow exactly these zones' bundles, those apart that the configuration has."""
        return await super().follow(zone for zone in keys if zone.bundle is None)

    def bundle(self, zone: Zone) -> TrustBundle:
        """The bundle of a zone.

        Raises:
            IssuanceError: There is none yet; retryable.
        """
        if zone.bundle is not None:
            return zone.bundle
        followed = self.informer(zone)
        text = followed.get(self._place, self._name(zone)) if followed else None
        known = self._parsed.get(zone)
        if known is None or known[0] != text:
            known = self._parsed[zone] = (text or "", _parse(zone, text or ""))
        return known[1]

    def _watch(self, zone: Zone) -> Informer[str]:
        informer = Informer(
            self._api,
            self._resource,
            _text,
            namespace=self._place,
            field_selector=f"metadata.name={self._name(zone)}",
        )
        informer.subscribe(lambda _old, _new: self._changed())
        return informer

    @property
    def _place(self) -> str | None:
        return self._namespace if self._resource.namespaced else None

    def _name(self, zone: Zone) -> str:
        if self._resource.namespaced:
            return fallback_name(zone)
        return bundle_name(zone.signer_name, zone.trust_domain)


def _text(body: Mapping[str, Any]) -> str:
    if "spec" in body:
        return str(body["spec"].get("trustBundle") or "")
    return "\n".join((body.get("data") or {}).values())


def _parse(zone: Zone, text: str) -> TrustBundle:
    try:
        found = TrustBundle.from_pem(zone.trust_domain, text.encode())
    except BundleError as err:
        raise _missing(zone) from err
    if not found.authorities:
        raise _missing(zone)
    return found


def _missing(zone: Zone) -> IssuanceError:
    return IssuanceError(
        f"zone {zone.name!r} has no published trust bundle yet", reason=NO_BUNDLE, is_retryable=True
    )
