# SPDX-License-Identifier: Apache-2.0
"""The injector before a real API server: what its pods look like, whoever makes them."""

import base64
import contextlib
import json
import re
import uuid

import pytest

from cluster.exceptions import ApiStatusError
from tests.cluster.another_webhook import adding_container
from tests.integration.injecting import Folder, running
from tests.waiting import until
from tests.webhook.injection.world import (
    ENVIRONMENT,
    MOUNT,
    PREFIX,
    STORE_ENVIRONMENT,
    STORE_MOUNTS,
    annotated,
    csi_volume,
    store_volume,
    volume,
)
from webhook.capabilities import Capabilities
from webhook.config import PlatformConfig
from webhook.injection.policy import build_policies

CONFIG = """\
version: 1
zones: [{name: default, trustDomain: example.org}, {name: pci, trustDomain: pci.example}]
partners:
  - {name: acme, trustDomain: partner.example, namespaces: ["test-*"], bundle: PEM}
  - {name: card, zone: pci, namespaces: ["test-*"]}
namespaces:
  - names: ["test-*"]
    zones: [default, pci]
    modes: [pod-certificate, secret, csi]
    keyTypes: [ECDSAP256, ECDSAP384]
    lifetime: {default: 24h, maximum: 7d}
    mountPaths: [/run/secrets/workload-spiffe-credentials, /etc/identity]
"""
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
WEBHOOKS = f"{ADMISSION}/mutatingwebhookconfigurations"
MAIN = {"name": "main", "image": "none.example/main"}


@pytest.fixture(scope="module")
def config_text(tmp_path_factory):
    from kubetls_sdk.testing import DevelopmentCA

    pem = DevelopmentCA("partner.example").bundle.to_pem().decode()
    return CONFIG.replace("PEM", json.dumps(pem))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, config_text):
    found = Folder(tmp_path_factory.mktemp("injector"))
    found.write_config(config_text)
    found.write_certificate()
    return found


@pytest.fixture(scope="module")
def injector(folder):
    with running(folder.settings()) as run:
        run.wait_ready()
        yield run


class Cluster:
    """The API server, in one namespace."""

    def __init__(self, api, namespace):
        self.api = api
        self.namespace = namespace
        self.core = f"/api/v1/namespaces/{namespace}"

    def create(self, pod, *, dry_run=False):
        return self.api.post(f"{self.core}/pods" + ("?dryRun=All" if dry_run else ""), pod)

    def debug(self, pod):
        """Write the ephemeral containers of a pod, whatever else has changed in it."""
        del pod["metadata"]["resourceVersion"]
        path = f"{self.core}/pods/{pod['metadata']['name']}/ephemeralcontainers"
        return self.api.put(path, pod)

    def pods(self):
        return self.api.get(f"{self.core}/pods")["items"]

    @contextlib.contextmanager
    def webhook(self, name, port, authority, *, ephemeral=False):
        """Register a webhook for this namespace, and wait until the API server asks it."""
        self.api.post(WEBHOOKS, self._registration(name, port, authority, ephemeral))
        try:
            yield
        finally:
            self.api.delete(f"{WEBHOOKS}/{self.namespace}-{name}")

    def _registration(self, name, port, authority, ephemeral):
        pods = {"apiGroups": [""], "apiVersions": ["v1"], "scope": "Namespaced"}
        rules = [{**pods, "resources": ["pods"], "operations": ["CREATE"]}]
        if ephemeral:
            both = {"resources": ["pods/ephemeralcontainers"], "operations": ["UPDATE"]}
            rules.append({**pods, **both})
        ours = {"key": "kubernetes.io/metadata.name", "operator": "In"}
        webhook = {
            "name": f"{name}.kubetls.example",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 5,
            "reinvocationPolicy": "IfNeeded",
            "clientConfig": {
                "url": f"https://127.0.0.1:{port}/mutate",
                "caBundle": base64.b64encode(authority.cert_pem.bytes()).decode(),
            },
            "rules": rules,
            "namespaceSelector": {"matchExpressions": [{**ours, "values": [self.namespace]}]},
        }
        return {"metadata": {"name": f"{self.namespace}-{name}"}, "webhooks": [webhook]}


@pytest.fixture
def plain(control_plane, namespace):
    """A namespace that nobody injects."""
    return Cluster(control_plane.api, namespace)


