# SPDX-License-Identifier: Apache-2.0
"""What the API server itself refuses by the chart's policies, and what it must not refuse."""

from __future__ import annotations

import base64
import copy
import uuid

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cluster import ApiStatusError, HollowNode
from cluster.api import Api
from kubetls_sdk.testing import DevelopmentCA
from tests.cluster.account import Account
from tests.cluster.chart import SYSTEM, one, rendered
from tests.cluster.chart_world import (
    CERTIFICATES,
    ENABLED,
    NAMESPACES,
    OTHER,
    PREFIX,
    SECRET_NAME,
    SIGNER,
    VALUES,
    chart_world,
    namespace_body,
    request,
    requests_of,
    secrets_of,
    workload_secret,
)
from tests.cluster.pods import certificate_volume, pod
from tests.waiting import until
from tests.webhook.signing.world import csr

OK, CREATED, UNCHANGEABLE = 200, 201, 422
INJECT = f"{PREFIX}/inject"
SIGNING_REQUESTS = f"{CERTIFICATES}/certificatesigningrequests"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cluster with the chart, for this module."""
    with chart_world(tmp_path_factory.mktemp("policies")) as world:
        yield world


@pytest.fixture(scope="module")
def node(world):
    """A node that asks for certificates."""
    with HollowNode(world.control_plane, "node-1") as node:
        yield node


@pytest.fixture(scope="module")
def uid(world):
    """The UID of a pod."""
    return world.pod("owner")


class TestPolicies:
    @pytest.mark.parametrize(
        "name",
        [
            "kubetls-requests-come-from-nodes",
            "kubetls-namespace-labels",
            "kubetls-secret-issuer",
            "kubetls-secret-issuer-requests",
            "kubetls-signer-objects",
            "kubetls-pod-requests",
        ],
    )
    def test_fail_closed(self, world, name):
        """Each policy is bound to deny, an error of its own refuses, and it has no type errors."""
        root = "/apis/admissionregistration.k8s.io/v1"
        policy = until(
            lambda: _checked(world.api.get(f"{root}/validatingadmissionpolicies/{name}")),
            timeout=20,
        )
        assert policy["spec"]["failurePolicy"] == "Fail"
        assert policy["status"]["typeChecking"] == {}
        binding = world.api.get(f"{root}/validatingadmissionpolicybindings/{name}")
        assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}

    def test_an_error_refuses(self, world):
        """An expression that cannot be evaluated refuses the object: tried with a broken copy."""
        objects = rendered(VALUES)
        name = "kubetls-signer-objects"
        broken = copy.deepcopy(
            [
                one(objects, kind, name)
                for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
            ]
        )
        for each in broken:
            each["metadata"]["name"] = "try-broken"
        policy, binding = broken
        binding["spec"]["policyName"] = "try-broken"
        spec = policy["spec"]
        spec["matchConditions"] = [
            {"name": "try", "expression": "object.metadata.name == 'try-broken'"}
        ]
        spec["validations"] = [{"expression": "object.metadata.annotations['none'] == 'x'"}]
        world.apply(broken)
        path, body = (
            f"{NAMESPACES}/{OTHER}/configmaps?dryRun=All",
            {"metadata": {"name": "try-broken"}},
        )
        until(lambda: _is_refused(world.api, path, body), timeout=20)


class TestRequestsComeFromNodes:
    def test_administrator(self, world):
        """Not even an administrator makes a request for our signer."""
        with pytest.raises(ApiStatusError, match="only the node that runs a pod"):
            world.api.post(requests_of(ENABLED), request())

    @pytest.mark.parametrize(
        "signer", [SIGNER, f"{PREFIX}/a-zone-of-tomorrow"], ids=["ours", "our prefix"]
    )
    def test_account_with_the_right_to_create(self, world, signer):
        """An account that may create requests forges no identity."""
        refusal = world.editor.refusal("POST", requests_of(ENABLED), request(signerName=signer))
        assert "only the node that runs a pod" in refusal

    @pytest.mark.parametrize(
        ("user", "groups"),
        [
            ("system:node:node-1", []),
            ("node-1", ["system:nodes"]),
            ("system:node:another", ["system:nodes", "system:masters"]),
            ("system:node:", ["system:nodes", "system:masters"]),
        ],
    )
    def test_who_only_looks_like_a_node(self, world, user, groups):
        """A node's name without its group, or another node's name, is not the node."""
        api = _api_as(world, user, groups)
        with pytest.raises(ApiStatusError) as caught:
            api.post(requests_of(ENABLED), request(nodeName="node-1"))
        assert caught.value.status == 403

    def test_other_signers(self, world):
        """Requests for other people's signers are none of our business."""
        body = request(signerName="example.org/another")
        assert "only the node" not in world.editor.refusal("POST", requests_of(ENABLED), body)

    @pytest.mark.usefixtures("node")
    def test_the_node_itself(self, world):
        """The kubelet's request for a pod of its own is taken."""
        body = pod("asking", volumes=[certificate_volume(SIGNER)])
        account = f"{NAMESPACES}/{ENABLED}/serviceaccounts/default"
        until(lambda: world.api.exists(account), timeout=20)
        made = world.api.post(f"{NAMESPACES}/{ENABLED}/pods", body)
        path = f"{requests_of(ENABLED)}?fieldSelector=spec.signerName={SIGNER}"
        found = until(lambda: world.api.get(path)["items"], timeout=40)
        assert [each["spec"]["podUID"] for each in found] == [made["metadata"]["uid"]]
        name = found[0]["metadata"]["name"]
        world.api.delete(f"{requests_of(ENABLED)}/{name}")


