# SPDX-License-Identifier: Apache-2.0
"""What the chart's accounts may do at a real API server: by asking it, and by trying."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.testing import DevelopmentCA
from tests.cluster.account import Account
from tests.cluster.chart import SYSTEM, rendered
from tests.cluster.chart_world import (
    CERTIFICATES,
    ENABLED,
    NAMESPACES,
    OTHER,
    SECRET_NAME,
    SIGNER,
    VALUES,
    chart_world,
    request,
    requests_of,
    secrets_of,
    workload_secret,
)

FORBIDDEN, OK, CREATED = 403, 200, 201
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
POOL = "kubetls-ca-default"
PEM = DevelopmentCA("example.org").bundle.to_pem()
READING = ("get", "list", "watch")
WRITING = ("create", "update", "patch", "delete", "deletecollection")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cluster with the chart, for this module."""
    with chart_world(tmp_path_factory.mktemp("rbac")) as world:
        yield world


@pytest.fixture(scope="module")
def accounts(world):
    """The accounts by their part's name."""
    return {
        "injector": world.injector,
        "signer": world.signer,
        "secret-issuer": world.secret_issuer,
        "node": world.node,
    }


@pytest.fixture(scope="module")
def nobody(world):
    """The rules of an account that nobody gave anything."""
    return Account(world.control_plane, SYSTEM, "default").rules(SYSTEM)


def secret(name, *, kind="Opaque", text=b"secret"):
    """A Secret for tests."""
    content = {"key": base64.b64encode(text).decode()}
    return {"metadata": {"name": name}, "type": kind, "data": content}


class TestEverybody:
    @pytest.mark.parametrize("part", ["injector", "signer", "secret-issuer", "node"])
    @pytest.mark.parametrize(
        ("verb", "resource"),
        [
            ("create", "podcertificaterequests.certificates.k8s.io"),
            ("update", "podcertificaterequests.certificates.k8s.io"),
            ("create", "pods"),
            ("create", "pods/exec"),
            ("create", "pods/ephemeralcontainers"),
            ("update", "deployments.apps"),
            ("create", "serviceaccounts/token"),
            ("create", "tokenreviews.authentication.k8s.io"),
            ("impersonate", "users"),
            ("escalate", "clusterroles.rbac.authorization.k8s.io"),
            ("bind", "clusterroles.rbac.authorization.k8s.io"),
            ("create", "rolebindings.rbac.authorization.k8s.io"),
            ("update", "validatingadmissionpolicies.admissionregistration.k8s.io"),
            ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
            ("create", "validatingwebhookconfigurations.admissionregistration.k8s.io"),
            ("label", "namespaces.kubetls.gauntletwizard.net"),
            ("*", "*.*"),
        ],
    )
    def test_forbidden_to_all(self, accounts, part, verb, resource):
        """No part may do what would let it be somebody else, anywhere."""
        for namespace in (SYSTEM, ENABLED):
            assert not accounts[part].may(verb, resource, namespace=namespace)

    @pytest.mark.parametrize("part", ["injector", "signer", "secret-issuer", "node"])
    @pytest.mark.parametrize("namespace", [SYSTEM, ENABLED, OTHER, "kube-system"])
    def test_foreign_secrets(self, accounts, part, namespace):
        """No part may read a Secret that is not the signer's own, one or all."""
        for verb in (*READING, "patch", "delete", "deletecollection"):
            assert not accounts[part].may(verb, "secrets", namespace=namespace)
            assert not accounts[part].may(verb, "secrets", namespace=namespace, name="token")

    def test_no_wildcards(self):
        """No rule of the chart has a wildcard, or a verb that gives more than it says."""
        kinds = {"Role", "ClusterRole"}
        roles = [each for each in rendered(VALUES) if each["kind"] in kinds]
        assert roles
        dangerous = {"*", "impersonate", "escalate", "bind", "patch", "deletecollection"}
        for rule in (rule for role in roles for rule in role["rules"]):
            assert "*" not in rule["apiGroups"] + rule["resources"]
            assert rule["resources"] == ["events"] or not dangerous & set(rule["verbs"])


