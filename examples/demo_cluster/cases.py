# SPDX-License-Identifier: Apache-2.0
"""What each pod got, and who gets in with it: by the files on the nodes and by the wire."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cluster.exceptions import ClusterError
from examples.demo_cluster.manifests import DRIVEN, FOREIGN_SIGNER, LEGACY, pod
from examples.demonstration.case import Case
from kubetls_sdk.client.httpx import Client
from kubetls_sdk.source import StaticSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from examples.demo_cluster.shop import Shop
    from kubetls_sdk.source import Snapshot

__all__ = ("call", "calls", "driven", "identities", "legacy", "refusals")

_DOMAIN = "spiffe://example.org/ns/shop/sa"
_NAMES = "orders.shop.svc, orders.shop.svc.cluster.local"


def identities(shop: Shop) -> list[Case]:
    """Whose certificate each pod has, which names are in it, and where its key was made."""
    found = []
    for app, names, common in (("orders", _NAMES, "its pod"), ("web", "none", "none")):
        pod_found = shop.pod(app)
        snapshot, name = shop.snapshot_of(pod_found), pod_found["metadata"]["name"]
        expected = f"{_DOMAIN}/{app}, DNS: {names}, CN: {common}"
        found.append(Case(f"certificate of {app}", expected, _identity(snapshot, name)))
        found.append(
            Case(
                f"private key of {app}",
                "made on its node, in no Secret",
                _key_origin(shop, pod_found, snapshot),
            )
        )
    return found


def calls(shop: Shop) -> list[Case]:
    """Who gets what from orders."""
    guest, web = shop.snapshot_of(shop.pod("guest")), shop.snapshot_of(shop.pod("web"))
    return [
        Case("web reads an order", "200", call(shop, web)),
        Case("guest reads an order", "403", call(shop, guest)),
        Case("somebody without a certificate", "refused in the handshake", _anonymous(shop)),
        Case("web expects another server", "refused by the client", call(shop, web, "guest")),
    ]


def refusals(shop: Shop) -> list[Case]:
    """What the control plane does not give."""
    return [
        Case(
            "a pod that asks for a zone that is not its namespace's",
            "denied at admission, names the annotation",
            _admission(shop, annotations={"kubetls.gauntletwizard.net/zone": "vault"}),
        ),
        Case(
            "a volume written by hand for the signer of another zone",
            "no certificate: Denied",
            _foreign(shop),
        ),
        Case("a pod that declines the injection", "no volume", _declined(shop)),
    ]


def legacy(shop: Shop) -> list[Case]:
    """What a pod has where certificates come as Secrets, as in clusters without the native ones."""
    shop.apply(pod("old", namespace=LEGACY))

    def files() -> set[str]:
        return {path.name for path in shop.volume_of(shop.single(LEGACY, "old")).glob("[!.]*")}

    shop.wait(lambda: "tls.key" in files(), "the Secret's files of the pod old")
    snapshot = shop.snapshot_of(shop.single(LEGACY, "old"))
    shop.delete("old", namespace=LEGACY)
    return [
        Case(
            "a pod of a namespace with the mode secret",
            "spiffe://example.org/ns/legacy/sa/default; 403 at orders",
            f"{snapshot.svid.spiffe_id}; {call(shop, snapshot)} at orders",
        )
    ]


def driven(shop: Shop) -> list[Case]:
    """What a pod has where a driver on its node makes the key, as on clusters of any version."""
    shop.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": DRIVEN}})
    shop.apply(pod("new", namespace=DRIVEN))
    found = shop.single(DRIVEN, "new")
    shop.wait((shop.volume_of(found) / "..data").exists, "the driver's files of the pod new")
    snapshot = shop.snapshot_of(found)
    key = _spki(snapshot.svid.leaf.public_key())
    asked = [
        request["spec"]["extra"]["authentication.kubernetes.io/pod-uid"]
        for request in shop.signing_requests()
        if _spki(_key(x509.load_pem_x509_csr, request["spec"]["request"])) == key
    ]
    is_own = asked == [[found["metadata"]["uid"]]] and not shop.secrets(DRIVEN)
    shop.delete("new", namespace=DRIVEN)
    return [
        Case(
            "a pod of a namespace with the mode csi",
            "spiffe://example.org/ns/driven/sa/default; key asked for as the pod, in no Secret",
            f"{snapshot.svid.spiffe_id}; key"
            f" {'asked for as the pod, in no Secret' if is_own else 'of somebody else'}",
        )
    ]


def call(shop: Shop, caller: Snapshot, server: str = "orders") -> str:
    """Read an order as somebody, and say what came of it."""
    source = StaticSource(caller.svid, caller.bundles)
    try:
        with Client(server=f"{_DOMAIN}/{server}", source=source, timeout=5) as client:
            return str(client.get(f"{shop.orders_url}/orders/1").status_code)
    except httpx.ConnectError:
        return "refused by the client"
    except httpx.HTTPError:
        return "refused"


def _identity(snapshot: Snapshot, pod_name: str) -> str:
    leaf = snapshot.svid.leaf
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    listed = ", ".join(sorted(names.get_values_for_type(x509.DNSName))) or "none"
    common = leaf.subject.rfc4514_string()
    whose = {"": "none", f"CN={pod_name}": "its pod"}.get(common, common)
    return f"{snapshot.svid.spiffe_id}, DNS: {listed}, CN: {whose}"


def _key_origin(shop: Shop, found: Mapping[str, Any], snapshot: Snapshot) -> str:
    """By the API server's record: the node asked, for this very key, and nothing holds it."""
    key = _spki(snapshot.svid.leaf.public_key())
    asked = [
        request
        for request in shop.requests()
        if request["spec"]["podUID"] == found["metadata"]["uid"]
        and request["spec"]["nodeName"] == found["spec"]["nodeName"]
        and _spki(_requested_key(request)) == key
    ]
    if not asked:
        return "the node did not ask for this key"
    return "in a Secret" if shop.secrets() else "made on its node, in no Secret"


