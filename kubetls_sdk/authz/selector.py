# SPDX-License-Identifier: Apache-2.0
"""`from` in YAML: one alternative of whom a rule is about.

Rules:
    1. `namespace` and `serviceAccount` mean our own trust domain unless `trustDomain` is given.
    2. Anonymous callers are meant only by `anonymous: true`, which stands alone.
    3. An allow rule says whom it is about: only negative parts are an error.
"""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING

from kubetls_sdk.authz.model import CallerPattern, Effect, Identity
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.spiffe_id_pattern import SpiffeIdPattern

if TYPE_CHECKING:
    from kubetls_sdk.authz.fields import Fields

__all__ = ("IDENTITY_FIELDS", "parse_identity")

_STRUCTURED = ("trustDomain", "namespace", "serviceAccount")
_NEGATIVE = ("notSpiffeId", "notTrustDomain", "notNamespace", "notServiceAccount")
IDENTITY_FIELDS = frozenset({"spiffeId", "anonymous", *_STRUCTURED, *_NEGATIVE})

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


def parse_identity(fields: Fields, *, own: TrustDomain, effect: Effect) -> Identity:
    """Read one alternative of `from`.

    Raises:
        PolicyError: Unclear or contradictory.
    """
    names = fields.names
    if "anonymous" in names:
        return _anonymous(fields)
    if "spiffeId" in names and not names.isdisjoint(_STRUCTURED):
        raise fields.error("expected either spiffeId or trustDomain, namespace, serviceAccount")
    if not names:
        raise fields.error("expected spiffeId, namespace, serviceAccount or trustDomain, got none")
    patterns = _patterns(fields, own)
    if effect is Effect.ALLOW and not patterns:
        raise fields.error(
            "expected an allow rule to say whom it allows, got only negative conditions",
            fields.line_of(fields.first(*_NEGATIVE) or ""),
        )
    if names.isdisjoint(_NEGATIVE):
        return Identity(patterns)
    identity = Identity(
        patterns=patterns,
        domains=_domains(fields, patterns, own),
        not_trust_domains=frozenset(d.name for d in fields.values("notTrustDomain", TrustDomain)),
        not_namespaces=frozenset(fields.values("notNamespace", _segment)),
        not_service_accounts=frozenset(fields.values("notServiceAccount", _segment)),
        not_ids=fields.values("notSpiffeId", _spiffe_id),
    )
    _check_satisfiable(fields, identity)
    return identity


def _anonymous(fields: Fields) -> Identity:
    if not fields.flag("anonymous"):
        raise fields.error("expected anonymous to be true or absent", fields.line_of("anonymous"))
    if fields.has("spiffeId", *_STRUCTURED, *_NEGATIVE):
        raise fields.error("expected nothing beside anonymous: make it another item of 'from'")
    return Identity(is_anonymous=True)


def _patterns(fields: Fields, own: TrustDomain) -> tuple[CallerPattern, ...]:
    names = fields.names
    if "spiffeId" in names:
        return fields.values("spiffeId", _spiffe_id)
    if names.isdisjoint(_STRUCTURED):
        return ()
    domains = fields.values("trustDomain", _domain) or (own.name,)
    if len(domains) > 1 and None in domains:
        raise fields.error("expected trustDomain '*' alone", fields.line_of("trustDomain"))
    if names.isdisjoint(("namespace", "serviceAccount")):
        return tuple(CallerPattern(domain, is_prefix=True) for domain in domains)
    namespaces = fields.values("namespace", _wild_segment) or ("*",)
    accounts = fields.values("serviceAccount", _wild_segment) or ("*",)
    return tuple(
        CallerPattern(domain, ("ns", namespace, "sa", account))
        for domain, namespace, account in product(domains, namespaces, accounts)
    )


def _domains(
    fields: Fields, patterns: tuple[CallerPattern, ...], own: TrustDomain
) -> frozenset[str] | None:
    if not patterns:
        return frozenset({own.name})
    names = {pattern.trust_domain for pattern in patterns}
    return None if None in names else frozenset(name for name in names if name is not None)


def _domain(text: str) -> str | None:
    return None if text == "*" else TrustDomain.parse(text).name


def _segment(text: str) -> str:
    if not _SEGMENT.fullmatch(text) or text in (".", ".."):
        raise ConfigurationError(f"expected letters, digits, '.', '-' and '_', got {text!r}")
    return text


def _wild_segment(text: str) -> str:
    return text if text == "*" else _segment(text)


def _spiffe_id(text: str) -> CallerPattern:
    pattern = SpiffeIdPattern.parse(text)
    if pattern.segments and pattern.segments[-1] == "**":
        return CallerPattern(pattern.trust_domain.name, pattern.segments[:-1], True, True)
    return CallerPattern(pattern.trust_domain.name, pattern.segments)


def _check_satisfiable(fields: Fields, identity: Identity) -> None:
    for pattern in identity.patterns:
        segments = pattern.segments
        is_workload = len(segments) == 4 and (segments[0], segments[2]) == ("ns", "sa")
        if (
            pattern.trust_domain in identity.not_trust_domains
            or (is_workload and segments[1] in identity.not_namespaces)
            or (is_workload and segments[3] in identity.not_service_accounts)
            or pattern in identity.not_ids
        ):
            raise fields.error(f"contradictory: {pattern} is named and excluded")