class TestInjector:
    def test_has_no_rights(self, world, nobody):
        """It may do what any account may, and nothing on top, in any namespace."""
        for namespace in (SYSTEM, ENABLED):
            assert world.injector.rules(namespace) == nobody

    def test_has_no_token(self, world):
        """Its pods do not even have a token."""
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/kubetls-injector"
        spec = world.api.get(path)["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert "projected" not in str(spec["volumes"])

    @pytest.mark.parametrize(
        "path",
        [
            f"{NAMESPACES}/{SYSTEM}/secrets/{POOL}",
            f"{NAMESPACES}/{SYSTEM}/configmaps/kubetls-config",
            f"{NAMESPACES}/{SYSTEM}/pods",
            f"{NAMESPACES}/{ENABLED}/pods",
            f"{WEBHOOKS}/kubetls-injector",
        ],
    )
    def test_reads_nothing(self, world, path):
        """It is refused whatever it tries to read."""
        assert world.injector.status("GET", path) == FORBIDDEN


class TestSigner:
    @pytest.mark.parametrize(
        ("verbs", "resource", "name"),
        [
            (READING, "pods", ""),
            (("list", "watch"), "services", ""),
            (("list", "watch"), "nodes", ""),
            (("list", "watch"), "csinodes.storage.k8s.io", ""),
            (("get",), "csidrivers.storage.k8s.io", "csi.kubetls.gauntletwizard.net"),
            (READING, "podcertificaterequests.certificates.k8s.io", ""),
            (("update",), "podcertificaterequests/status.certificates.k8s.io", ""),
            (("list", "watch"), "certificatesigningrequests.certificates.k8s.io", ""),
            (("update",), "certificatesigningrequests/approval.certificates.k8s.io", ""),
            (("update",), "certificatesigningrequests/status.certificates.k8s.io", ""),
            (("sign", "approve", "attest"), "signers.certificates.k8s.io", SIGNER),
            (("attest",), "signers.certificates.k8s.io", "kubetls.gauntletwizard.net/partner"),
            (
                (*READING, "create", "update", "delete"),
                "clustertrustbundles.certificates.k8s.io",
                "",
            ),
            (
                ("get", "update"),
                "mutatingwebhookconfigurations.admissionregistration.k8s.io",
                "kubetls-injector",
            ),
            (("create", "patch"), "events.events.k8s.io", ""),
        ],
    )
    def test_may(self, world, verbs, resource, name):
        """It may do its work in all namespaces."""
        assert [verb for verb in verbs if not world.signer.may(verb, resource, name=name)] == []

    @pytest.mark.parametrize(
        ("verbs", "resource", "name"),
        [
            ((*READING, "update"), "secrets", POOL),
            (("get", "update"), "secrets", "kubetls-webhook-tls"),
            (("create",), "secrets", ""),
            (("get", "update"), "configmaps", "kubetls-capabilities"),
            (("get", "update"), "configmaps", "kubetls-trust-default"),
            (("get",), "configmaps", "kubetls-config"),
            (("get", "list", "create", "update", "delete"), "leases.coordination.k8s.io", ""),
        ],
    )
    def test_may_in_its_namespace(self, world, verbs, resource, name):
        """It may keep its own objects, in its own namespace only."""
        where = {"name": name, "namespace": SYSTEM}
        assert [verb for verb in verbs if not world.signer.may(verb, resource, **where)] == []
        elsewhere = where | {"namespace": ENABLED}
        assert [verb for verb in verbs if world.signer.may(verb, resource, **elsewhere)] == []

    @pytest.mark.parametrize(
        ("verbs", "resource", "name"),
        [
            (
                ("sign", "approve"),
                "signers.certificates.k8s.io",
                "kubernetes.io/kube-apiserver-client",
            ),
            (("sign",), "signers.certificates.k8s.io", "kubetls.gauntletwizard.net/partner"),
            (("sign", "approve", "attest"), "signers.certificates.k8s.io", "example.org/another"),
            (
                ("update", "patch"),
                "mutatingwebhookconfigurations.admissionregistration.k8s.io",
                "another",
            ),
            (("list", "watch"), "mutatingwebhookconfigurations.admissionregistration.k8s.io", ""),
            (WRITING, "services", ""),
            (WRITING, "nodes", ""),
            (WRITING, "namespaces", ""),
        ],
    )
    def test_may_not(self, world, verbs, resource, name):
        """Other signers' names, others' webhooks and all else are not its business."""
        assert [verb for verb in verbs if world.signer.may(verb, resource, name=name)] == []

    @pytest.mark.parametrize("name", ["kubetls-config", "other"])
    def test_may_not_change_the_configuration(self, world, name):
        """It reads the platform's configuration and never writes it."""
        for verb in ("update", "patch", "delete"):
            assert not world.signer.may(verb, "configmaps", name=name, namespace=SYSTEM)

    def test_reads_its_pool_only(self, world):
        """It reads the CA pool, and is refused every other Secret beside it."""
        path = secrets_of(SYSTEM)
        for name in (POOL, "another"):
            world.api.post(path, secret(name, kind="kubetls.gauntletwizard.net/ca-pool"))
        assert world.signer.status("GET", f"{path}/{POOL}") == OK
        assert world.signer.status("GET", f"{path}?fieldSelector=metadata.name={POOL}") == OK
        assert world.signer.status("GET", f"{path}/another") == FORBIDDEN
        assert world.signer.status("GET", path) == FORBIDDEN
        assert (
            world.signer.status("GET", f"{path}?fieldSelector=metadata.name=another") == FORBIDDEN
        )
        assert world.secret_issuer.status("GET", f"{path}/{POOL}") == FORBIDDEN

    def test_makes_no_requests(self, world):
        """Who signs cannot ask: it creates no PodCertificateRequest."""
        assert world.signer.status("POST", requests_of(ENABLED), request()) == FORBIDDEN

    def test_signs_for_its_own_name_only(self, world):
        """The API server refuses its signature on a request for another signer."""
        path = f"{CERTIFICATES}/certificatesigningrequests"
        body = _signing_request("example.org/another")
        made = world.api.post(path, body)
        name = made["metadata"]["name"]
        made["status"] = {"certificate": base64.b64encode(PEM).decode()}
        refusal = world.signer.refusal("PUT", f"{path}/{name}/status", made)
        assert "sign" in refusal
        made["status"] = {"conditions": [_condition("Approved")]}
        refusal = world.signer.refusal("PUT", f"{path}/{name}/approval", made)
        assert "approve" in refusal

    def test_publishes_its_own_bundles_only(self, world):
        """A trust bundle for another signer's name is refused: pods would trust it."""
        path = f"{CERTIFICATES}/clustertrustbundles?dryRun=All"
        for signer, status in ((SIGNER, CREATED), ("example.org/another", FORBIDDEN)):
            body = {
                "metadata": {"name": f"{signer.replace('/', ':')}:try"},
                "spec": {"signerName": signer, "trustBundle": PEM.decode()},
            }
            assert world.signer.status("POST", path, body) == status

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(secret("another"), id="another name"),
            pytest.param(secret(POOL), id="another type"),
            pytest.param(
                {
                    "metadata": {
                        "name": "kubetls-webhook-tls",
                        "annotations": {
                            "kubernetes.io/service-account.name": "kubetls-secret-issuer"
                        },
                    },
                    "type": "kubernetes.io/service-account-token",
                },
                id="another account's token",
            ),
        ],
    )
    def test_creates_its_own_secrets_only(self, world, body):
        """What `create` would allow, a policy limits to the names and types of its own Secrets."""
        path = f"{secrets_of(SYSTEM)}?dryRun=All"
        assert "the signer may only create" in world.signer.refusal("POST", path, body)

    @pytest.mark.parametrize(
        ("name", "kind", "content"),
        [
            ("kubetls-webhook-tls", "kubernetes.io/tls", {"tls.crt": "", "tls.key": ""}),
            (POOL, "kubetls.gauntletwizard.net/ca-pool", {}),
        ],
    )
    def test_creates_its_own_secrets(self, world, name, kind, content):
        """Its own Secrets are created, when they are not there."""
        path = secrets_of(SYSTEM)
        body = {"metadata": {"name": name}, "type": kind, "data": content}
        if world.api.exists(f"{path}/{name}"):
            world.api.delete(f"{path}/{name}")
        assert world.signer.status("POST", path, body) == CREATED

    def test_creates_its_own_config_maps(self, world):
        """It reports capabilities, and writes no other ConfigMap."""
        path = f"{NAMESPACES}/{SYSTEM}/configmaps?dryRun=All"
        own = {"metadata": {"name": "kubetls-capabilities"}}
        other = {"metadata": {"name": "kube-root-ca"}}
        assert world.signer.status("POST", path, own) == CREATED
        assert "the signer may only create" in world.signer.refusal("POST", path, other)