class TestNamespaceLabels:
    @pytest.mark.parametrize("suffix", ["", "/status", "/finalize"])
    def test_editor_cannot_change_ours(self, world, suffix):
        """Who may edit namespaces cannot opt out of injection, on no way to the object."""
        made = _made_namespace(world)
        path = f"{NAMESPACES}/{made['metadata']['name']}"
        made["metadata"]["labels"][INJECT] = "disabled"
        refusal = world.editor.refusal("PUT", f"{path}{suffix}", made)
        assert "labels of kubetls.gauntletwizard.net on a namespace" in refusal
        assert INJECT not in world.api.get(path)["metadata"]["labels"]

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    @pytest.mark.parametrize("value", ["enabled", None], ids=["other value", "removed"])
    def test_editor_cannot_undo_ours(self, world, method, value):
        """A label of the platform can be neither changed nor removed."""
        made = _made_namespace(world, inject="disabled")
        labels = made["metadata"]["labels"]
        if method == "PATCH":
            body = {"metadata": {"labels": {INJECT: value}}}
        else:
            kept = {key: each for key, each in labels.items() if key != INJECT}
            made["metadata"]["labels"] = kept | ({INJECT: value} if value else {})
            body = made
        path = f"{NAMESPACES}/{made['metadata']['name']}"
        assert "belong to the platform" in world.editor.refusal(method, path, body)

    @pytest.mark.parametrize("metadata", [{"name": "born"}, {"generateName": "born-"}])
    def test_editor_cannot_create_with_ours(self, world, metadata):
        """A new namespace has no label of ours, by whatever name it is created."""
        body = {"metadata": {**metadata, "labels": {INJECT: "disabled"}}}
        assert "belong to the platform" in world.editor.refusal("POST", NAMESPACES, body)

    def test_editor_does_all_else(self, world):
        """Namespaces without labels, with others' labels, and their deletion are not hindered."""
        name = f"free-{uuid.uuid4().hex[:6]}"
        path = f"{NAMESPACES}/{name}"
        made = world.editor.post(NAMESPACES, {"metadata": {"name": name}})
        made["metadata"]["labels"]["example.org/team"] = "shop"
        made["metadata"]["annotations"] = {INJECT: "an annotation is none of its business"}
        made = world.editor.put(path, made)
        made["metadata"]["labels"] = {}
        world.editor.put(path, made)
        assert world.editor.status("PATCH", path, {"metadata": {"labels": None}}) == OK
        world.editor.delete(path)
        until(lambda: not world.api.exists(path), timeout=40)

    def test_labelled_namespace_is_edited_and_deleted(self, world):
        """Where the platform set a label, others still change the rest, and delete it."""
        made = _made_namespace(world, inject="disabled")
        path = f"{NAMESPACES}/{made['metadata']['name']}"
        made["metadata"]["labels"]["example.org/team"] = "shop"
        assert world.editor.status("PUT", path, made) == OK
        world.editor.delete(path)
        until(lambda: not world.api.exists(path), timeout=40)

    def test_platform_team(self, world):
        """Whoever has the verb `label` may set them."""
        binding = {
            "metadata": {"name": "platform-team"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "kubetls-platform",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "editor", "namespace": OTHER}],
        }
        path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
        world.api.post(path, binding)
        try:
            until(
                lambda: (
                    world.editor.status(
                        "POST", f"{NAMESPACES}?dryRun=All", namespace_body("a", inject="disabled")
                    )
                    == CREATED
                )
            )
        finally:
            world.api.delete(f"{path}/platform-team")