@pytest.fixture
def cluster(plain, injector, folder):
    """A namespace that our webhook is asked about."""
    with plain.webhook("kubetls", injector.injector.port, folder.authority, ephemeral=True):
        until(lambda: is_injected(plain.create(pod(name="try"), dry_run=True)))
        yield plain


def pod(*containers, name=None, annotations=None, labels=None, **spec):
    metadata = {"name": name} if name else {"generateName": "made-"}
    metadata |= {"annotations": annotations} if annotations else {}
    metadata |= {"labels": labels} if labels else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers) or [MAIN], **spec},
    }


def template(**labels):
    return {"metadata": {"labels": labels}, "spec": {"containers": [MAIN]}}


def own_volume(pod):
    return [each for each in pod["spec"]["volumes"] if each["name"] == "kubetls"]


def is_injected(pod):
    return bool(own_volume(pod))


def injects_by_now(cluster):
    """What validates may be in force before what injects is."""
    try:
        return is_injected(cluster.create(pod(), dry_run=True))
    except ApiStatusError:
        return False


def assert_injected(pod):
    """A pod has exactly one volume of ours, mounted in each container, with the environment."""
    assert own_volume(pod) == [volume()]
    assert pod["metadata"]["annotations"][f"{PREFIX}/injected"] == "pod-certificate"
    for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
        assert container["volumeMounts"].count(MOUNT) == 1
        assert [each for each in container["env"] if each in ENVIRONMENT] == ENVIRONMENT


class TestWhoMakesThePod:
    def test_a_bare_pod(self, cluster):
        """A pod with a name, as a person makes it."""
        assert_injected(cluster.create(pod(name="bare")))

    def test_a_generated_name(self, cluster):
        """A pod whose name is made after its admission."""
        created = cluster.create(pod())
        assert created["metadata"]["name"].startswith("made-")
        assert_injected(created)

    def test_many_containers(self, cluster):
        """Init containers, a native sidecar, and mounts and variables of the author."""
        made = cluster.create(
            pod(
                {
                    **MAIN,
                    "env": [{"name": "HOME", "value": "/"}],
                    "volumeMounts": [{"name": "run", "mountPath": "/run"}],
                },
                {**MAIN, "name": "second"},
                initContainers=[
                    {**MAIN, "name": "first"},
                    {**MAIN, "name": "proxy", "restartPolicy": "Always"},
                ],
                volumes=[{"name": "run", "emptyDir": {}}],
            )
        )
        assert_injected(made)
        assert made["spec"]["containers"][0]["env"][0] == {"name": "HOME", "value": "/"}

    @pytest.mark.parametrize(
        ("plural", "kind", "spec"),
        [
            ("apps/v1/deployments", "Deployment", {"replicas": 2}),
            ("apps/v1/statefulsets", "StatefulSet", {"serviceName": "web"}),
            ("batch/v1/jobs", "Job", {}),
        ],
    )
    def test_a_controller(self, cluster, plural, kind, spec):
        """Pods of the real controllers are injected as they are created."""
        version, _, resource = plural.rpartition("/")
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": "web"}}
        if kind == "Job":
            made = template()
            made["spec"]["restartPolicy"] = "Never"
            spec = {**spec, "template": made}
        else:
            labels = {"app": "web"}
            spec = {**spec, "selector": {"matchLabels": labels}, "template": template(**labels)}
        path = f"/apis/{version}/namespaces/{cluster.namespace}/{resource}"
        cluster.api.post(path, {**body, "spec": spec})
        pods = until(lambda: len(cluster.pods()) == spec.get("replicas", 1) and cluster.pods())
        for each in pods:
            assert_injected(each)

    def test_a_dry_run(self, cluster):
        """A dry run shows the injected pod, and leaves nothing behind."""
        assert_injected(cluster.create(pod(name="dry"), dry_run=True))
        assert cluster.pods() == []

    def test_a_copy(self, cluster):
        """A pod that is made again from one that was injected is left as it is."""
        made = cluster.create(pod(name="first"))
        spec = {key: made["spec"][key] for key in ("containers", "volumes")}
        copy = pod(name="second", annotations=made["metadata"]["annotations"])
        again = cluster.create({**copy, "spec": spec})
        assert_injected(again)
        assert spec["containers"] == again["spec"]["containers"]


