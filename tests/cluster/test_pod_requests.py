# SPDX-License-Identifier: Apache-2.0
"""What a pod's own account may ask for, by the chart's rights and policy for the CSI mode."""

from __future__ import annotations

import base64
import copy

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.cluster.account import Account
from tests.cluster.chart import one, rendered
from tests.cluster.chart_world import (
    CERTIFICATES,
    ENABLED,
    NAMESPACES,
    OTHER,
    PREFIX,
    SIGNER,
    VALUES,
    chart_world,
)
from tests.waiting import until
from tests.webhook.signing.world import csr

NODE_LABEL = f"{PREFIX}/node"
REQUESTS = f"{CERTIFICATES}/certificatesigningrequests"
DRY = f"{REQUESTS}?dryRun=All"
RESOURCE = "certificatesigningrequests.certificates.k8s.io"
CREATED, OK, FORBIDDEN, UNAUTHORIZED = 201, 200, 403, 401
LOGIN = "kubernetes.io/kube-apiserver-client"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cluster with the chart, for this module."""
    with chart_world(tmp_path_factory.mktemp("pod-requests")) as world:
        world.api.post("/api/v1/nodes", {"metadata": {"name": "node-1"}})
        yield world


@pytest.fixture(scope="module")
def web(world):
    """A pod's account in the enabled namespace, with the token that the driver gets."""
    made = bound(world, "web", ENABLED)
    until(lambda: "of the platform's zones" in made.refusal("POST", DRY, asked(LOGIN)), timeout=20)
    return made


def bound(world, name, namespace):
    """The account of a pod on node-1, by a token that is bound to the pod."""
    account = f"{NAMESPACES}/{namespace}/serviceaccounts/default"
    until(lambda: world.api.exists(account), timeout=20)
    spec = {"containers": [{"name": "main", "image": "none.example/x"}], "nodeName": "node-1"}
    pods = f"{NAMESPACES}/{namespace}/pods"
    pod = world.api.post(pods, {"metadata": {"name": name}, "spec": spec})
    return Account(world.control_plane, namespace, "default", pod=pod)


def asked(signer=SIGNER, *, labels=None, **metadata):
    """A request as the driver makes it, with the pod's node as its label."""
    text = base64.b64encode(csr(encoding=Encoding.PEM)).decode()
    usages = ["digital signature", "server auth", "client auth"]
    labels = {NODE_LABEL: "node-1"} if labels is None else labels
    return {
        "metadata": {"generateName": "kubetls-", "labels": labels, **metadata},
        "spec": {"signerName": signer, "request": text, "usages": usages},
    }


class TestPod:
    def test_its_own(self, world, web):
        """It asks our signer, and the API server writes down who asked, from where."""
        made = web.post(REQUESTS, asked())
        prefix = "authentication.kubernetes.io"
        assert made["spec"]["username"] == f"system:serviceaccount:{ENABLED}:default"
        assert made["spec"]["extra"][f"{prefix}/pod-name"] == ["web"]
        assert made["spec"]["extra"][f"{prefix}/node-name"] == ["node-1"]

    def test_who_it_says_it_is(self, world, web):
        """Whatever the request says of its author, the API server's word replaces it."""
        body = asked()
        body["spec"] |= {"username": "system:node:node-1", "extra": {"x": ["y"]}, "groups": ["z"]}
        made = web.post(REQUESTS, body)
        assert made["spec"]["username"] == f"system:serviceaccount:{ENABLED}:default"
        assert "x" not in made["spec"]["extra"]

    def test_without_a_label(self, web):
        """A request that no driver waits for is the pod's own affair."""
        assert web.status("POST", DRY, asked(labels={})) == CREATED

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (asked(labels={NODE_LABEL: "node-2"}), "of the pod's own node"),
            (asked(labels={NODE_LABEL: "node-1", "app": "web"}), "of the pod's own node"),
            (asked(labels={f"{PREFIX}/managed": "true"}), "of the pod's own node"),
            (asked(annotations={f"{PREFIX}/pod-uid": "x"}), "expected no annotations"),
            (asked(finalizers=["example.org/stay"]), "expected no annotations, finalizers"),
            (
                asked(
                    ownerReferences=[
                        {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "x"}
                    ]
                ),
                "finalizers or owners",
            ),
        ],
        ids=["node", "label", "our label", "annotation", "finalizer", "owner"],
    )
    def test_metadata(self, web, body, words):
        """It cannot lay a request before another node's driver, nor say more than it is asked."""
        assert words in web.refusal("POST", DRY, body)

    @pytest.mark.parametrize(
        "signer",
        [
            LOGIN,
            "kubernetes.io/kube-apiserver-client-kubelet",
            "kubernetes.io/kubelet-serving",
            "example.com/other",
            "kubetls.gauntletwizard.net.example.com/workload",
        ],
    )
    def test_other_signers(self, web, signer):
        """What it may create is no way to anybody else's signer, least of all to a login."""
        assert "may only ask the signers of the platform's zones" in web.refusal(
            "POST", DRY, asked(signer)
        )

    @pytest.mark.parametrize(
        ("verb", "resource"),
        [
            *((verb, RESOURCE) for verb in ("get", "list", "watch", "update", "patch", "delete")),
            ("update", f"certificatesigningrequests/approval.{RESOURCE.partition('.')[2]}"),
            ("update", f"certificatesigningrequests/status.{RESOURCE.partition('.')[2]}"),
            ("approve", "signers.certificates.k8s.io"),
            ("sign", "signers.certificates.k8s.io"),
            ("create", "podcertificaterequests.certificates.k8s.io"),
            ("create", "serviceaccounts/token"),
        ],
    )
    def test_no_more(self, web, verb, resource):
        """It creates, and neither sees, changes, answers nor ends any request, its own included."""
        for name in ("", SIGNER):
            assert not web.may(verb, resource, name=name, namespace=ENABLED)

    def test_by_trying(self, world, web):
        """Neither its own request nor another's is within its reach."""
        made = web.post(REQUESTS, asked())
        path = f"{REQUESTS}/{made['metadata']['name']}"
        assert web.status("GET", REQUESTS) == FORBIDDEN
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            assert web.status(method, path, made) == FORBIDDEN
        for part in ("approval", "status"):
            assert web.status("PUT", f"{path}/{part}", made) == FORBIDDEN
        world.api.delete(path)


