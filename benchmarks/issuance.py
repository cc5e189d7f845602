# SPDX-License-Identifier: Apache-2.0
"""How many certificates one core of the signer makes, beside `cryptography` alone.

Ours: a PodCertificateRequest's CSR parsed and verified, the request evaluated against the pod, the
Services of a cluster and the configuration, the certificate signed and its chain in PEM. The peer
parses and verifies the same CSR and signs a certificate with the same names, without any decision
and with no extension but the names. Both in CPU time: the other core's work does not count.
"""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from benchmarks.measure import Measure, Spread
from kubetls_sdk import _pem
from kubetls_sdk.testing import DevelopmentCA
from webhook.api.objects import Pod, Service
from webhook.config import KeyType, PlatformConfig
from webhook.issuance.authority import Authority
from webhook.issuance.csr import public_key_of
from webhook.issuance.evaluation import evaluate
from webhook.issuance.profile import issue
from webhook.issuance.request import IssuanceRequest
from webhook.issuance.service_names import ServiceIndex
from webhook.issuance.signing_request import empty_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from webhook.config import KeyType as KeyTypeName

SLICES = 25
SLICE = 200
PODS = 200
NAMESPACES, SERVICES = 100, 2_000
CONFIG = PlatformConfig.parse(
    "version: 1\nzones: [{name: default, trustDomain: example.org}]\n"
    "namespaces: [{names: ['*'], keyTypes: [ECDSAP256, ED25519]}]\n"
)


class Case(NamedTuple):
    """One request, with all that its answer needs."""

    der: bytes
    request: IssuanceRequest
    pod: Pod


def measures() -> Iterator[Measure]:
    yield from rates("P-256", KeyType.ECDSA_P256, lambda: ec.generate_private_key(ec.SECP256R1()))
    yield from rates("Ed25519", KeyType.ED25519, ed25519.Ed25519PrivateKey.generate)
    yield from services()


def rates(label: str, kind: KeyTypeName, new_key: Callable[[], Any]) -> Iterator[Measure]:
    """Certificates a second and core, in alternating slices."""
    root = DevelopmentCA("example.org").root
    authority = Authority((root.certificate,), root.private_key, root.certificate)
    index, cases = cluster(), [case(number, kind, new_key()) for number in range(PODS)]
    ours, theirs = [], []
    for _ in range(SLICES):
        ours.append(SLICE / seconds(lambda each: answered(each, index, authority), cases))
        theirs.append(SLICE / seconds(lambda each: alone(each, authority), cases))
    goal = 4_000 if kind is KeyType.ECDSA_P256 else None
    spread = Spread.of(ours)
    peer = f"cryptography alone, {Spread.of(theirs).median:,.0f}/s"
    name = f"issuance.rate.{label}"
    yield Measure(name, spread.median, "/s", goal, "higher", peer, spread)
    ratio = Spread.of_ratios(ours, theirs)
    name = f"issuance.ratio.{label}"
    goal = 0.6 if goal else None  # 4,000 of 6,700, however fast the machine is just now
    yield Measure.ratio(name, ratio, goal=goal, better="higher", peer="cryptography alone")


def answered(each: Case, index: ServiceIndex, authority: Authority) -> bytes:
    """All of the signer's own work for one request."""
    request = replace(each.request, public_key=public_key_of(each.der))
    grant = evaluate(request, pod=each.pod, services=index, config=CONFIG)
    return issue(grant, authority, now=datetime.now(UTC)).chain_pem


def alone(each: Case, authority: Authority) -> bytes:
    """The cryptography that it cannot do without."""
    csr = x509.load_der_x509_csr(each.der)
    assert csr.is_signature_valid
    now = datetime.now(UTC).replace(microsecond=0)
    name, namespace = each.pod.labels["app"], each.pod.namespace
    names = [
        x509.UniformResourceIdentifier(f"spiffe://example.org/ns/{namespace}/sa/web"),
        x509.DNSName(f"{name}.{namespace}.svc"),
        x509.DNSName(f"{name}.{namespace}.svc.cluster.local"),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each.pod.name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority.private_key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def services() -> Iterator[Measure]:
    """Finding the Services of a pod among those of a large cluster."""
    index = cluster()
    pods = [pod(number) for number in range(PODS)]
    assert all(len(index.selecting(each)) == 1 for each in pods)
    spread = Spread.of(
        [seconds(index.selecting, pods) / SLICE * 1e6 for _ in range(SLICES)]  # type: ignore[arg-type]
    )
    name = f"issuance.services.{SERVICES}"
    yield Measure(name, spread.median, "us", None, "lower", "itself", spread)


def seconds(call: Callable[[Any], object], cases: Sequence[Any]) -> float:
    """CPU time of one slice."""
    gc.collect()
    started = time.thread_time()
    for each in cases:
        call(each)
    return time.thread_time() - started


def cluster() -> ServiceIndex:
    """Every namespace has its share of the Services, each with pods of its own."""
    return ServiceIndex(
        Service.parse(
            {
                "metadata": {
                    "namespace": f"team-{number % NAMESPACES}",
                    "name": f"web-{number}",
                    "uid": f"uid-{number}",
                },
                "spec": {"selector": {"app": f"web-{number}"}, "clusterIP": "10.0.0.1"},
            }
        )
        for number in range(SERVICES)
    )


def pod(number: int) -> Pod:
    """A pod of one Service."""
    labels = {"app": f"web-{number}", "pod-template-hash": "5d4f8c7b9", "tier": "front"}
    return Pod.parse(
        {
            "metadata": {
                "namespace": f"team-{number % NAMESPACES}",
                "name": f"web-{number}-5d4f8c7b9-x2x2x",
                "uid": f"6f2b7c1e-3a52-4a84-8d6c-{number:012}",
                "labels": labels,
            },
            "spec": {"nodeName": f"node-{number % 5}", "serviceAccountName": "web"},
            "status": {"phase": "Pending"},
        }
    )


def case(number: int, kind: KeyTypeName, key: Any) -> Case:
    """A request of that pod's node."""
    of = pod(number)
    request = IssuanceRequest(
        namespace=of.namespace,
        pod_name=of.name,
        pod_uid=of.uid,
        service_account=of.service_account,
        node_name=of.node_name,
        signer_name=CONFIG.zones["default"].signer_name,
        public_key=key.public_key(),
        key_type=kind,
        requested_lifetime=timedelta(days=1),
        annotations={},
    )
    return Case(_pem.blocks(empty_request(key))[0].der, request, of)
