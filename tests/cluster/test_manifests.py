# SPDX-License-Identifier: Apache-2.0
"""The Helm chart and what kustomize takes from it, before the real API server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster import ApiStatusError, binaries
from kubetls_sdk.testing import DevelopmentCA
from tests.cluster.chart import CHART, MANIFESTS, SYSTEM, helm, one, rendered, template
from tests.markdown import blocks
from webhook.cli.command_line import webhook
from webhook.config import Mode, PlatformConfig
from webhook.names import (
    CONFIGURATION_KEY,
    CONFIGURATION_MAP,
    CSI_DRIVER,
    INJECTOR,
    PREFIX,
    SERVING_SECRET,
)

ROOT = Path(__file__).parent.parent.parent
ADMISSION = "/apis/admissionregistration.k8s.io/v1"

PEM = DevelopmentCA("partner.example").bundle.to_pem().decode()
OWN_PEM = DevelopmentCA("corp.example").bundle.to_pem().decode()
ZONES = [
    {"name": "default", "trustDomain": "example.org", "propagation": "15m"},
    {"name": "pci", "trustDomain": "pci.example"},
    {
        "name": "corp",
        "trustDomain": "corp.example",
        "signerName": "corp.example/workload",
        "externalSigner": "clusterissuers.cert-manager.io/corp",
        "trustBundle": OWN_PEM,
    },
]
PARTNER = {
    "name": "acme",
    "trustDomain": "partner.example",
    "bundle": PEM,
    "namespaces": ["shop", "pay-*"],
}
FETCHED = [
    {
        "name": "acme",
        "trustDomain": "partner.example",
        "endpoint": {"url": "https://a.example/", "profile": "https_web", "webRoots": True},
        "refresh": {"minimum": "1m", "maximum": "1h"},
        "maximumAge": "24h",
        "namespaces": ["*"],
    },
    {
        "name": "bank",
        "trustDomain": "bank.example",
        "endpoint": {
            "url": "https://203.0.113.7:9443/",
            "profile": "https_spiffe",
            "spiffeId": "spiffe://partner.example/bundles",
        },
        "namespaces": ["pay"],
    },
]
RULES = [
    {"names": ["kube-*"], "inject": "labelled"},
    {
        "names": ["shop", "pay-*"],
        "zones": ["default", "pci"],
        "modes": ["pod-certificate", "secret"],
        "keyTypes": ["ECDSAP256", "ED25519"],
        "lifetime": {"default": "24h", "maximum": "7d"},
        "mountPaths": ["/run/secrets/workload-spiffe-credentials", "/etc/identity"],
        "shortNames": True,
        "inject": "all",
    },
]
DOMAIN = {"trustDomain": "example.org"}
SECRETS = {"secretIssuer": {"enabled": True, "namespaces": ["default"]}}
ISSUER = {"name": "internal", "kind": "ClusterIssuer"}
MATRIX = {
    "defaults": DOMAIN,
    "secret issuer": {**DOMAIN, **SECRETS},
    "zones and partners": {
        "platform": {"zones": ZONES, "partners": [PARTNER], "namespaces": RULES},
        **SECRETS,
    },
    "partners with endpoints": {
        **DOMAIN,
        **SECRETS,
        "platform": {"partners": FETCHED},
        "networkPolicy": {
            "partnerEndpoints": [{"cidr": "203.0.113.0/24", "ports": [9443]}, {"ports": [8444]}]
        },
    },
    "injected by a policy": {**DOMAIN, "injector": {"kind": "none"}},
    "cert-manager": {**DOMAIN, "certManager": {"enabled": True, "issuerRef": ISSUER}},
    "bundle endpoint": {
        "platform": {"zones": ZONES},
        "bundleEndpoint": {
            "enabled": True,
            "web": {"secretName": "web-certificate"},
            "spiffe": {"zone": "pci", "keyType": "ED25519"},
            "maxStale": "15m",
            "sequenceBase": 5_000_000_000,
            "service": {"type": "LoadBalancer", "annotations": {"example.org/pool": "public"}},
        },
        "networkPolicy": {"metricsNamespaces": ["monitoring"]},
    },
    "csi": {
        "platform": {"zones": ZONES[:2], "partners": FETCHED},
        "csi": {
            "enabled": True,
            "namespaces": ["shop", "pay"],
            "tokenAudience": "https://kubetls.example",
            "kubeletFolder": "/var/lib/k0s/kubelet",
            "stateFolder": "/var/lib/kubetls-node",
            "resources": {"limits": {"memory": "512Mi"}},
        },
        "nodeSelector": {"example.org/pool": "control"},
        "networkPolicy": {"metricsNamespaces": ["monitoring"]},
    },
    "no network policy": {**DOMAIN, "networkPolicy": {"enabled": False}},
    "everything": {
        **DOMAIN,
        **SECRETS,
        "csi": {"enabled": True},
        "platform": {"clusterDomain": "cluster.example", "partners": [PARTNER]},
        "image": {
            "repository": "registry.example/kubetls",
            "digest": f"sha256:{'0' * 64}",
            "pullPolicy": "Always",
            "pullSecrets": [{"name": "registry"}],
        },
        "injector": {"replicas": 3, "failurePolicy": "Ignore", "timeoutSeconds": 2},
        "signer": {"replicas": 3},
        "networkPolicy": {"metricsNamespaces": ["monitoring"], "apiServerPorts": [16443]},
        "logLevel": "warning",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "",
        "podAnnotations": {"example.org/team": "platform"},
    },
}
RENDERED = [
    "base/kubetls.yaml",
    "secret-issuer/secret-issuer.yaml",
    "bundle-endpoint/bundle-endpoint.yaml",
    "csi/csi.yaml",
]
matrix = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)


def dry_run(kubectl, objects):
    """Ask the API server whether it would take the objects."""
    return kubectl(
        *("apply", "--server-side", "--dry-run=server", "--force-conflicts"),
        *("-f", "-"),
        stdin=yaml.safe_dump_all(objects),
    )


def deployments(objects):
    return [each for each in objects if each["kind"] == "Deployment"]


def daemon_sets(objects):
    return [each for each in objects if each["kind"] == "DaemonSet"]


class TestLint:
    @matrix
    def test_helm_finds_nothing(self, values, tmp_path):
        """Helm's own linter has nothing to say, not even a warning."""
        file = tmp_path / "values.json"
        file.write_text(json.dumps(values))
        done = helm("lint", "--strict", str(CHART), "-f", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[WARNING]" not in done.stdout


class TestTemplate:
    @matrix
    def test_the_api_server_takes_it(self, values, kubectl, namespace):
        """Each object passes the API server's validation; cert-manager's needs its own API."""
        objects = rendered(values, namespace=namespace)
        foreign = [each for each in objects if each["apiVersion"] == "cert-manager.io/v1"]
        taken = dry_run(kubectl, [each for each in objects if each not in foreign])
        assert len(taken.splitlines()) == len(objects) - len(foreign)
        assert [each["kind"] for each in foreign] == (
            ["Certificate"] if "certManager" in values else []
        )

    def test_certificate_of_cert_manager(self, kubectl, namespace):
        """cert-manager's Certificate is for the very name that the API server dials."""
        objects = rendered(MATRIX["cert-manager"], namespace=namespace)
        certificate = one(objects, "Certificate", "kubetls-webhook")
        registration = one(objects, "MutatingWebhookConfiguration", INJECTOR)
        service = registration["webhooks"][0]["clientConfig"]["service"]
        assert certificate["spec"]["dnsNames"] == [f"{service['name']}.{service['namespace']}.svc"]
        assert certificate["spec"]["secretName"] == SERVING_SECRET
        source = registration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
        assert source == f"{namespace}/{certificate['metadata']['name']}"

    @matrix
    def test_configuration_is_the_platforms(self, values):
        """The ConfigMap parses, and says what the values say."""
        found = one(rendered(values), "ConfigMap", CONFIGURATION_MAP)
        config = PlatformConfig.parse(found["data"][CONFIGURATION_KEY])
        asked = values.get("platform", {})
        names = [zone["name"] for zone in asked.get("zones", [{"name": "default"}])]
        assert list(config.zones) == names
        assert list(config.partners) == [each["name"] for each in asked.get("partners", [])]
        assert config.cluster_domain == asked.get("clusterDomain", "cluster.local")

    def test_all_of_a_rule_arrives(self):
        """What a rule of the values says is what the configuration says."""
        values = MATRIX["zones and partners"]
        found = one(rendered(values), "ConfigMap", CONFIGURATION_MAP)
        document = yaml.safe_load(found["data"][CONFIGURATION_KEY])
        assert document["zones"] == ZONES
        assert document["partners"] == [PARTNER]
        assert document["namespaces"] == RULES
        rule = PlatformConfig.parse(found["data"][CONFIGURATION_KEY]).rule_for("pay-eu")
        assert rule.modes == (Mode.POD_CERTIFICATE, Mode.SECRET)
        assert rule.short_names

    @matrix
    def test_commands_exist(self, values, monkeypatch):
        """Each container's arguments, with its environment, are options of its command."""
        objects = rendered(values)
        for deployment in [*deployments(objects), *daemon_sets(objects)]:
            (container,) = deployment["spec"]["template"]["spec"]["containers"]
            for variable in container["env"]:
                monkeypatch.setenv(variable["name"], "some-name")
            command, *arguments = container["args"]
            found = webhook.commands[command]
            found.make_context(command, arguments)

    @pytest.mark.parametrize(
        ("values", "option"),
        [
            ("defaults", "--serving-certificate"),
            ("cert-manager", "--no-serving-certificate"),
            ("injected by a policy", "--no-serving-certificate"),
        ],
    )
    def test_who_keeps_the_serving_certificate(self, values, option):
        """The signer makes the injector's certificate only where there is one to make."""
        signer = one(rendered(MATRIX[values]), "Deployment", "kubetls-signer")
        assert option in signer["spec"]["template"]["spec"]["containers"][0]["args"]

    def test_injected_by_a_policy(self):
        """Without our webhook there is no injector, and nobody may touch webhooks."""
        text = template(MATRIX["injected by a policy"])
        assert INJECTOR not in text
        assert SERVING_SECRET not in text
        assert "mutatingwebhookconfigurations" not in text

    def test_trust_domain_is_required(self):
        """Without a trust domain nothing is installed, and the message says why."""
        with pytest.raises(ValueError, match="set trustDomain: it has no default"):
            template({})

    def test_only_one_way_to_name_zones(self):
        """Two answers to one question are refused."""
        with pytest.raises(ValueError, match="not both"):
            template({**DOMAIN, "platform": {"zones": ZONES}})

    def test_digest_wins(self):
        """An image with a digest is named by it."""
        (signer,) = [
            each
            for each in deployments(rendered(MATRIX["everything"]))
            if each["metadata"]["name"] == "kubetls-signer"
        ]
        image = signer["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image == f"registry.example/kubetls@sha256:{'0' * 64}"


class TestSchema:
    @pytest.mark.parametrize(
        ("values", "field"),
        [
            ({"trustDomain": "Example.org"}, "trustDomain"),
            ({"trustDomian": "example.org"}, "trustDomian"),
            ({"injector": {"failurePolicy": "Maybe"}}, "injector/failurePolicy"),
            ({"injector": {"timeoutSeconds": 31}}, "injector/timeoutSeconds"),
            ({"signer": {"replicas": 0}}, "signer/replicas"),
            ({"secretIssuer": {"namespaces": "shop"}}, "secretIssuer/namespaces"),
            ({"image": {"digest": "latest"}}, "image/digest"),
            ({"bundleEndpoint": {"maxStale": "1 hour"}}, "bundleEndpoint/maxStale"),
            ({"bundleEndpoint": {"web": {"secret": "x"}}}, "bundleEndpoint/web"),
            ({"csi": {"kubeletFolder": "/var/../etc"}}, "csi/kubeletFolder"),
            ({"csi": {"stateFolder": "var/lib"}}, "csi/stateFolder"),
            ({"csi": {"stateFolder": "/"}}, "csi/stateFolder"),
            ({"csi": {"tokenAudience": "a b"}}, "csi/tokenAudience"),
            ({"csi": {"namespaces": ["*"]}}, "csi/namespaces/0"),
            ({"csi": {"registrar": {}}}, "csi"),
            ({"logLevel": "loud"}, "logLevel"),
            ({"networkPolicy": {"partnerEndpoints": [{"cidr": "::/0"}]}}, "partnerEndpoints/0"),
            ({"platform": {"partners": [{**PARTNER, **FETCHED[0]}]}}, "partners/0"),
            ({"platform": {"partners": [{**PARTNER, "maximumAge": "1h"}]}}, "partners/0"),
            ({"platform": {"zones": [{"name": "default"}]}}, "trustDomain"),
            (
                {"platform": {"namespaces": [{"names": ["*"], "modes": ["magic"]}]}},
                "platform/namespaces/0/modes/0",
            ),
            (
                {"platform": {"namespaces": [{"names": ["*"], "lifetime": {"default": "1w"}}]}},
                "platform/namespaces/0/lifetime/default",
            ),
        ],
    )
    def test_wrong_value_is_named(self, values, field):
        """Helm refuses a wrong value and names the field."""
        with pytest.raises(ValueError, match="values don't meet") as caught:
            template({**DOMAIN, **values})
        assert field in str(caught.value)


class TestPodSecurity:
    @matrix
    def test_restricted(self, values, kubectl, control_plane, namespace):
        """The pods of all parts are admitted where only restricted ones are."""
        path = f"/api/v1/namespaces/{namespace}"
        found = control_plane.api.get(path)
        found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
        control_plane.api.put(path, found)
        pods = []
        for deployment in deployments(rendered(values, namespace=namespace)):
            made = deployment["spec"]["template"]
            made["spec"].pop("priorityClassName", None)
            made["spec"]["serviceAccountName"] = "default"
            name = deployment["metadata"]["name"]
            pods.append({"apiVersion": "v1", "kind": "Pod", **made})
            pods[-1]["metadata"] |= {"name": name, "namespace": namespace}
        assert len(dry_run(kubectl, pods).splitlines()) == len(pods)


class TestCsi:
    def test_driver(self):
        """The kubelet gives pod and token with each call, one token for one audience."""
        spec = one(rendered(MATRIX["csi"]), "CSIDriver", CSI_DRIVER)["spec"]
        assert spec == {
            "attachRequired": False,
            "podInfoOnMount": True,
            "volumeLifecycleModes": ["Ephemeral"],
            "requiresRepublish": True,
            "fsGroupPolicy": "None",
            "tokenRequests": [{"audience": "https://kubetls.example", "expirationSeconds": 600}],
        }
        default = one(rendered(MATRIX["everything"]), "CSIDriver", CSI_DRIVER)["spec"]
        assert default["tokenRequests"] == [{"audience": "", "expirationSeconds": 600}]

    def test_audience_is_the_drivers(self):
        """The driver takes the tokens of the audience that they are made for, and no others."""
        (container,) = pod_of(MATRIX["csi"])["containers"]
        index = container["args"].index("--token-audience")
        assert container["args"][index + 1] == "https://kubetls.example"
        (container,) = pod_of(MATRIX["everything"])["containers"]
        assert "--token-audience" not in container["args"]

    def test_everywhere(self):
        """It runs on each Linux node, whatever its taints, and not where the others are kept."""
        pod = pod_of(MATRIX["csi"])
        assert pod["tolerations"] == [{"operator": "Exists"}]
        assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
        assert pod["priorityClassName"] == "system-node-critical"

    def test_places(self):
        """What the kubelet says of a path is the same path for the driver."""
        pod = pod_of(MATRIX["csi"])
        (container,) = pod["containers"]
        paths = {
            each["name"]: each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each
        }
        mounts = {each["name"]: each for each in container["volumeMounts"]}
        assert {name: mounts[name]["mountPath"] for name in paths} == paths
        assert set(paths.values()) == {
            f"/var/lib/k0s/kubelet/plugins/{CSI_DRIVER}",
            "/var/lib/k0s/kubelet/plugins_registry",
            "/var/lib/k0s/kubelet/pods",
            "/var/lib/kubetls-node",
        }
        both = {name for name, each in mounts.items() if "mountPropagation" in each}
        assert both == {"pods", "state"}

    def test_what_is_not_taken(self):
        """It is privileged for its mounts, and takes nothing else that it might."""
        pod = pod_of(MATRIX["csi"])
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "privileged": True,
            "runAsUser": 0,
            "runAsGroup": 0,
            "readOnlyRootFilesystem": True,
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("secret" in each for each in pod["volumes"])

    def test_network(self):
        """It reaches the API server and names, and is reached by who scrapes."""
        spec = one(rendered(MATRIX["csi"]), "NetworkPolicy", "kubetls-issuers")["spec"]
        (labels,) = spec["podSelector"]["matchExpressions"]
        assert "node" in labels["values"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]

    def test_state_is_ours(self):
        """Its state is in no folder that the kubelet tidies up."""
        wrong = {"enabled": True, "stateFolder": "/var/lib/kubelet/kubetls"}
        with pytest.raises(ValueError, match=r"outside of csi\.kubeletFolder"):
            template({**DOMAIN, "csi": wrong})
        template({**DOMAIN, "csi": {**wrong, "stateFolder": "/var/lib/kubelet-tls"}})

    @pytest.mark.parametrize(("level", "is_taken"), [("baseline", False), ("privileged", True)])
    def test_pod_security(self, level, is_taken, control_plane, namespace):
        """Its pods need a namespace that admits privileged ones, as the documentation says."""
        path = f"/api/v1/namespaces/{namespace}"
        found = control_plane.api.get(path)
        found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = level
        control_plane.api.put(path, found)
        spec = {**pod_of(MATRIX["csi"]), "serviceAccountName": "default"}
        pod = {
            **{"apiVersion": "v1", "kind": "Pod", "spec": spec},
            "metadata": {"name": "node", "namespace": namespace},
        }
        pods = f"{path}/pods?dryRun=All"
        if is_taken:
            assert control_plane.api.post(pods, pod)
        else:
            with pytest.raises(ApiStatusError, match="violates PodSecurity"):
                control_plane.api.post(pods, pod)


def pod_of(values):
    """The spec of the driver's pods."""
    return one(rendered(values), "DaemonSet", "kubetls-node")["spec"]["template"]["spec"]


class TestPartnerEndpoints:
    def test_network(self):
        """Only the signer may reach what the values name, and no other part may."""
        objects = rendered(MATRIX["partners with endpoints"])
        spec = one(objects, "NetworkPolicy", "kubetls-partner-endpoints")["spec"]
        assert spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "signer"
        assert spec["policyTypes"] == ["Egress"]
        assert spec["egress"] == [
            {"ports": [{"port": 9443}], "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]},
            {"ports": [{"port": 8444}]},
        ]
        assert "kubetls-partner-endpoints" not in template(MATRIX["zones and partners"])

    def test_rights(self):
        """Signer and secret issuer may touch the ConfigMaps of fetched bundles, and no others."""
        objects = rendered(MATRIX["partners with endpoints"])
        for part in ("signer", "secret-issuer"):
            rules = one(objects, "Role", f"kubetls-{part}")["rules"]
            named = {name for rule in rules for name in rule.get("resourceNames", ())}
            assert {each for each in named if each.startswith("kubetls-partner-")} == {
                "kubetls-partner-acme",
                "kubetls-partner-bank",
            }
        assert "kubetls-partner-" not in template(MATRIX["zones and partners"]).replace(
            "kubetls-(trust|partner)-", ""
        )


class TestBundleEndpoint:
    def test_whose_certificate(self):
        """Its SVID is asked of the signer of its zone, with that zone's bundle beside it."""
        objects = rendered(MATRIX["bundle endpoint"])
        pod = one(objects, "Deployment", "kubetls-bundle-endpoint")["spec"]["template"]["spec"]
        (volume,) = [each for each in pod["volumes"] if each["name"] == "svid"]
        certificate, bundle = volume["projected"]["sources"]
        assert certificate["podCertificate"]["signerName"] == f"{PREFIX}/pci"
        assert certificate["podCertificate"]["keyType"] == "ED25519"
        assert bundle["clusterTrustBundle"]["signerName"] == f"{PREFIX}/pci"
        assert bundle["clusterTrustBundle"]["path"] == "pci.example.trust-bundle.pem"

    def test_large_number(self):
        """A sequence base is a whole number however large it is."""
        found = one(rendered(MATRIX["bundle endpoint"]), "Deployment", "kubetls-bundle-endpoint")
        arguments = found["spec"]["template"]["spec"]["containers"][0]["args"]
        assert arguments[arguments.index("--sequence-base") + 1] == "5000000000"

    @pytest.mark.parametrize(
        ("settings", "ports"),
        [
            pytest.param({}, {"spiffe"}, id="https_spiffe"),
            pytest.param(
                {"web": {"secretName": "x"}, "spiffe": {"enabled": False}}, {"web"}, id="https_web"
            ),
            pytest.param({"web": {"secretName": "x"}}, {"web", "spiffe"}, id="both"),
        ],
    )
    def test_only_what_is_asked_for(self, settings, ports):
        """Service, container and NetworkPolicy have the ports of the profiles that are served."""
        name = "kubetls-bundle-endpoint"
        objects = rendered({**DOMAIN, "bundleEndpoint": {"enabled": True, **settings}})
        service = one(objects, "Service", name)["spec"]["ports"]
        policy = one(objects, "NetworkPolicy", name)["spec"]["ingress"][0]["ports"]
        (container,) = one(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert {each["targetPort"] for each in service} == ports
        assert {each["port"] for each in policy} == ports
        assert {each["name"] for each in container["ports"]} == ports | {"status"}


class TestExternalSigner:
    def test_rights(self):
        """The signer may approve for an external signer, and sign and attest for its own only."""
        role = one(rendered(MATRIX["zones and partners"]), "ClusterRole", "kubetls-signer")
        external = ZONES[2]["externalSigner"]
        verbs = {
            name: rule["verbs"]
            for rule in role["rules"]
            if rule["resources"] == ["signers"]
            for name in rule["resourceNames"]
        }
        own = ["sign", "approve", "attest"]
        assert verbs == {
            "kubetls.gauntletwizard.net/workload": own,
            "kubetls.gauntletwizard.net/pci": own,
            "corp.example/workload": own,
            external: ["approve"],
            "kubetls.gauntletwizard.net/partner": ["attest"],
        }


class TestKustomize:
    def test_is_what_the_chart_says(self, tmp_path):
        """The rendered files are those that `render` writes now."""
        script = MANIFESTS / "kustomize/render"
        done = subprocess.run(
            [script, binaries.find("helm"), tmp_path], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        for name in RENDERED:
            assert (tmp_path / name).read_text() == (MANIFESTS / "kustomize" / name).read_text()

    @pytest.mark.parametrize(
        ("component", "kind", "name"),
        [
            ("secret-issuer", "Deployment", "kubetls-secret-issuer"),
            ("bundle-endpoint", "Deployment", "kubetls-bundle-endpoint"),
            ("csi", "DaemonSet", "kubetls-node"),
        ],
        ids=["secret-issuer", "bundle-endpoint", "csi"],
    )
    def test_component(self, component, kind, name, kubectl, control_plane, tmp_path):
        """Each component goes with the base, and the API server takes both."""
        if not control_plane.api.exists(f"/api/v1/namespaces/{SYSTEM}"):
            control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        shutil.copytree(MANIFESTS / "kustomize", tmp_path / "kustomize")
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["../kustomize/base"],
            "components": [f"../kustomize/{component}"],
        }
        (tmp_path / "overlay").mkdir()
        (tmp_path / "overlay/kustomization.yaml").write_text(json.dumps(document))
        objects = list(yaml.safe_load_all(kubectl("kustomize", str(tmp_path / "overlay"))))
        assert one(objects, kind, name)
        level = "privileged" if component == "csi" else "restricted"
        labels = one(objects, "Namespace", SYSTEM)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == level
        assert len(dry_run(kubectl, objects).splitlines()) == len(objects)

    def test_example(self, kubectl, control_plane):
        """The example is complete, and the API server takes it."""
        if not control_plane.api.exists(f"/api/v1/namespaces/{SYSTEM}"):
            control_plane.api.post("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        text = kubectl("kustomize", str(MANIFESTS / "kustomize/example"))
        objects = list(yaml.safe_load_all(text))
        assert len(dry_run(kubectl, objects).splitlines()) == len(objects)
        images = {
            each["spec"]["template"]["spec"]["containers"][0]["image"]
            for each in deployments(objects)
        }
        assert images == {"registry.example/kubetls/webhook:0.1.0"}
        config = one(objects, "ConfigMap", CONFIGURATION_MAP)["data"][CONFIGURATION_KEY]
        assert list(PlatformConfig.parse(config).zones) == ["default"]

    def test_documented_zone(self, kubectl, tmp_path):
        """The patches that the documentation shows for another zone give the rights it needs."""
        page = ROOT / "docs/platform/install.md"
        (block,) = [each for each in blocks(page, ROOT) if each.title == "kustomization.yaml"]
        overlay = tmp_path / "overlay"
        overlay.mkdir()
        shutil.copytree(MANIFESTS / "kustomize/base", tmp_path / "base")
        (overlay / "kustomization.yaml").write_text(block.code)
        objects = list(yaml.safe_load_all(kubectl("kustomize", str(overlay))))
        chart = rendered({"platform": {"zones": ZONES[:2]}})
        for kind, name in (("Role", "kubetls-ca-pci"), ("ClusterRole", f"{PREFIX}/pci")):
            assert _verbs(one(objects, kind, "kubetls-signer"), name) == _verbs(
                one(chart, kind, "kubetls-signer"), name
            )

    def test_no_helm_in_it(self):
        """Nothing says that Helm manages what kustomize applies."""
        for name in RENDERED:
            text = (MANIFESTS / "kustomize" / name).read_text()
            assert "Helm" not in text
            assert "Source:" not in text


def _verbs(role, name):
    """What a role allows with an object of a name."""
    return {
        verb
        for rule in role["rules"]
        if name in rule.get("resourceNames", [])
        for verb in rule["verbs"]
    }