class TestChoices:
    def test_what_a_pod_asks_for(self, cluster):
        """The API server accepts the volume for every choice of an annotation."""
        asked = annotated(
            zone="pci",
            partners="acme",
            key_type="ECDSAP384",
            lifetime="7d",
            mount_path="/etc/identity",
        )
        made = cluster.create(pod(annotations=asked))
        certificate, own, partner = own_volume(made)[0]["projected"]["sources"]
        assert certificate["podCertificate"]["maxExpirationSeconds"] == 7 * 86400
        assert certificate["podCertificate"]["signerName"] == f"{PREFIX}/pci"
        assert own["clusterTrustBundle"]["path"] == "pci.example.trust-bundle.pem"
        assert partner["clusterTrustBundle"]["optional"] is True

    def test_the_secret_mode(self, cluster):
        """The Secret has a name that differs from pod to pod, and stays at reinvocation."""
        found = set()
        for name in ("one", "two"):
            made = cluster.create(pod(name=name, annotations=annotated(mode="secret")))
            secret = made["metadata"]["annotations"][f"{PREFIX}/secret"]
            assert own_volume(made)[0]["secret"] == {"secretName": secret, "defaultMode": 420}
            found.add(secret)
        assert len(found) == 2

    def test_the_csi_mode(self, cluster):
        """The API server stores the driver's volume as it was added."""
        made = cluster.create(pod(annotations=annotated(mode="csi")))
        assert own_volume(made) == [csi_volume()]
        assert made["metadata"]["annotations"][f"{PREFIX}/injected"] == "csi"

    @pytest.mark.parametrize(
        ("about", "message"),
        [
            ({"annotations": annotated(zone="x")}, f"annotation {PREFIX}/zone: expected one of"),
            ({"annotations": annotated(zones="x")}, f"unknown annotation '{PREFIX}/zones'"),
            ({"volumes": [{"name": "kubetls", "emptyDir": {}}]}, "volume 'kubetls': expected no"),
        ],
    )
    def test_a_refusal(self, cluster, about, message):
        """The author of a refused pod reads which field it was and what may be."""
        with pytest.raises(ApiStatusError) as refused:
            cluster.create(pod(**about))
        assert refused.value.status == 403
        assert message in str(refused.value)

    def test_declined(self, cluster):
        """A pod that declines is left alone."""
        made = cluster.create(pod(labels={f"{PREFIX}/inject": "false"}))
        assert not is_injected(made)

    def test_old_nodes(self, cluster, folder):
        """When the cluster gets a node that is too old, new pods have the other mode."""
        folder.write_capabilities(Capabilities(old_nodes=("node-1",)).to_json())
        try:
            until(lambda: "secret" in own_volume(cluster.create(pod(), dry_run=True))[0])
        finally:
            folder.write_capabilities(Capabilities().to_json())
        until(lambda: "projected" in own_volume(cluster.create(pod(), dry_run=True))[0])


class TestOtherWebhooks:
    @pytest.mark.parametrize("order", ["a-before", "z-after"])
    @pytest.mark.parametrize("mode", ["pod-certificate", "csi", "secret"])
    def test_one_more_container(self, cluster, folder, order, mode):
        """A container that another webhook adds, before us or after us, is mounted too."""
        certificate = folder.authority.issue_cert("127.0.0.1")
        with (
            adding_container("proxy", certificate) as port,
            cluster.webhook(order, port, folder.authority),
        ):
            asked = pod(annotations=annotated(mode=mode))
            made = until(lambda: with_proxy(cluster.create(asked, dry_run=True)))
            assert [each["name"] for each in made["spec"]["containers"]] == ["proxy", "main"]
            assert len(own_volume(made)) == 1
            for container in made["spec"]["containers"]:
                assert container["volumeMounts"].count(MOUNT) == 1
                assert container["env"] == ENVIRONMENT


def with_proxy(pod):
    return pod if any(each["name"] == "proxy" for each in pod["spec"]["containers"]) else None


class TestEphemeralContainers:
    def test_debugging(self, cluster):
        """A container for debugging sees what the pod's others see."""
        made = cluster.create(pod(name="debugged"))
        made["spec"]["ephemeralContainers"] = [{**MAIN, "name": "debug"}]
        first = cluster.debug(made)
        first["spec"]["ephemeralContainers"].append({**MAIN, "name": "again"})
        second = cluster.debug(first)
        for each in second["spec"]["ephemeralContainers"]:
            assert each["volumeMounts"] == [MOUNT]
            assert each["env"] == ENVIRONMENT