class TestNode:
    """The CSI driver's account."""

    @pytest.mark.parametrize(
        ("resource", "verbs"),
        [
            ("pods", ["get", "list", "watch"]),
            ("services", ["list", "watch"]),
            ("certificatesigningrequests.certificates.k8s.io", ["list", "watch"]),
            ("clustertrustbundles.certificates.k8s.io", ["list", "watch"]),
            ("events.events.k8s.io", ["create", "patch"]),
        ],
    )
    def test_may(self, world, resource, verbs):
        """It sees what it needs to know what pods get, and tells them."""
        assert [verb for verb in verbs if not world.node.may(verb, resource)] == []

    def test_trust_of_old_clusters(self, world):
        """Of ConfigMaps it reads those with trust bundles, in one namespace, by name."""
        for name, allowed in {"kubetls-trust-default": True, "kubetls-config": False}.items():
            for verb in ("list", "watch"):
                found = world.node.may(verb, "configmaps", name=name, namespace=SYSTEM)
                assert found is allowed
                assert not world.node.may(verb, "configmaps", name=name, namespace=ENABLED)

    @pytest.mark.parametrize(
        ("verb", "resource"),
        [
            ("create", "certificatesigningrequests.certificates.k8s.io"),
            ("delete", "certificatesigningrequests.certificates.k8s.io"),
            ("update", "certificatesigningrequests/approval.certificates.k8s.io"),
            ("update", "certificatesigningrequests/status.certificates.k8s.io"),
            ("sign", "signers.certificates.k8s.io"),
            ("approve", "signers.certificates.k8s.io"),
            ("create", "clustertrustbundles.certificates.k8s.io"),
            ("update", "pods"),
            ("delete", "pods"),
            ("update", "nodes"),
            ("update", "csinodes.storage.k8s.io"),
            ("create", "leases.coordination.k8s.io"),
            ("create", "configmaps"),
        ],
    )
    def test_may_not(self, world, verb, resource):
        """It asks for nothing itself, and answers, changes and ends nothing."""
        for namespace in (SYSTEM, ENABLED):
            for name in ("", SIGNER):
                assert not world.node.may(verb, resource, name=name, namespace=namespace)

    def test_no_request_of_its_own(self, world):
        """Its own account is of no enabled namespace: even a correct request is refused."""
        path = f"{CERTIFICATES}/certificatesigningrequests"
        assert world.node.status("POST", path, _signing_request(SIGNER)) == FORBIDDEN

    def test_only_where_it_is_enabled(self):
        """Without the driver there is no account for it, and pods' accounts get no right."""
        text = str(rendered({"trustDomain": "example.org"}))
        for name in ("kubetls-node", "kubetls-pod-requests", "CSIDriver", "system:serviceaccounts"):
            assert name not in text


