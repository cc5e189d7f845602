# SPDX-License-Identifier: Apache-2.0
"""The faults that a volume can have: stable names, and what to do about each."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("FAULTS", "Fault", "Finding", "Severity")

Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """One kind of fault.

    Attributes:
        severity: `error` when the workload cannot speak mutual TLS, now or soon without notice;
            `warning` when it can.
        meaning: What is wrong, in one clause.
        remedy: What to do, in terms of Kubernetes.
    """

    severity: Severity
    meaning: str
    remedy: str


_SIGNER = "ask whoever runs the signer (platform team, cert-manager issuer, SPIRE)"
_FS_GROUP = (
    "set securityContext.fsGroup in the pod to a group of the container's user, and the volume's"
    " defaultMode to 0440; some CSI drivers need their own attribute for the group"
)

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "missing-mount": Fault(
            "error",
            "no volume is mounted there",
            "add the volume to spec.volumes and a volumeMount of this path to every container that"
            " needs it, or point KUBETLS_DIR to where it is mounted",
        ),
        "unreadable-directory": Fault(
            "error", "this process may not read the directory", _FS_GROUP
        ),
        "subpath-mount": Fault(
            "error",
            "the files are mounted by subPath, so they never change",
            "mount the whole volume as a directory, without subPath, and point KUBETLS_DIR to it",
        ),
        "plain-files": Fault(
            "warning",
            "the files are not links through ..data, as the kubelet writes them",
            "if the volumeMount has a subPath, remove it: such files are never renewed; if another"
            " process writes them (spiffe-helper, a script), nothing is to be done",
        ),
        "unsupported-layout": Fault(
            "error",
            "no key and certificate in a layout that KubeTLS knows",
            "give the files the names of one layout (items: in a projected or secret volume), or"
            " name the paths with VolumeFiles in the application",
        ),
        "incomplete-layout": Fault(
            "error",
            "a file of the layout is missing",
            "check items: of the volume, and whether the Secret or the issuer provides the file",
        ),
        "unreadable-key": Fault("error", "the private key cannot be read", _FS_GROUP),
        "unreadable-file": Fault("error", "a file cannot be read", _FS_GROUP),
        "unusable-key": Fault(
            "error",
            "the private key is encrypted, malformed or of an unsupported kind",
            "issue an unencrypted PKCS#8, SEC1 or PKCS#1 key: EC P-256/P-384/P-521, Ed25519 or"
            " RSA of at least 2048 bits",
        ),
        "key-mismatch": Fault(
            "error",
            "the private key is not that of the certificate",
            "write both in one atomic update; with a Secret, renew the certificate so that tls.key"
            " and tls.crt come from one issuance",
        ),
        "malformed-certificate": Fault(
            "error",
            "the certificate file is not a chain of PEM certificates, leaf first",
            f"{_SIGNER} for PEM with the leaf first, then the intermediates, no root needed",
        ),
        "no-spiffe-id": Fault(
            "error",
            "the certificate carries no SPIFFE ID as its URI SAN",
            f"{_SIGNER} for exactly one URI SAN spiffe://<trust domain>/ns/<namespace>/sa/<name>",
        ),
        "not-an-svid": Fault(
            "error",
            "the certificate breaks the X.509-SVID profile",
            f"{_SIGNER} for a leaf with critical keyUsage digitalSignature, extendedKeyUsage"
            " serverAuth and clientAuth, and no CA rights",
        ),
        "expired": Fault(
            "error",
            "the certificate has expired",
            "find out why it was not renewed: kubectl describe the pod and its"
            " PodCertificateRequest or Certificate; a request that was denied or failed stays so"
            " until the pod is recreated",
        ),
        "near-expiry": Fault(
            "warning",
            "little of the certificate's lifetime is left, so renewal is late",
            "kubectl describe the pod and its PodCertificateRequest or Certificate: does the signer"
            " answer, and does the kubelet or CSI driver refresh it?",
        ),
        "clock-skew": Fault(
            "error",
            "this machine's clock is behind that of the signer",
            "check time synchronisation of the node (chrony, systemd-timesyncd)",
        ),
        "missing-bundle": Fault(
            "error",
            "no trust bundle is mounted, so nobody is trusted",
            "add the ClusterTrustBundle (or the CA's ConfigMap key) as <trust domain>"
            ".trust-bundle.pem to the projected volume; with a kubernetes.io/tls Secret, ca.crt",
        ),
        "empty-bundle": Fault(
            "error",
            "the trust bundle is empty: it trusts nobody",
            "check the ClusterTrustBundle: the signer name, the labelSelector, and optional: true,"
            " which mounts an empty file while there is none",
        ),
        "unusable-bundle": Fault(
            "error",
            "a trust bundle cannot be parsed",
            "write only CA certificates as PEM, or one SPIFFE JWKS document, into the file",
        ),
        "misnamed-bundle": Fault(
            "error",
            "the name of a bundle file is not that of a trust domain",
            "name it <trust domain>.trust-bundle.pem, in lower case, in items: of the volume",
        ),
        "wrong-trust-domain": Fault(
            "error",
            "certificate and trust bundles are of different trust domains",
            "check which signer the volume asks (signerName, issuerRef) and mount the bundle of the"
            " certificate's own trust domain under its own name",
        ),
        "untrusted-issuer": Fault(
            "error",
            "the certificate does not chain to the bundle of its own trust domain",
            "after a change of root, trust reaches pods minutes late: publish the new root before"
            " anything is signed with it; otherwise mount the bundle of the right signer",
        ),
        "expired-authority": Fault(
            "warning",
            "an authority in a trust bundle has expired",
            "remove it from the ClusterTrustBundle once nothing was issued by it",
        ),
        "shared-authority": Fault(
            "warning",
            "one authority is in the bundles of two trust domains, so it can vouch for both",
            "mount each domain's own roots under its own name; check which ClusterTrustBundle each"
            " path: of the volume takes",
        ),
        "lax-certificate": Fault(
            "warning",
            "a certificate lacks extensions that Python 3.13 and newer ask for by default",
            "KubeTLS works with it; other clients that use ssl.create_default_context on Python"
            " 3.13 refuse it: reissue it with them",
        ),
        "wrong-trust-store": Fault(
            "warning",
            "the internal trust store is not the bundle of our own trust domain",
            "where the two were just renewed, look again in two minutes; otherwise find out who"
            " writes or mounts something else at its path",
        ),
        "overridden-trust-store": Fault(
            "warning",
            "variables lead away from the internal trust store",
            "find where they are set (the image's entrypoint, a wrapper script, a shell profile)"
            " and remove them; the pod's own env was checked when it was admitted",
        ),
        "web-roots": Fault(
            "warning",
            "the image has roots that are not of the mounted bundles (only with --image)",
            "remove ca-certificates and certifi from the image, or annotate the pod with"
            " kubetls.gauntletwizard.net/trust-store: internal, which leads SSL_CERT_FILE and its"
            " kin to the zone's bundle; kubetls image-check says who believes each store",
        ),
    }
)
"""Every fault by its stable name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that was found.

    Attributes:
        name: A key of `FAULTS`.
        found: What was found, in one clause.
        path: The file or directory, when there is one.
        severity: As the fault's by default.
    """

    name: str
    found: str
    path: str | None = None
    severity: Severity = "error"

    @classmethod
    def of(
        cls, name: str, found: str, path: str | None = None, *, severity: Severity | None = None
    ) -> Finding:
        """Make a finding with the severity of its fault, unless another is given."""
        return cls(name, found, path, severity or FAULTS[name].severity)

    @property
    def fault(self) -> Fault:
        """What this kind of fault means, and what to do."""
        return FAULTS[self.name]

    def document(self) -> dict[str, str | None]:
        """The finding as an object of JSON."""
        return {
            "name": self.name,
            "severity": self.severity,
            "meaning": self.fault.meaning,
            "found": self.found,
            "path": self.path,
            "remedy": self.fault.remedy,
        }