def with_init(**container):
    """A pod with an init container, and a volume that it may mount."""
    made = {**MAIN, "name": "init", **container}
    return {"initContainers": [made], "volumes": [{"name": "d", "emptyDir": {}}]}


CSI = {"annotations": annotated(mode="csi")}
INTERNAL = {"annotations": annotated(trust_store="internal")}
SHAPES = {
    "zone as partner": {"annotations": annotated(partners="card, acme")},
    "own zone as partner": {"annotations": annotated(zone="pci", partners="card,acme")},
    "least": {},
    "annotations": {
        "annotations": annotated(
            zone="pci",
            partners="acme",
            key_type="ECDSAP384",
            lifetime="90m",
            mount_path="/etc/identity",
        )
    },
    "no token": {"automountServiceAccountToken": False},
    "containers": {
        "initContainers": [
            {**MAIN, "name": "init", "env": [ENVIRONMENT[1], {"name": "A", "value": "b"}]},
            {**MAIN, "name": "proxy", "restartPolicy": "Always", "volumeMounts": [MOUNT]},
        ],
        "volumes": [volume(), {"name": "run", "emptyDir": {}}],
    },
    "trust store": {
        "annotations": annotated(trust_store="internal", partners="acme"),
        "initContainers": [
            {
                **MAIN,
                "name": "init",
                "env": [{"name": "NODE_OPTIONS", "value": "-r x --use-openssl-ca"}],
            }
        ],
    },
    "trust store by hand": {
        "annotations": annotated(trust_store="internal"),
        "initContainers": [
            {**MAIN, "name": "init", "volumeMounts": STORE_MOUNTS, "env": STORE_ENVIRONMENT}
        ],
        "volumes": [store_volume()],
    },
    "image's trust store": {"annotations": annotated(trust_store="image")},
    "csi": {"annotations": annotated(mode="csi", zone="pci", partners="acme")},
    "csi by hand": {**CSI, "volumes": [csi_volume()]},
    "csi with a trust store": {"annotations": annotated(mode="csi", trust_store="internal")},
    "declined": {"labels": {f"{PREFIX}/inject": "false"}},
    "windows": {"os": {"name": "windows"}},
}
WRONG = {
    "trust store": {"annotations": annotated(trust_store="web")},
    "store volume": {**INTERNAL, "volumes": [{"name": "kubetls-trust-store", "emptyDir": {}}]},
    "store of another zone": {**INTERNAL, "volumes": [store_volume(signerName=f"{PREFIX}/pci")]},
    "store variable": {**INTERNAL, **with_init(env=[{"name": "SSL_CERT_FILE", "value": "/x"}])},
    "store option": {**INTERNAL, **with_init(env=[{"name": "NODE_OPTIONS", "value": "-r x"}])},
    "store mount": {
        **INTERNAL,
        **with_init(volumeMounts=[{"name": "d", "mountPath": "/etc/ssl/certs"}]),
    },
    "below the store": {
        **INTERNAL,
        **with_init(volumeMounts=[{"name": "d", "mountPath": "/etc/ssl/certs/own.pem"}]),
    },
    "zone": {"annotations": annotated(zone="x")},
    "unknown": {"annotations": annotated(zones="x")},
    "key type": {"annotations": annotated(key_type="ED25519")},
    "place": {"annotations": annotated(mount_path="/x")},
    "mode": {"annotations": annotated(mode="magic")},
    "driver": {**CSI, "volumes": [csi_volume(driver="csi.example.com")]},
    "writable": {**CSI, "volumes": [csi_volume(readOnly=False)]},
    "attributes": {**CSI, "volumes": [csi_volume(volumeAttributes={"zone": "pci"})]},
    "file system": {**CSI, "volumes": [csi_volume(fsType="ext4")]},
    "a Secret for it": {**CSI, "volumes": [csi_volume(nodePublishSecretRef={"name": "x"})]},
    "projected, not by the driver": {**CSI, "volumes": [volume()]},
    "by the driver, not projected": {"volumes": [csi_volume()]},
    "lifetime": {"annotations": annotated(lifetime="8d")},
    "lifetime without a unit": {"annotations": annotated(lifetime="1")},
    "partner": {"annotations": annotated(partners="acme,evil")},
    "label": {"labels": {f"{PREFIX}/inject": "yes"}},
    "volume": {"volumes": [{"name": "kubetls", "emptyDir": {}}]},
    "foreign signer": {"volumes": [volume(signerName=f"{PREFIX}/pci")]},
    "variable": with_init(env=[{**ENVIRONMENT[1], "value": "x"}]),
    "mount": with_init(volumeMounts=[{"name": "d", "mountPath": MOUNT["mountPath"]}]),
    "below": with_init(volumeMounts=[{"name": "d", "mountPath": f"{MOUNT['mountPath']}/x"}]),
}


