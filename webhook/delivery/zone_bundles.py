# SPDX-License-Identifier: Apache-2.0
"""The published bundles of zones and partners, as secret issuer and node driver read them.

They verify under them and hand them on. They have no right to see a CA pool; they read what every
pod may read.

Rules:
    1. What the configuration has, an external signer's bundle or a partner's, comes from nowhere
       else.
    2. Our own zones' bundles, and those that the leader fetches, come from their
       ClusterTrustBundle; from the leader's ConfigMap where the API server has none.
    3. A zone's bundle that is missing, empty or cannot be read issues nothing. A partner's trusts
       nobody, as the kubelet has it for pod certificates; so does one of another trust domain that
       the partner had before.
"""

from __future__ import annotations

import logging
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError
from webhook.api import Informer
from webhook.api.informer_group import InformerGroup
from webhook.exceptions import IssuanceError
from webhook.names import bundle_file, bundle_name, partner_bundle_name
from webhook.partner import Partner
from webhook.trust.labels import WITHDRAWN
from webhook.trust.publication import fallback_name, partner_fallback_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from webhook.api import Api, Resource
    from webhook.config import Zone

__all__ = ("NO_BUNDLE", "ZoneBundles")

_log = logging.getLogger(__name__)

NO_BUNDLE: Final = "NoTrustBundle"


class ZoneBundles(InformerGroup["Zone | Partner", str]):
    """The bundles of the zones and partners that are followed.

    Args:
        api: The API server.
        resource: Where they are published: ClusterTrustBundles or ConfigMaps.
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
        self._parsed: dict[Zone | Partner, tuple[str, TrustBundle]] = {}

    async def follow(self, keys: Iterable[Zone | Partner]) -> frozenset[Zone | Partner]:
        """Follow exactly these bundles, those apart that the configuration has."""
        gone = await super().follow(each for each in keys if each.bundle is None)
        for key in gone:
            self._parsed.pop(key, None)
        return gone

    def bundle(self, zone: Zone) -> TrustBundle:
        """The bundle of a zone.

        Raises:
            IssuanceError: There is none yet; retryable.
        """
        if zone.bundle is not None:
            return zone.bundle
        try:
            found = self._published(zone)
        except BundleError as err:
            raise _missing(zone) from err
        if not found.authorities:
            raise _missing(zone)
        return found

    def partner_bundle(self, partner: Partner) -> TrustBundle:
        """The bundle of a partner; empty when there is none, or none that can be read."""
        owner = partner.zone or partner
        if owner.bundle is not None:
            return owner.bundle
        try:
            return self._published(owner)
        except BundleError as err:
            _log.error("trust bundle of partner %s: nobody of it is trusted: %s", partner.name, err)
            return TrustBundle(partner.trust_domain, ())

    def _published(self, owner: Zone | Partner) -> TrustBundle:
        followed = self.informer(owner)
        text = (followed.get(self._place, self._name(owner)) if followed else None) or ""
        known = self._parsed.get(owner)
        if known is None or known[0] != text:
            found = TrustBundle.from_pem(owner.trust_domain, text.encode())
            known = self._parsed[owner] = (text, found)
        return known[1]

    def _watch(self, owner: Zone | Partner) -> Informer[str]:
        informer = Informer(
            self._api,
            self._resource,
            partial(_text, owner),
            namespace=self._place,
            field_selector=f"metadata.name={self._name(owner)}",
        )
        informer.subscribe(lambda _old, _new: self._changed())
        return informer

    @property
    def _place(self) -> str | None:
        return self._namespace if self._resource.namespaced else None

    def _name(self, owner: Zone | Partner) -> str:
        if isinstance(owner, Partner):
            fallback = partner_fallback_name(owner) or ""
            return fallback if self._resource.namespaced else partner_bundle_name(owner.name)
        if self._resource.namespaced:
            return fallback_name(owner)
        return bundle_name(owner.signer_name, owner.trust_domain)


def _text(owner: Zone | Partner, body: Mapping[str, Any]) -> str:
    metadata = body["metadata"]
    if WITHDRAWN in (metadata.get("annotations") or {}):
        return ""
    if (
        isinstance(owner, Partner)
        and not owner.labels.items() <= (metadata.get("labels") or {}).items()
    ):
        return ""
    if "spec" in body:
        return str(body["spec"].get("trustBundle") or "")
    return str((body.get("data") or {}).get(bundle_file(owner.trust_domain), ""))


def _missing(zone: Zone) -> IssuanceError:
    return IssuanceError(
        f"zone {zone.name!r} has no published trust bundle yet", reason=NO_BUNDLE, is_retryable=True
    )