def _requested_key(request: Mapping[str, Any]) -> PublicKeyTypes:
    return _key(x509.load_der_x509_csr, request["spec"]["stubPKCS10Request"])


def _key(load: Callable[[bytes], x509.CertificateSigningRequest], request: str) -> PublicKeyTypes:
    return load(base64.b64decode(request)).public_key()


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _anonymous(shop: Shop) -> str:
    with httpx.Client(verify=False, timeout=5) as client:  # noqa: S501 - this one checks nothing
        try:
            return str(client.get(f"{shop.orders_url}/orders/1").status_code)
        except httpx.HTTPError:
            return "refused in the handshake"


def _admission(shop: Shop, **changes: Any) -> str:
    try:
        shop.apply(pod("wrong", **changes))
    except ClusterError as err:
        named = all(name in str(err) for name in (*changes["annotations"], "'default'"))
        return "denied at admission" + (", names the annotation" if named else "")
    return "admitted"


def _foreign(shop: Shop) -> str:
    source = {"signerName": FOREIGN_SIGNER, "keyType": "ECDSAP256", "credentialBundlePath": "c.pem"}
    volume = {"name": "by-hand", "projected": {"sources": [{"podCertificate": source}]}}
    shop.apply(pod("foreign", volumes=[volume]))

    def answers() -> list[dict[str, Any]]:
        asked = [each for each in shop.requests() if each["spec"]["signerName"] == FOREIGN_SIGNER]
        return [condition for each in asked for condition in each["status"].get("conditions", [])]

    shop.wait(answers, "an answer to the request of the pod foreign")
    outcome = answers()[0]["type"]
    shop.delete("foreign")
    return f"no certificate: {outcome}"


def _declined(shop: Shop) -> str:
    shop.apply(pod("plain", labels={"kubetls.gauntletwizard.net/inject": "false"}))
    found = next(each for each in shop.pods() if each["metadata"]["name"] == "plain")
    names = [volume["name"] for volume in found["spec"]["volumes"]]
    shop.delete("plain")
    return "a volume" if "kubetls" in names else "no volume"
