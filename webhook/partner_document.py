# SPDX-License-Identifier: Apache-2.0
"""A partner from YAML: with its bundle, the endpoint that it is fetched from, or a zone of ours.

    - name: acme
      trustDomain: partner.example
      namespaces: [shop]
      endpoint: {url: "https://bundles.partner.example/", profile: https_web, webRoots: true}
      refresh: {minimum: 1m, maximum: 1h}
      maximumAge: 24h
    - name: bank
      trustDomain: bank.example
      namespaces: [pay]
      endpoint:
        url: https://10.0.0.7:8443/bundle
        profile: https_spiffe
        spiffeId: spiffe://bank.example/ns/spire/sa/bundles
        bootstrap: |
          -----BEGIN CERTIFICATE-----

    - name: pci
      zone: pci
      namespaces: [shop]

Rules:
    1. The profile is written down with what it authenticates by; a field that would be ignored is
       an error.
    2. A bundle whose authorities say that they are of another trust domain is one, too.

Spec: SPIFFE Federation §5.1, §5.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubetls_sdk.authz.fields import Fields
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation.bundle_document import parse_bundle
from kubetls_sdk.federation.partner import Endpoint, Profile
from kubetls_sdk.federation.partner import Partner as FederatedPartner
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
from webhook.config_fields import bundle_of, name_of, one, parse_duration, patterns_of
from webhook.partner import Partner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from kubetls_sdk.bundle import TrustBundle
    from webhook.config import Zone

__all__ = ("ENDPOINT_FIELDS", "PARTNER_FIELDS", "REFRESH_FIELDS", "read_partner")

_OF_ENDPOINTS = ("refresh", "maximumAge")
PARTNER_FIELDS = frozenset(
    {"name", "trustDomain", "bundle", "endpoint", "zone", "namespaces", *_OF_ENDPOINTS}
)
"""What a partner may have."""
ENDPOINT_FIELDS = frozenset({"url", "profile", "webRoots", "roots", "spiffeId", "bootstrap"})
"""What an endpoint may have."""
REFRESH_FIELDS = frozenset({"minimum", "maximum"})
"""What `refresh` may have."""
_AGES = 3


def read_partner(fields: Fields, *, zones: Mapping[str, Zone]) -> Partner:
    """Read a partner.

    Args:
        fields: Of it.
        zones: Ours, by name.

    Raises:
        PolicyError: Not a valid one; `.file` and `.line` say where.
    """
    if len(fields.names & {"bundle", "endpoint", "zone"}) != 1:
        raise fields.error("expected one of bundle, endpoint and zone")
    if fields.has("zone"):
        return _zone(fields, zones)
    domain = one(fields, "trustDomain", TrustDomain.parse)
    values: dict[str, Any] = {
        "name": name_of(fields),
        "trust_domain": domain,
        "namespaces": patterns_of(fields, "namespaces"),
    }
    if fields.has("endpoint"):
        values["federated"] = _federated(fields, domain)
    else:
        useless = fields.first(*_OF_ENDPOINTS)
        if useless is not None:
            raise fields.error(f"expected {useless} beside an endpoint", fields.line_of(useless))
        values["bundle"] = bundle_of(fields, "bundle", domain, parse=parse_bundle)
    return fields.made(Partner, values)


def _zone(fields: Fields, zones: Mapping[str, Zone]) -> Partner:
    useless = fields.first("trustDomain", *_OF_ENDPOINTS)
    if useless is not None:
        raise fields.error(f"expected no {useless} beside zone", fields.line_of(useless))
    zone = zones.get(fields.text("zone"))
    if zone is None:
        expected = f"expected zone to be one of {', '.join(zones)}, got {fields.text('zone')!r}"
        raise fields.error(expected, fields.line_of("zone"))
    values = {
        "name": name_of(fields),
        "trust_domain": zone.trust_domain,
        "namespaces": patterns_of(fields, "namespaces"),
        "zone": zone,
    }
    return fields.made(Partner, values)


def _federated(fields: Fields, domain: TrustDomain) -> FederatedPartner:
    endpoint, bootstrap = _endpoint(_inner(fields, "endpoint", ENDPOINT_FIELDS), domain)
    values: dict[str, Any] = {"trust_domain": domain, "endpoint": endpoint, "bundle": bootstrap}
    if fields.has("refresh"):
        refresh = _inner(fields, "refresh", REFRESH_FIELDS)
        if not refresh.has(*REFRESH_FIELDS):
            raise refresh.error("expected minimum or maximum in refresh")
        for field, name in (("minimum", "min"), ("maximum", "max")):
            if refresh.has(field):
                values[f"{name}_refresh_seconds"] = _seconds(refresh, field)
    if fields.has("maximumAge"):
        values["max_stale_seconds"] = _seconds(fields, "maximumAge")
    _check_times(fields, values)
    return fields.made(FederatedPartner, values)


def _check_times(fields: Fields, values: dict[str, Any]) -> None:
    shortest, longest, age = (
        values.get(name, getattr(FederatedPartner, name))
        for name in ("min_refresh_seconds", "max_refresh_seconds", "max_stale_seconds")
    )
    if shortest > longest:
        raise fields.error(
            f"expected refresh.minimum up to refresh.maximum, got {shortest:g} s, {longest:g} s",
            fields.line_of("refresh"),
        )
    if age < _AGES * shortest:
        raise fields.error(
            f"expected maximumAge to be {_AGES} refresh.minimum or more,"
            f" got {age:g} s, {shortest:g} s"
        )


def _endpoint(fields: Fields, domain: TrustDomain) -> tuple[Endpoint, TrustBundle | None]:
    profile = one(fields, "profile", _profile)
    values: dict[str, Any] = {"url": fields.text("url"), "profile": profile}
    if profile is Profile.WEB:
        _check_web(fields)
        if fields.has("roots"):
            values["roots"] = fields.text("roots")
        return fields.made(Endpoint, values), None
    if useless := fields.first("webRoots", "roots"):
        raise fields.error(f"expected {useless} with https_web only", fields.line_of(useless))
    if fields.has("spiffeId"):
        values["spiffe_id"] = one(fields, "spiffeId", SpiffeId.parse)
    endpoint = fields.made(Endpoint, values)
    return endpoint, _bootstrap(fields, endpoint, domain)


def _profile(text: str) -> Profile:
    if text not in tuple(Profile):
        raise ConfigurationError(f"expected {' or '.join(Profile)}, got {text!r}")
    return Profile(text)


def _check_web(fields: Fields) -> None:
    if useless := fields.first("spiffeId", "bootstrap"):
        raise fields.error(f"expected {useless} with https_spiffe only", fields.line_of(useless))
    if fields.flag("webRoots") == fields.has("roots"):
        raise fields.error("expected webRoots: true or roots with https_web, to verify the server")


def _bootstrap(fields: Fields, endpoint: Endpoint, domain: TrustDomain) -> TrustBundle | None:
    server = endpoint.spiffe_id
    is_own = server is not None and server.trust_domain == domain
    if is_own != fields.has("bootstrap"):
        raise fields.error(
            "expected bootstrap, which verifies the first fetch, beside a spiffeId of the partner's"
            " own trust domain, and only there"
        )
    if not is_own:
        return None
    return bundle_of(fields, "bootstrap", domain, parse=parse_bundle)


def _inner(fields: Fields, name: str, known: frozenset[str]) -> Fields:
    nodes = fields.nodes(name)
    if len(nodes) != 1:
        raise fields.error(f"expected one {name}", fields.line_of(name))
    return Fields(nodes[0], file=fields.file, known=known)


def _seconds(fields: Fields, name: str) -> float:
    found: timedelta = one(fields, name, parse_duration)
    return found.total_seconds()