def stored(pod):
    """A pod without what is random in every one of them."""
    metadata = {key: pod["metadata"].get(key) for key in ("annotations", "labels")}
    text = json.dumps({"metadata": metadata, "spec": pod["spec"]}, sort_keys=True)
    return json.loads(re.sub("kube-api-access-[a-z0-9]{5}", "kube-api-access-x", text))


@pytest.fixture(scope="module")
def pair(control_plane, config_text, injector, folder):
    """Two namespaces: one has the webhook, the other has the policies."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    api = control_plane.api
    for each in ("w", "p"):
        api.post("/api/v1/namespaces", {"metadata": {"name": f"{name}-{each}"}})
        path = f"/api/v1/namespaces/{name}-{each}/serviceaccounts/default"
        until(lambda path=path: api.exists(path))
    webhook, policy = (Cluster(api, f"{name}-{each}") for each in ("w", "p"))
    config = PlatformConfig.parse(config_text)
    text = json.dumps(build_policies(config, excluded=["kube-system", webhook.namespace]))
    manifests = json.loads(text.replace("kubetls-inject-1", f"{name}-policy"))
    text = json.dumps(manifests).replace('startsWith(\\"test-\\")', f'startsWith(\\"{name}\\")')
    with (
        webhook.webhook("kubetls", injector.injector.port, folder.authority),
        applied(api, json.loads(text)),
    ):
        for each in (webhook, policy):
            until(lambda each=each: injects_by_now(each), timeout=30)
        until(lambda: refusal(policy, pod(**WRONG["zone"])), timeout=30)
        yield webhook, policy
    for each in (webhook, policy):
        api.delete(each.core)


class TestWithoutAWebhook:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_same_pod(self, pair, shape):
        """What the API server's own policies make of a pod is what our webhook makes of it."""
        webhook, policy = (
            each.create(pod(name="x", **SHAPES[shape]), dry_run=True) for each in pair
        )
        assert stored(webhook) == stored(policy)
        assert is_injected(webhook) is (shape not in ("declined", "windows"))

    @pytest.mark.parametrize("wrong", WRONG)
    def test_the_same_refusals(self, pair, wrong):
        """What our webhook refuses, the policies refuse with 403 and a message of their own."""
        webhook, policy = (refusal(each, pod(**WRONG[wrong])) for each in pair)
        assert webhook.status == policy.status == 403
        assert "expected" in str(policy)
        assert "no such key" not in str(policy)

    def test_no_complaint_of_the_api_server(self, pair, kubectl):
        """The API server's type checker finds nothing in the validations."""
        name = pair[0].namespace.removesuffix("-w")
        checked = until(lambda: type_checking(kubectl, f"{name}-policy"), timeout=30)
        assert checked == {"observed": True, "warnings": []}


def type_checking(kubectl, name):
    """What the API server says about a policy, once it has looked at it."""
    found = json.loads(kubectl("get", "validatingadmissionpolicy", name, "-o", "json"))
    status = found.get("status", {})
    if "observedGeneration" not in status:
        return None
    warnings = status.get("typeChecking", {}).get("expressionWarnings", [])
    return {"observed": True, "warnings": warnings}


def refusal(cluster, pod):
    try:
        cluster.create(pod, dry_run=True)
    except ApiStatusError as err:
        return err
    return None


@contextlib.contextmanager
def applied(api, manifests):
    paths = []
    try:
        for each in manifests:
            kind = each["kind"]
            plural = f"{kind.lower()}s" if kind.endswith("Binding") else f"{kind.lower()[:-1]}ies"
            api.post(f"{ADMISSION}/{plural}", each)
            paths.append(f"{ADMISSION}/{plural}/{each['metadata']['name']}")
        yield
    finally:
        for path in paths:
            api.delete(path)
