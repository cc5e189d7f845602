# SPDX-License-Identifier: Apache-2.0
"""Configurations of zones, and what a cluster with them has."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml

from kubetls_sdk.testing import DevelopmentCA
from webhook.choice import INJECTED
from webhook.config import PlatformConfig
from webhook.names import PARTNER_LABEL, PARTNER_SIGNER_NAME, TRUST_DOMAIN_LABEL
from webhook.trust.labels import MANAGED

NOW = datetime.now(UTC)
ACME = DevelopmentCA("acme.example")
ROOTS = {name: DevelopmentCA(f"{name}.example.org") for name in ("main", "pci", "lab")}
SIGNERS = {
    "main": "kubetls.gauntletwizard.net/main",
    "pci": "kubetls.gauntletwizard.net/pci",
    "lab": "kubetls.gauntletwizard.net/lab",
}
RULES = [
    {"names": ["kube-*"], "inject": "labelled"},
    {"names": ["payments", "card-*"], "zones": ["pci"]},
    {"names": ["lab-*"], "zones": ["lab", "main"], "modes": ["secret"]},
    {"names": ["*"]},
]


def partner(name="acme", *, ca=ACME, namespaces=("shop",)):
    """A partner as the configuration writes it."""
    return {
        "name": name,
        "trustDomain": str(ca.trust_domain),
        "bundle": ca.bundle.to_pem().decode(),
        "namespaces": list(namespaces),
    }


def zone_partner(zone, namespaces, *, name=None):
    """A zone that is declared as a partner."""
    return {"name": name or zone, "zone": zone, "namespaces": list(namespaces)}


def platform(*, zones=tuple(ROOTS), partners=None, rules=RULES):
    """A configuration: by default three zones, a partner of `shop`, four rules."""
    partners = [partner()] if partners is None else partners
    document = {
        "version": 1,
        "zones": [{"name": each, "trustDomain": f"{each}.example.org"} for each in zones],
        "partners": list(partners),
        "namespaces": list(rules),
    }
    if not partners:
        del document["partners"]
    return PlatformConfig.parse(yaml.safe_dump(document))


def bundle(name, signer, text, *, domain="", managed=True, partner=""):
    """A ClusterTrustBundle."""
    labels = dict(MANAGED) if managed else {}
    labels |= {PARTNER_LABEL: partner} if partner else {}
    if domain:
        labels[TRUST_DOMAIN_LABEL] = domain
    spec = {"signerName": signer, "trustBundle": text}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def zone_bundle(zone, *, ca=None, partner=""):
    """The ClusterTrustBundle of a zone."""
    signer, domain = SIGNERS[zone], f"{zone}.example.org"
    text = (ca or ROOTS[zone]).bundle.to_pem().decode()
    return bundle(
        f"{signer.replace('/', ':')}:{domain}", signer, text, domain=domain, partner=partner
    )


def partner_bundle(ca=ACME, name="acme"):
    """The ClusterTrustBundle of a partner."""
    place = f"{PARTNER_SIGNER_NAME.replace('/', ':')}:{name}"
    return bundle(place, PARTNER_SIGNER_NAME, ca.bundle.to_pem().decode())


def pod(namespace, name, *, zone="main", trusts=(), phase="Running", said=()):
    """A pod with a projected volume, or without one: `zone=None`."""
    marks = {f"kubetls.gauntletwizard.net/{key}": value for key, value in dict(said).items()}
    volume = {"name": "kubetls", "secret": {"secretName": "kubetls-x"}}
    if zone is not None:
        domains = [f"{zone}.example.org", *trusts]
        paths = [{"path": f"{domain}.trust-bundle.pem"} for domain in domains]
        certificate = {"signerName": SIGNERS.get(zone, zone)}
        sources = [{"podCertificate": certificate}]
        sources += [{"clusterTrustBundle": path} for path in paths]
        volume = {"name": "kubetls", "projected": {"sources": sources}}
    metadata = {"namespace": namespace, "name": name, "annotations": {INJECTED: "x", **marks}}
    spec = {"containers": [], "volumes": [{"name": "other"}, volume]}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase}}