class TestSecretIssuer:
    @pytest.mark.parametrize("verb", ["create", "update"])
    def test_writes_in_enabled_namespaces(self, world, verb):
        """It writes Secrets where the platform has enabled that, and nowhere else."""
        may = {
            namespace: world.secret_issuer.may(verb, "secrets", namespace=namespace)
            for namespace in (ENABLED, OTHER, SYSTEM, "kube-system", "default")
        }
        assert [namespace for namespace, is_allowed in may.items() if is_allowed] == [ENABLED]

    @pytest.mark.parametrize(
        ("verbs", "resource", "namespace"),
        [
            (("list", "watch"), "pods", ENABLED),
            (("list", "watch"), "services", ENABLED),
            (
                ("list", "watch", "create", "delete"),
                "certificatesigningrequests.certificates.k8s.io",
                "",
            ),
            (("list", "watch"), "clustertrustbundles.certificates.k8s.io", ""),
            (("create", "patch"), "events.events.k8s.io", ENABLED),
            (("get", "list", "create", "update", "delete"), "leases.coordination.k8s.io", SYSTEM),
        ],
    )
    def test_may(self, world, verbs, resource, namespace):
        """It sees pods and Services, asks for certificates, and tells what it did."""
        may = world.secret_issuer.may
        assert [verb for verb in verbs if not may(verb, resource, namespace=namespace)] == []

    @pytest.mark.parametrize(
        ("verb", "resource"),
        [
            ("update", "certificatesigningrequests/approval.certificates.k8s.io"),
            ("update", "certificatesigningrequests/status.certificates.k8s.io"),
            ("update", "podcertificaterequests/status.certificates.k8s.io"),
            ("sign", "signers.certificates.k8s.io"),
            ("approve", "signers.certificates.k8s.io"),
            ("attest", "signers.certificates.k8s.io"),
            ("create", "clustertrustbundles.certificates.k8s.io"),
            ("get", "configmaps"),
        ],
    )
    def test_may_not(self, world, verb, resource):
        """It approves and signs nothing, least of all its own requests."""
        for name in ("", SIGNER):
            assert not world.secret_issuer.may(verb, resource, name=name, namespace=SYSTEM)

    def test_writes_without_reading(self, world):
        """It creates and replaces a pod's Secret, and cannot look at it."""
        uid = world.pod("owner")
        path = secrets_of(ENABLED)
        made = world.secret_issuer.post(path, workload_secret(uid))
        assert world.secret_issuer.status("PUT", f"{path}/{SECRET_NAME}", made) == OK
        for method in ("GET", "PATCH", "DELETE"):
            assert world.secret_issuer.status(method, f"{path}/{SECRET_NAME}", {}) == FORBIDDEN
        assert world.secret_issuer.status("GET", path) == FORBIDDEN
        assert world.secret_issuer.status("GET", f"{path}?watch=true") == FORBIDDEN

    def test_writes_nothing_elsewhere(self, world):
        """In another namespace even a correct Secret is refused."""
        uid = world.pod("owner", namespace=OTHER)
        assert (
            world.secret_issuer.status("POST", secrets_of(OTHER), workload_secret(uid)) == FORBIDDEN
        )

    def test_disabled_without_it(self):
        """Where the secret issuer is not installed, there is no account that may write Secrets."""
        text = str(rendered({"trustDomain": "example.org"}))
        assert "secret-writer" not in text
        assert "kubetls-secret-issuer" not in text


def _signing_request(signer):
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    text = base64.b64encode(made.public_bytes(Encoding.PEM)).decode()
    spec = {"signerName": signer, "request": text, "usages": ["digital signature"]}
    return {"metadata": {"generateName": "try-"}, "spec": spec}


def _condition(kind):
    return {"type": kind, "status": "True", "reason": "Try", "message": "try"}
