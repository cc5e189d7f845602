# SPDX-License-Identifier: Apache-2.0
"""The platform's configuration from YAML.

    version: 1
    clusterDomain: cluster.local
    zones:
      - name: default
        trustDomain: example.org
    partners:
      - name: acme
        trustDomain: partner.example
        bundle: |  # or an endpoint, see `partner_document`
          -----BEGIN CERTIFICATE-----
        namespaces: [shop, "pay-*"]
    namespaces:
      - names: ["*"]
        modes: [pod-certificate]
        keyTypes: [ECDSAP256, ECDSAP384]
        lifetime: {default: 24h, maximum: 7d}

Rules:
    1. Unknown fields and versions are errors with file and line.
    2. Durations have a unit: `90m`, `24h`, `7d`.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kubetls_sdk.authz.fields import Fields
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import TrustDomain
from webhook.config import (
    KeyType,
    Lifetime,
    Mode,
    NamespaceRule,
    PlatformConfig,
    TrustStore,
    Zone,
)
from webhook.config_fields import (
    LABEL,
    bundle_of,
    matching,
    name_of,
    one,
    parse_duration,
    patterns_of,
)
from webhook.names import DEFAULT_MOUNT_PATH, DEFAULT_SIGNER_NAME, PREFIX, TRUST_STORE_PLACES
from webhook.partner_document import PARTNER_FIELDS, read_partner

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

    from kubetls_sdk.authz.yaml_node import Node

__all__ = ("parse_duration", "parse_platform")

E = TypeVar("E", bound="StrEnum")

_TOP = frozenset({"version", "clusterDomain", "zones", "partners", "namespaces"})
_ZONE = frozenset(
    {"name", "trustDomain", "signerName", "externalSigner", "trustBundle", "propagation"}
)
_RULE = frozenset(
    {
        "names",
        "zones",
        "modes",
        "keyTypes",
        "lifetime",
        "mountPaths",
        "trustStores",
        "shortNames",
        "inject",
    }
)
_LIFETIME = frozenset({"default", "maximum"})

_DOMAIN = re.compile(rf"{LABEL}(?:\.{LABEL})*", re.ASCII)
_SIGNER = re.compile(rf"({LABEL}(?:\.{LABEL})+)/({LABEL}(?:\.{LABEL})*)", re.ASCII)
_MOUNT_PATH = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", re.ASCII)
_DEFAULT_LIFETIME = Lifetime(timedelta(hours=24), timedelta(hours=24))


def parse_platform(text: str, *, file: str) -> PlatformConfig:
    """Parse the text of the configuration.

    Raises:
        ConfigurationError: Not valid; the message has file and line.
    """
    top = Fields.of_document(text, file=file, known=_TOP)
    zones = _named(top, "zones", _zone)
    config = {
        "zones": zones,
        "partners": _named(top, "partners", partial(read_partner, zones=zones)),
        "rules": tuple(_rule(each, file, tuple(zones)) for each in top.nodes("namespaces")),
    }
    if top.has("clusterDomain"):
        config["cluster_domain"] = matching(top, "clusterDomain", _DOMAIN, "a DNS name")
    return top.made(PlatformConfig, config)


def _named(top: Fields, name: str, read: Callable[[Fields], Any]) -> dict[str, Any]:
    known = _ZONE if name == "zones" else PARTNER_FIELDS
    found: dict[str, Any] = {}
    for node in top.nodes(name):
        fields = Fields(node, file=top.file, known=known)
        value = read(fields)
        if value.name in found:
            raise fields.error(f"expected each name of {name} once, got {value.name!r} again")
        found[value.name] = value
    return found


def _zone(fields: Fields) -> Zone:
    name = name_of(fields)
    default = DEFAULT_SIGNER_NAME if name == "default" else f"{PREFIX}/{name}"
    values: dict[str, Any] = {"name": name, "signer_name": default}
    values["trust_domain"] = one(fields, "trustDomain", TrustDomain.parse)
    if fields.has("signerName"):
        values["signer_name"] = matching(fields, "signerName", _SIGNER, "domain/name")
    if fields.has("propagation"):
        values["propagation"] = one(fields, "propagation", parse_duration)
    if fields.has("externalSigner") != fields.has("trustBundle"):
        raise fields.error("expected externalSigner and trustBundle together, or neither")
    if fields.has("externalSigner"):
        values["external_signer"] = matching(fields, "externalSigner", _SIGNER, "domain/name")
        values["bundle"] = bundle_of(fields, "trustBundle", values["trust_domain"])
    return fields.made(Zone, values)


def _rule(node: Node, file: str, zones: tuple[str, ...]) -> NamespaceRule:
    fields = Fields(node, file=file, known=_RULE)
    inject = fields.text("inject") if fields.has("inject") else "all"
    if inject not in ("all", "labelled"):
        raise fields.error(f"expected inject of all or labelled, got {inject!r}")
    values = {
        "names": patterns_of(fields, "names"),
        "zones": fields.texts("zones") or zones[:1],
        "modes": _words(fields, "modes", Mode) or (Mode.POD_CERTIFICATE,),
        "key_types": _words(fields, "keyTypes", KeyType) or (KeyType.ECDSA_P256,),
        "lifetime": _lifetime(fields),
        "mount_paths": fields.values("mountPaths", _mount_path) or (DEFAULT_MOUNT_PATH,),
        "trust_stores": _words(fields, "trustStores", TrustStore) or tuple(TrustStore),
        "short_names": fields.flag("shortNames"),
        "injects_all": inject == "all",
    }
    return fields.made(NamespaceRule, values)


def _lifetime(fields: Fields) -> Lifetime:
    for node in fields.nodes("lifetime"):
        inner = Fields(node, file=fields.file, known=_LIFETIME)
        default = one(inner, "default", parse_duration)
        maximum = one(inner, "maximum", parse_duration) if inner.has("maximum") else default
        return inner.made(Lifetime, {"default": default, "maximum": maximum})
    return _DEFAULT_LIFETIME


def _mount_path(text: str) -> str:
    if not _MOUNT_PATH.fullmatch(text) or "/.." in text:
        raise ConfigurationError(f"expected an absolute path, got {text!r}")
    for place in TRUST_STORE_PLACES:
        if f"{place}/".startswith(f"{text}/") or text.startswith(f"{place}/"):
            raise ConfigurationError(f"expected a path apart from {place}, got {text!r}")
    return text


def _words(fields: Fields, name: str, kind: type[E]) -> tuple[E, ...]:
    def word(text: str) -> E:
        if text not in tuple(kind):
            raise ConfigurationError(f"expected one of {', '.join(kind)}, got {text!r}")
        return kind(text)

    return fields.values(name, word)