class TestSecretIssuer:
    def test_own(self, world, uid):
        """A Secret of a pod is created and replaced."""
        name = f"kubetls-{uuid.uuid4().hex[:20]}"
        made = world.secret_issuer.post(secrets_of(ENABLED), workload_secret(uid, name=name))
        made["data"] = {}
        assert world.secret_issuer.status("PUT", f"{secrets_of(ENABLED)}/{name}", made) == OK

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"type": "Opaque"}, "its own type"),
            ({"type": None}, "its own type"),
            ({"name": "database-password"}, "its own type"),
            ({"name": f"kubetls-{'0' * 21}"}, "its own type"),
            ({"name": f"x-kubetls-{'0' * 20}"}, "its own type"),
            ({"ownerReferences": []}, "one owner"),
            ({"ownerReferences": None}, "one owner"),
            ({"ownerReferences": "two"}, "one owner"),
            ({"kind": "Namespace"}, "one owner"),
            ({"apiVersion": "example.org/v1"}, "one owner"),
        ],
        ids=str,
    )
    def test_nothing_else_is_created(self, world, uid, changes, words):
        """Another type, name or owner is refused: `create` alone would allow it."""
        body = _changed(workload_secret(uid), changes)
        assert words in world.secret_issuer.refusal("POST", secrets_of(ENABLED), body)

    def test_foreign_secret_is_not_overwritten(self, world, uid):
        """A Secret of somebody else's type stays, even where its name looks like ours."""
        path = secrets_of(ENABLED)
        made = world.api.post(path, {"metadata": {"name": f"kubetls-{'1' * 20}"}, "type": "Opaque"})
        body = _changed(
            made, {"ownerReferences": workload_secret(uid)["metadata"]["ownerReferences"]}
        )
        target = f"{path}/kubetls-{'1' * 20}"
        assert "its own type" in world.secret_issuer.refusal("PUT", target, body)
        body["type"] = workload_secret(uid)["type"]
        assert world.secret_issuer.status("PUT", target, body) == UNCHANGEABLE
        assert world.api.get(target) == made

    def test_secret_without_owner_is_not_adopted(self, world, uid):
        """A Secret of our type that nobody owns is not given an owner."""
        path, name = secrets_of(ENABLED), f"kubetls-{'2' * 20}"
        ours = workload_secret(uid, name=name)
        orphan = copy.deepcopy(ours)
        del orphan["metadata"]["ownerReferences"]
        world.api.post(path, orphan)
        assert "one owner" in world.secret_issuer.refusal("PUT", f"{path}/{name}", ours)

    def test_owner_stays(self, world, uid):
        """A Secret of one pod never becomes another pod's."""
        path, name = secrets_of(ENABLED), f"kubetls-{'3' * 20}"
        world.secret_issuer.post(path, workload_secret(uid, name=name))
        other = workload_secret(str(uuid.uuid4()), name=name)
        assert "one owner" in world.secret_issuer.refusal("PUT", f"{path}/{name}", other)

    def test_with_more_rights(self, world, uid):
        """Where somebody gave it `delete`, it still deletes none but its own."""
        root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{ENABLED}"
        world.api.post(
            f"{root}/roles",
            {
                "metadata": {"name": "too-much"},
                "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["delete"]}],
            },
        )
        subject = {"kind": "ServiceAccount", "name": "kubetls-secret-issuer", "namespace": SYSTEM}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "too-much"}
        world.api.post(
            f"{root}/rolebindings",
            {"metadata": {"name": "too-much"}, "roleRef": role, "subjects": [subject]},
        )
        path = secrets_of(ENABLED)
        world.api.post(path, {"metadata": {"name": "password"}})
        until(lambda: "its own type" in world.secret_issuer.refusal("DELETE", f"{path}/password"))
        world.secret_issuer.post(path, workload_secret(uid, name=SECRET_NAME))
        assert world.secret_issuer.status("DELETE", f"{path}/{SECRET_NAME}") == OK

    def test_others_are_not_hindered(self, world):
        """Everybody else writes and deletes Secrets as before."""
        path = secrets_of(ENABLED)
        world.editor.post(path, {"metadata": {"name": "mine"}, "stringData": {"a": "b"}})
        assert world.editor.status("PATCH", f"{path}/mine", {"stringData": {"a": "c"}}) == OK
        assert world.editor.status("DELETE", f"{path}/mine") == OK
        assert world.editor.status("DELETE", f"{path}?labelSelector=none=none") == OK