class TestOtherTokens:
    def test_bound_to_no_pod(self, world, web):
        """An account without a pod asks for nothing: there is no pod to give it to."""
        plain = Account(world.control_plane, ENABLED, "default")
        for labels in ({}, {NODE_LABEL: "node-1"}):
            assert "bound to a pod" in plain.refusal("POST", DRY, asked(labels=labels))

    def test_of_another_audience(self, world, web):
        """A token that is meant for somebody else is nobody's at the API server."""
        path = f"{NAMESPACES}/{ENABLED}/pods/web"
        pod = world.api.get(path)
        other = Account(world.control_plane, ENABLED, "default", pod=pod, audience="vault.example")
        assert other.status("POST", DRY, asked()) == UNAUTHORIZED

    def test_of_a_pod_that_is_gone(self, world, web):
        """The API server knows a bound token no more when its pod was deleted."""
        gone = bound(world, "gone", ENABLED)
        assert gone.status("POST", DRY, asked()) == CREATED
        world.api.delete(f"{NAMESPACES}/{ENABLED}/pods/gone?gracePeriodSeconds=0")
        until(lambda: gone.status("POST", DRY, asked()) == UNAUTHORIZED, timeout=30)


class TestOthers:
    def test_namespace_that_is_not_enabled(self, world, web):
        """Its pods have no right to ask at all."""
        other = bound(world, "web", OTHER)
        assert not other.may("create", RESOURCE)
        assert other.status("POST", DRY, asked()) == FORBIDDEN

    def test_who_has_the_right_from_elsewhere(self, world, web):
        """An account that reads requests asks other signers as before; ours, as all others do."""
        rights = {"apiGroups": ["certificates.k8s.io"], "resources": [RESOURCE.partition(".")[0]]}
        world.apply(grant("requester", ENABLED, [{**rights, "verbs": ["create", "get"]}]))
        made = Account(world.control_plane, ENABLED, "requester")
        until(lambda: made.status("POST", DRY, asked("example.com/other")) == CREATED, timeout=20)
        annotated = asked("example.com/other", labels={"a": "b"}, annotations={"c": "d"})
        assert made.status("POST", DRY, annotated) == CREATED
        assert "bound to a pod" in made.refusal("POST", DRY, asked(labels={}))

    def test_namespace_beside_it(self, world, web):
        """Where we gave nothing, what an account asks of other signers is not looked at."""
        rights = {"apiGroups": ["certificates.k8s.io"], "resources": [RESOURCE.partition(".")[0]]}
        world.apply(grant("creator", OTHER, [{**rights, "verbs": ["create"]}]))
        made = Account(world.control_plane, OTHER, "creator")
        until(lambda: made.status("POST", DRY, asked("example.com/other")) == CREATED, timeout=20)

    def test_people(self, world):
        """An administrator is not a service account: the signer refuses what is nobody's."""
        assert world.api.post(DRY, asked(annotations={"a": "b"}, labels={}))

    def test_secret_issuer(self, world, web):
        """It goes on to say in annotations for which pod it asks."""
        body = asked(labels={}, annotations={f"{PREFIX}/pod-name": "web"})
        assert world.secret_issuer.status("POST", DRY, body) == CREATED


class TestGroups:
    @pytest.mark.parametrize(
        ("namespaces", "groups"),
        [
            ([], ["system:serviceaccounts"]),
            (["a", "b"], ["system:serviceaccounts:a", "system:serviceaccounts:b"]),
        ],
        ids=["all", "some"],
    )
    def test_who_gets_the_right(self, namespaces, groups):
        """All service accounts, or those of the namespaces that are named, and nobody else."""
        values = copy.deepcopy(VALUES)
        values["csi"]["namespaces"] = namespaces
        binding = one(rendered(values), "ClusterRoleBinding", "kubetls-pod-requests")
        kind = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io"}
        assert binding["subjects"] == [{**kind, "name": name} for name in groups]


def grant(name, namespace, rules):
    """A service account with rights in the whole cluster."""
    metadata = {"name": name, "namespace": namespace}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {**role, "kind": "ClusterRole", "rules": rules},
        {
            **role,
            "kind": "ClusterRoleBinding",
            "roleRef": reference,
            "subjects": [{"kind": "ServiceAccount", **metadata}],
        },
    ]
