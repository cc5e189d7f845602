# SPDX-License-Identifier: Apache-2.0
"""The federation file: YAML text to partners.

    version: 1
    partners:
      - trustDomain: partner.example
        endpoint: {profile: https_web, url: "https://bundles.partner.example/"}
      - trustDomain: bank.example
        bundle: bank.example.json
        endpoint:
          profile: https_spiffe
          url: https://10.0.0.7:8443/bundle
          spiffeId: spiffe://bank.example/ns/spire/sa/bundles
      - trustDomain: old.example
        bundle: old.example.pem

Rules:
    1. Unknown fields and versions are errors with file and line.
    2. Paths are relative to the file's own directory.
    3. `partners: []` is a federation with nobody; leaving `partners` out is an error.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from kubetls_sdk.authz.fields import Fields
from kubetls_sdk.federation.partner import Endpoint, Partner
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.authz.yaml_node import Node

__all__ = ("ENDPOINT_FIELDS", "PARTNER_FIELDS", "parse_federation")

T = TypeVar("T")

MAX_PARTNERS = 256
_SECONDS = {
    "minRefreshSeconds": "min_refresh_seconds",
    "maxRefreshSeconds": "max_refresh_seconds",
    "maxStaleSeconds": "max_stale_seconds",
    "timeoutSeconds": "timeout_seconds",
}
PARTNER_FIELDS = ("trustDomain", "endpoint", "bundle", *_SECONDS)
"""What a partner may have."""
ENDPOINT_FIELDS = ("profile", "url", "spiffeId", "caFile")
"""What an endpoint may have."""


def parse_federation(text: str, *, file: str) -> tuple[Partner, ...]:
    """Parse the text of a federation file.

    Args:
        text: YAML.
        file: Its name, for errors and for relative paths.

    Raises:
        PolicyError: Not a valid federation file; `.file` and `.line` say where.
    """
    top = Fields.of_document(text, file=file, known=frozenset({"version", "partners"}))
    partners = tuple(_partner(each, file) for each in top.listed("partners"))
    if len(partners) > MAX_PARTNERS:
        raise top.error(f"expected at most {MAX_PARTNERS} partners, got {len(partners)}")
    _check_once(partners, top)
    return partners


def _check_once(partners: tuple[Partner, ...], top: Fields) -> None:
    domains = [partner.trust_domain for partner in partners]
    twice = next((str(each) for each in domains if domains.count(each) > 1), None)
    if twice is not None:
        raise top.error(f"expected each trust domain once, got {twice!r} again")


def _partner(node: Node, file: str) -> Partner:
    fields = Fields(node, file=file, known=frozenset(PARTNER_FIELDS))
    endpoints = [_endpoint(each, file) for each in fields.nodes("endpoint")]
    if len(endpoints) > 1:
        raise fields.error("expected one endpoint", fields.line_of("endpoint"))
    fields.text("trustDomain")
    found: dict[str, Any] = {
        "trust_domain": _one(fields, "trustDomain", TrustDomain.parse),
        "endpoint": endpoints[0] if endpoints else None,
        "bundle": _path(fields, "bundle"),
    }
    found |= {name: fields.number(key) for key, name in _SECONDS.items() if fields.has(key)}
    return fields.made(Partner, found)


def _endpoint(node: Node, file: str) -> Endpoint:
    fields = Fields(node, file=file, known=frozenset(ENDPOINT_FIELDS))
    found = {
        "profile": fields.text("profile"),
        "url": fields.text("url"),
        "spiffe_id": _one(fields, "spiffeId", SpiffeId.parse),
        "ca_file": _path(fields, "caFile"),
    }
    return fields.made(Endpoint, found)


def _one(fields: Fields, name: str, parse: Callable[[str], T]) -> T | None:
    values = fields.values(name, parse)
    if len(values) > 1:
        raise fields.error(f"expected one value of {name}", fields.line_of(name))
    return values[0] if values else None


def _path(fields: Fields, name: str) -> str | None:
    if not fields.has(name):
        return None
    return os.path.abspath(os.path.join(os.path.dirname(fields.file), fields.text(name)))
