# SPDX-License-Identifier: Apache-2.0
"""Cross-signing: a partner's CA, signed by ours, under constraints.

The result is an anchor for the partner's own trust bundle, where it replaces the partner's root:
verifiers end the path there. Reaching our root through it proves nothing, since our root is no
authority of the partner's trust domain. The constraints are for whoever trusts our root and knows
no trust domains.

Rules:
    1. The certificate lives no longer than either CA, and no CA below it may be longer than both
       allow.
    2. A CA that has our name or our key is refused: constraints do not bind what looks self-issued.
    3. Only for TLS on both sides, so not for code, mail or logging in.

Spec: RFC 5280 §4.2.1.10, §6.1.3 (b), §6.1.4 (l); X509-SVID §3.2, §4.2.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kubetls_sdk._distinguished_name import canonical
from kubetls_sdk._issuer import PathError, check_certificate
from kubetls_sdk._profile import find_extension
from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.federation.signing.content import Content, authority_key_usage

if TYPE_CHECKING:
    from datetime import datetime

    from kubetls_sdk.federation.signing.authority import SigningAuthority
    from kubetls_sdk.federation.signing.constraints import PartnerConstraints
    from kubetls_sdk.federation.signing.partner_authority import PartnerAuthority
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("DEFAULT_TTL", "cross_sign")

DEFAULT_TTL = timedelta(days=90)
_BACKDATE = timedelta(minutes=5)


def cross_sign(
    partner: PartnerAuthority,
    *,
    issuer: SigningAuthority,
    own: TrustDomain,
    constraints: PartnerConstraints,
    now: datetime,
    ttl: timedelta = DEFAULT_TTL,
) -> x509.Certificate:
    """Sign a partner's CA.

    Args:
        partner: It.
        issuer: Our CA.
        own: Our trust domain.
        constraints: What the partner may vouch for.
        now: Aware UTC time.
        ttl: How long the certificate lives at most.

    Raises:
        ConfigurationError: It cannot be constrained, or our CA may not sign it.
    """
    _check_domains(partner, own, constraints, issuer)
    _check_distinct(partner, issuer)
    if partner.path_length is not None and constraints.path_length > partner.path_length:
        raise ConfigurationError(
            f"expected a path length of at most {partner.path_length}, which is the partner's own"
        )
    issuer.check(now=now, intermediates_below=1 + constraints.path_length)
    begins = [now - _BACKDATE, issuer.certificate.not_valid_before_utc]
    begins += [partner.not_before] if partner.not_before is not None else []
    ends = [now + ttl, issuer.certificate.not_valid_after_utc]
    ends += [partner.not_after] if partner.not_after is not None else []
    signed = issuer.sign(
        Content(
            partner.subject,
            partner.public_key,
            max(begins),
            min(ends),
            _extensions(partner, constraints),
        )
    )
    try:
        check_certificate(signed, now=now)  # The strength of a CSR's key, among others.
    except PathError as err:
        raise ConfigurationError(f"the partner's CA: {err}") from err
    return signed


def _extensions(
    partner: PartnerAuthority, constraints: PartnerConstraints
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    name = x509.UniformResourceIdentifier(f"spiffe://{partner.trust_domain}")
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        (x509.BasicConstraints(ca=True, path_length=constraints.path_length), True),
        (authority_key_usage(), True),
        (constraints.extension(), True),
        (x509.ExtendedKeyUsage(purposes), False),
        (x509.SubjectAlternativeName([name]), False),
        (partner.key_identifier, False),
    )


def _check_domains(
    partner: PartnerAuthority,
    own: TrustDomain,
    constraints: PartnerConstraints,
    issuer: SigningAuthority,
) -> None:
    if partner.trust_domain == own:
        raise ConfigurationError(f"expected the trust domain of a partner, got ours: {str(own)!r}")
    if constraints.trust_domain != partner.trust_domain:
        raise ConfigurationError("expected constraints of the partner's trust domain")
    ours = issuer.certificate.extensions
    names = find_extension(ours, x509.SubjectAlternativeName)
    for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else ():
        if uri.startswith("spiffe:") and uri.removesuffix("/") != f"spiffe://{own}":
            raise ConfigurationError(f"expected a CA of {str(own)!r}, got one of {uri[:200]!r}")


def _check_distinct(partner: PartnerAuthority, issuer: SigningAuthority) -> None:
    if partner.public_key == issuer.certificate.public_key():
        raise ConfigurationError("expected the key of a partner, got that of our own CA")
    if canonical(partner.subject) == canonical(issuer.certificate.subject):
        raise ConfigurationError(
            "expected a partner's CA of another name than ours: constraints do not bind what has"
            " the name of its issuer"
        )