class TestRequestsOfTheSecretIssuer:
    def test_own(self, world):
        """It asks our signer, and clears its request away."""
        made = world.secret_issuer.post(SIGNING_REQUESTS, signing_request())
        path = f"{SIGNING_REQUESTS}/{made['metadata']['name']}"
        assert world.secret_issuer.status("DELETE", path) == OK

    def test_other_signers(self, world):
        """It asks no signer that is not one of a zone."""
        body = signing_request("kubernetes.io/kube-apiserver-client")
        path = f"{SIGNING_REQUESTS}?dryRun=All"
        assert "of the platform's zones" in world.secret_issuer.refusal("POST", path, body)

    def test_requests_of_others(self, world):
        """It deletes nobody else's request, though the right to delete is for all of them."""
        made = world.api.post(SIGNING_REQUESTS, signing_request())
        path = f"{SIGNING_REQUESTS}/{made['metadata']['name']}"
        assert "of its own" in world.secret_issuer.refusal("DELETE", path)
        world.api.delete(path)


def signing_request(signer=SIGNER):
    text = base64.b64encode(csr(encoding=Encoding.PEM)).decode()
    spec = {"signerName": signer, "request": text, "usages": ["digital signature"]}
    return {"metadata": {"generateName": "kubetls-"}, "spec": spec}


def _checked(policy):
    """The policy once the API server has type-checked it."""
    status = policy.get("status") or {}
    is_done = status.get("observedGeneration") == policy["metadata"]["generation"]
    return policy if is_done and "typeChecking" in status else None


def _is_refused(api, path, body):
    try:
        api.post(path, body)
    except ApiStatusError as err:
        return "no such key" in str(err)
    return False


def _api_as(world, user, groups):
    """The API server as a user with a certificate."""
    files = world.control_plane._authority.issue_client(user, groups)
    port = world.control_plane.port
    return Api(port, authority_pem=world.control_plane.authority_pem, files=files)


def _made_namespace(world, **labels):
    return world.api.post(NAMESPACES, namespace_body(f"edit-{uuid.uuid4().hex[:6]}", **labels))


def _changed(secret, changes):
    body = copy.deepcopy(secret)
    owners = body["metadata"].get("ownerReferences", [])
    for key, value in changes.items():
        if key == "type":
            body["type"] = value
        elif value == "two":
            body["metadata"]["ownerReferences"] = [*owners, {**owners[0], "uid": "another"}]
        elif key in {"kind", "apiVersion"}:
            owners[0][key] = value
        else:
            body["metadata"][key] = value
    return body


BUNDLE = f"{PREFIX}:partner:acme"


@pytest.fixture(scope="module")
def editor(world):
    """An account that may edit every ClusterTrustBundle, and attest for no signer."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bundle-editor"}
    account = {"kind": "ServiceAccount", "name": "bundle-editor", "namespace": OTHER}
    rule = {"apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"]}
    rules = [{**rule, "verbs": ["get", "create", "update", "patch"]}]
    path, metadata = "/apis/rbac.authorization.k8s.io/v1", {"name": "bundle-editor"}
    world.api.post(f"{NAMESPACES}/{OTHER}/serviceaccounts", {"metadata": metadata})
    world.api.post(f"{path}/clusterroles", {"metadata": metadata, "rules": rules})
    binding = {"metadata": metadata, "roleRef": role, "subjects": [account]}
    world.api.post(f"{path}/clusterrolebindings", binding)
    return Account(world.control_plane, OTHER, "bundle-editor")


@pytest.fixture(scope="module")
def bundle(world):
    """A partner's bundle, as the leader publishes it."""
    metadata = {"name": BUNDLE, "labels": {f"{PREFIX}/partner": "acme"}}
    text = DevelopmentCA("partner.example").bundle.to_pem().decode()
    spec = {"signerName": f"{PREFIX}/partner", "trustBundle": text}
    return world.api.post(
        f"{CERTIFICATES}/clustertrustbundles", {"metadata": metadata, "spec": spec}
    )


class TestTrustBundles:
    """The API server's own admission: what is published of a partner is not for all to edit."""

    @pytest.mark.parametrize(
        ("part", "change"),
        [
            ("metadata", {"labels": {f"{PREFIX}/partner": "bank"}}),
            ("metadata", {"annotations": {f"{PREFIX}/bundle-sequence": "0"}}),
            ("metadata", {"annotations": {f"{PREFIX}/bundle-fetched-at": "2099-01-01T00:00:00Z"}}),
            ("spec", {"trustBundle": DevelopmentCA("partner.example").bundle.to_pem().decode()}),
        ],
        ids=["label", "sequence", "time", "text"],
    )
    def test_what_the_leader_remembers(self, editor, bundle, part, change):
        """Neither text, labels nor annotations can be edited without the verb `attest`."""
        path = f"{CERTIFICATES}/clustertrustbundles/{BUNDLE}"
        assert editor.status("GET", path) == OK
        changed = {**bundle, part: {**bundle[part], **change}}
        assert "attest" in editor.refusal("PUT", path, changed)
