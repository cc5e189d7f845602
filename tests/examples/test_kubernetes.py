# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes example, as far as it can be judged without a cluster.

`tests/cluster/test_example_manifests.py` applies it to a real one.
"""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from click.testing import CliRunner

from cluster import binaries
from kubetls_sdk import SpiffeId, TrustDomain
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.cli.command_line import kubetls
from tests.examples.demo_run import ROOT

FOLDER = ROOT / "examples" / "kubernetes"
README = (FOLDER / "README.md").read_text()
SCREEN = 50
WORKLOADS = ["guest", "orders", "web"]


@pytest.fixture(scope="module")
def objects():
    """What `kubectl apply -k` sends."""
    done = subprocess.run(
        [binaries.find("kubectl"), "kustomize", FOLDER],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def named(objects, kind):
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


class TestManifests:
    def test_no_file_is_forgotten(self):
        """Each YAML file is part of the kustomization."""
        document = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
        known = {*document["resources"], *document["configMapGenerator"][0]["files"]}
        assert {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"} == known

    def test_one_namespace(self, objects):
        """Everything is in the namespace that is made, which admits restricted pods only."""
        (namespace,) = named(objects, "Namespace").values()
        assert namespace["metadata"]["labels"] == {
            "pod-security.kubernetes.io/enforce": "restricted"
        }
        name = namespace["metadata"]["name"]
        others = [each["metadata"].get("namespace") for each in objects if each is not namespace]
        assert set(others) == {name}

    def test_each_workload_has_an_account(self, objects):
        """An identity is a service account: each workload has its own, of its name."""
        deployments = named(objects, "Deployment")
        assert sorted(deployments) == sorted(named(objects, "ServiceAccount")) == WORKLOADS
        for name, each in deployments.items():
            assert each["spec"]["template"]["spec"]["serviceAccountName"] == name

    @pytest.mark.parametrize("word", ["certificate", "tls.crt", "caBundle", "kubetls.gauntlet"])
    def test_nothing_of_certificates(self, objects, word):
        """Neither volumes nor variables nor annotations of ours: the injector knows."""
        assert word not in yaml.safe_dump_all(objects)

    def test_one_image(self, objects):
        """The image is named in one place."""
        containers = [
            each["spec"]["template"]["spec"]["containers"][0]
            for each in named(objects, "Deployment").values()
        ]
        assert {each["image"] for each in containers} == {"registry.example/shop:1"}

    def test_command(self, objects):
        """`kubetls serve` takes the arguments, and the probes are where it answers them."""
        spec = named(objects, "Deployment")["orders"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        program, *words = [*container["command"], *container["args"]]
        assert program == "kubetls"
        made = CliRunner().invoke(kubetls, [*words, "--ready-timeout", "x"])
        assert "Invalid value for '--ready-timeout'" in made.output, made.output
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert [words[words.index(f"--{name}") + 1] for name in ("port", "health-port")] == [
            str(ports["https"]),
            str(ports["health"]),
        ]
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}

    def test_policy_is_mounted(self, objects):
        """The policy file that is served by is the ConfigMap's."""
        spec = named(objects, "Deployment")["orders"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        (mount,) = container["volumeMounts"]
        (volume,) = spec["volumes"]
        config = named(objects, "ConfigMap")[volume["configMap"]["name"]]
        (file,) = config["data"]
        assert mount["name"] == volume["name"]
        assert f"{mount['mountPath']}/{file}" in container["args"]


class TestPolicy:
    @pytest.mark.parametrize(("account", "is_allowed"), [("web", True), ("guest", False)])
    def test_decisions(self, account, is_allowed):
        """Web reads orders, guest does not."""
        text = (FOLDER / "policy.yaml").read_text()
        policies = PolicySet.parse({"policy.yaml": text}, trust_domain=TrustDomain("example.org"))
        caller = SpiffeId.parse(f"spiffe://example.org/ns/shop/sa/{account}")
        assert policies.decide(caller, "GET", "/orders/1").allowed is is_allowed


class TestImage:
    def test_copies_what_exists(self):
        """The Dockerfile copies files of the repository, and what is run is among them."""
        text = (FOLDER / "Dockerfile").read_text()
        sources = [
            name for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE)
            for name in line.split()[:-1]
        ]  # fmt: skip
        assert [name for name in sources if not list(ROOT.glob(name))] == []
        assert "examples/kubernetes/*.py" in sources
        assert {path.stem for path in FOLDER.glob("*.py")} == {"orders", "web"}


class TestReadme:
    def test_fits_on_one_screen(self):
        """A newcomer reads it without scrolling much."""
        assert len(README.splitlines()) <= SCREEN

    def test_links_and_files(self):
        """Its links lead somewhere, and each file of the folder is told of."""
        links = re.findall(r"\]\(([^)]+)\)", README)
        assert [link for link in links if not (FOLDER / link).exists()] == []
        told = set(re.findall(r"`([\w-]+\.\w+|Dockerfile)`", README))
        assert {path.name for path in FOLDER.iterdir() if path.is_file()} - told == {
            "README.md",
            "namespace.yaml",
        }
