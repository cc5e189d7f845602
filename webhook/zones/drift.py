# SPDX-License-Identifier: Apache-2.0
"""What in a cluster is not as the configuration says: bundles and pods. Pure.

Rules:
    1. Each published bundle that pods of ours would take is told with fingerprints and expiry.
    2. What others publish under our signer names is a failure: pods would trust it.
    3. A bundle of our own pool is the pool's: whether it is the pool's latest only the signer can
       know (`ca status`); one from the configuration is compared with it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.exceptions import BundleError
from webhook.finding import Finding, Verdict
from webhook.names import PARTNER_SIGNER_NAME, bundle_name, partner_bundle_name
from webhook.trust.publication import wanted_names
from webhook.zones.wording import counted, listed, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cryptography.x509 import Certificate

    from kubetls_sdk.spiffe_id import TrustDomain
    from webhook.config import PlatformConfig, Zone
    from webhook.partner import Partner
    from webhook.zones.census import NamespaceCensus
    from webhook.zones.cluster_state import PublishedBundle

__all__ = ("bundle_findings", "fingerprint", "pod_findings")

SOON: Final = timedelta(days=30)
_SHOWN_FINGERPRINT: Final = 16


def fingerprint(authority: Certificate) -> str:
    """The start of the SHA-256 of a certificate, in hexadecimal digits."""
    return authority.fingerprint(hashes.SHA256()).hex()[:_SHOWN_FINGERPRINT]


def bundle_findings(
    config: PlatformConfig, bundles: tuple[PublishedBundle, ...], *, now: datetime
) -> Iterator[Finding]:
    """Hold the published bundles against the configuration.

    Args:
        config: The platform's.
        bundles: All that are published, by whomever.
        now: Aware UTC time.
    """
    published = {each.name: each for each in bundles}
    own = {zone.trust_domain for zone in config.zones.values()}
    for zone in config.zones.values():
        name = bundle_name(zone.signer_name, zone.trust_domain)
        yield _judged(zone.trust_domain, name, published.get(name), zone.bundle, now)
        yield from _unlabelled(zone, config.partner_that_is(zone), published.get(name))
    for partner in config.partners.values():
        if partner.trust_domain not in own:
            name = partner_bundle_name(partner.name)
            found = published.get(name)
            yield _judged(partner.trust_domain, name, found, partner.bundle, now)
    yield from _foreign(config, bundles)


def _judged(
    domain: TrustDomain,
    name: str,
    found: PublishedBundle | None,
    wanted: TrustBundle | None,
    now: datetime,
) -> Finding:
    subject = f"trust bundle of {domain}"
    if found is None:
        return Finding(Verdict.WARNING, subject, f"not there yet: expected {name}")
    if found.withdrawn:
        message = f"{name} is withdrawn ({shown(found.withdrawn)}): nobody of it is trusted"
        return Finding(Verdict.WARNING, subject, message)
    try:
        bundle = TrustBundle.from_pem(domain, found.text.encode())
    except BundleError as err:
        return Finding(Verdict.FAILURE, subject, f"{name} cannot be read: {err}")
    if wanted is not None and _difference(bundle, wanted):
        return Finding(Verdict.WARNING, subject, f"{name} is stale: {_difference(bundle, wanted)}")
    roots = "; ".join(_root(each, now) for each in bundle.authorities)
    dated = [each.not_valid_after_utc for each in bundle.authorities]
    is_well = bool(dated) and max(dated) - now > SOON and min(dated) > now
    verdict = Verdict.OK if is_well else Verdict.WARNING
    return Finding(verdict, subject, f"published as {name}: {roots or 'empty, trusts nobody'}")


def _unlabelled(
    zone: Zone, partner: Partner | None, found: PublishedBundle | None
) -> Iterator[Finding]:
    name = partner.name if partner else ""
    if found is None or found.partner == name:
        return
    message = f"other zones' pods still find it as partner {shown(found.partner)}"
    if partner:
        message = f"other zones' pods do not find it as partner {name} yet"
    yield Finding(Verdict.WARNING, f"trust bundle of {zone.trust_domain}", message)


def _difference(bundle: TrustBundle, wanted: TrustBundle) -> str:
    there, expected = ({fingerprint(a) for a in each.authorities} for each in (bundle, wanted))
    missing, surplus = sorted(expected - there), sorted(there - expected)
    parts = [f"lacks {listed(missing)}"] if missing else []
    parts += [f"still has {listed(surplus)}"] if surplus else []
    return ", ".join(parts)


def _root(authority: Certificate, now: datetime) -> str:
    until = authority.not_valid_after_utc
    remark = " EXPIRED" if until <= now else " SOON" if until - now <= SOON else ""
    return f"sha256 {fingerprint(authority)} until {until:%Y-%m-%d}{remark}"


def _foreign(config: PlatformConfig, bundles: tuple[PublishedBundle, ...]) -> Iterator[Finding]:
    wanted = wanted_names(config)
    signers = {zone.signer_name: f"zone {zone.name}" for zone in config.zones.values()}
    signers[PARTNER_SIGNER_NAME] = "partners"
    for each in bundles:
        subject = f"trust bundle {shown(each.name)}"
        if each.name in wanted:
            continue
        if each.signer_name in signers:
            whose = signers[each.signer_name]
            message = f"foreign, under the signer name of {whose}, whose pods would trust it"
            yield Finding(Verdict.FAILURE, subject, message)
        elif each.is_managed:
            yield Finding(
                Verdict.WARNING, subject, "left over: its zone is not configured any more"
            )


def pod_findings(places: tuple[NamespaceCensus, ...]) -> Iterator[Finding]:
    """Tell which pods have what the configuration would not give them today."""
    for place in places:
        subject = f"pods in {shown(place.name)}"
        if place.misplaced:
            message = "in a zone that is not for this namespace any more"
            yield _pods(subject, place.misplaced, message)
        if place.excessive:
            message = "asking for bundles that are not for this namespace any more"
            yield _pods(subject, place.excessive, message)


def _pods(subject: str, names: list[str], message: str) -> Finding:
    told = f"{counted(len(names), 'pod')} {message}, until recreated: {listed(names)}"
    return Finding(Verdict.WARNING, subject, told)
