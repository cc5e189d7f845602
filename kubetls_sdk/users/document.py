# SPDX-License-Identifier: Apache-2.0
"""The users file: YAML text to settings.

    version: 1
    issuers:
      - issuer: https://login.example.com/
        audiences: https://orders.example.com
        keys: {url: "https://login.example.com/jwks.json"}
        algorithms: [RS256, ES256]
        requiredClaims: client_id
        certificateBound: if_present
    jwtSvids:
      audiences: spiffe://example.org/ns/shop/sa/orders

Rules:
    1. Unknown fields and versions are errors with file and line.
    2. Paths are relative to the file's own directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kubetls_sdk.authz.fields import Fields
from kubetls_sdk.authz.yaml_node import MAX_TEXT_BYTES
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.users.key_file import KeyFile
from kubetls_sdk.users.key_url import KeyUrl
from kubetls_sdk.users.keys import InlineKeys
from kubetls_sdk.users.settings import UserSettings
from kubetls_sdk.users.token_rules import CertificateBound, Issuer, JwtSvids

if TYPE_CHECKING:
    from kubetls_sdk.authz.yaml_node import Node
    from kubetls_sdk.users.keys import Keys

__all__ = ("parse_settings", "read_settings")

T = TypeVar("T")

_TOP_FIELDS = frozenset({"version", "token", "issuers", "jwtSvids"})
_TOKEN_FIELDS = frozenset({"header", "maxBytes"})
_RULE_FIELDS = frozenset(
    {"audiences", "algorithms", "types", "requiredClaims", "leewaySeconds", "certificateBound"}
)
_KEY_FIELDS = frozenset({"url", "file", "inline", "caBundle", "ttlSeconds", "maxStaleSeconds"})


def read_settings(path: str | os.PathLike[str]) -> UserSettings:
    """Read a users file once.

    Raises:
        ConfigurationError: Missing, unreadable, or not a users file.
    """
    try:
        with Path(path).open("rb") as stream:
            text = stream.read(MAX_TEXT_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigurationError(f"{path}: expected a readable users file, got {err}") from err
    return parse_settings(text, file=os.fspath(path))


def parse_settings(text: str, *, file: str) -> UserSettings:
    """Parse the text of a users file.

    Args:
        text: YAML.
        file: Its name, for errors and for relative paths.

    Raises:
        PolicyError: Not a valid users file; `.file` and `.line` say where.
    """
    top = Fields.of_document(text, file=file, known=_TOP_FIELDS)
    options = _token(top)
    svids = [_jwt_svids(each, file) for each in top.nodes("jwtSvids")]
    if len(svids) > 1:
        raise top.error("expected jwtSvids once", top.line_of("jwtSvids"))
    issuers = tuple(_issuer(each, file) for each in top.nodes("issuers"))
    options |= {"issuers": issuers, "jwt_svids": svids[0] if svids else None}
    return top.made(UserSettings, options)


def _token(top: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in top.nodes("token"):
        fields = Fields(node, file=top.file, known=_TOKEN_FIELDS)
        if fields.has("header"):
            found["header"] = fields.text("header").lower()
        if fields.has("maxBytes"):
            found["max_token_bytes"] = int(fields.number("maxBytes"))
    return found


def _issuer(node: Node, file: str) -> Issuer:
    fields = Fields(node, file=file, known=_RULE_FIELDS | {"issuer", "keys"})
    keys = [_keys(each, file) for each in fields.nodes("keys")]
    if len(keys) != 1:
        raise fields.error("expected 'keys' once: a url, a file or inline")
    return fields.made(Issuer, _rules(fields) | {"name": fields.text("issuer"), "keys": keys[0]})


def _jwt_svids(node: Node, file: str) -> JwtSvids:
    fields = Fields(node, file=file, known=_RULE_FIELDS | {"trustDomains"})
    domains = fields.values("trustDomains", TrustDomain.parse)
    return fields.made(JwtSvids, _rules(fields) | {"trust_domains": domains})


def _rules(fields: Fields) -> dict[str, Any]:
    lists = {
        "audiences": "audiences",
        "algorithms": "algorithms",
        "types": "types",
        "requiredClaims": "required_claims",
    }
    found: dict[str, Any] = {
        name: fields.texts(field) for field, name in lists.items() if fields.has(field)
    }
    if "audiences" not in found:
        raise fields.error("expected 'audiences': a token for somebody else is not for us")
    if fields.has("leewaySeconds"):
        found["leeway_seconds"] = fields.number("leewaySeconds")
    if fields.has("certificateBound"):
        word = fields.text("certificateBound")
        if word not in tuple(CertificateBound):
            known = ", ".join(CertificateBound)
            line = fields.line_of("certificateBound")
            raise fields.error(f"expected certificateBound of {known}, got {word!r}", line)
        found["certificate_bound"] = CertificateBound(word)
    return found


def _keys(node: Node, file: str) -> Keys:
    fields = Fields(node, file=file, known=_KEY_FIELDS)
    places = [name for name in ("url", "file", "inline") if fields.has(name)]
    if len(places) != 1:
        raise fields.error("expected keys as one of url, file or inline")
    if places[0] != "url" and fields.has("caBundle", "ttlSeconds"):
        raise fields.error("expected caBundle and ttlSeconds only with a url of keys")
    stale = (
        {"max_stale_seconds": fields.number("maxStaleSeconds")}
        if fields.has("maxStaleSeconds")
        else {}
    )
    if places[0] == "inline":
        if stale:
            raise fields.error("expected no maxStaleSeconds with inline keys")
        return fields.made(InlineKeys.parse, {"text": fields.text("inline")})
    if places[0] == "file":
        return fields.made(KeyFile, {"path": _path(fields, "file")} | stale)
    return fields.made(KeyUrl, _url(fields) | stale)


def _url(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {"url": fields.text("url")}
    if fields.has("caBundle"):
        found["ca_bundle"] = _path(fields, "caBundle")
    if fields.has("ttlSeconds"):
        found["ttl_seconds"] = fields.number("ttlSeconds")
        found["min_ttl_seconds"] = min(60.0, found["ttl_seconds"])
    return found


def _path(fields: Fields, name: str) -> str:
    return os.path.join(os.path.dirname(fields.file), fields.text(name))
