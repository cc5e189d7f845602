# SPDX-License-Identifier: Apache-2.0
"""`python -m webhook zones`: offline with a file, or with the cluster's own configuration."""

import json
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from kubetls_sdk.exceptions import ConfigurationError
from tests.webhook.api_double import ApiDouble
from tests.webhook.zones.platforms import pod, zone_bundle
from webhook.api.client import Api
from webhook.api.errors import ForbiddenError
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, CONFIG_MAPS, NAMESPACES, PODS
from webhook.cli.zones import zones

PLATFORM = yaml.safe_dump(
    {
        "version": 1,
        "zones": [{"name": "main", "trustDomain": "main.example.org"}],
        "namespaces": [{"names": ["*"]}],
    }
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "platform.yaml"
    path.write_text(PLATFORM)
    return path


@pytest.fixture
def api(monkeypatch):
    """A cluster with a configuration, a namespace and a pod."""
    double = ApiDouble()
    data = {"platform.yaml": PLATFORM}
    metadata = {"namespace": "kubetls-system", "name": "kubetls-config"}
    double.put(CONFIG_MAPS, {"metadata": metadata, "data": data})
    double.put(NAMESPACES, {"metadata": {"name": "shop"}})
    double.put(PODS, pod("shop", "a"))
    double.put(CLUSTER_TRUST_BUNDLES, zone_bundle("main"))

    async def connect(*_):
        return double

    monkeypatch.setattr(Api, "connect", connect)
    return double


def run(*arguments):
    done = CliRunner().invoke(zones, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


class TestOffline:
    @pytest.mark.parametrize("form", ["text", "mermaid", "svg", "json"])
    def test_formats(self, file, form, tmp_path):
        """Each goes to the terminal, or the same into a file."""
        written = run("--config", file, "--format", form)
        assert run("--config", file, "--format", form, "--output", tmp_path / "out") == ""
        assert (tmp_path / "out").read_text() == written

    def test_asks_no_cluster(self, file, monkeypatch):
        """With a file alone, no API server is needed."""
        monkeypatch.setattr(Api, "connect", None)
        assert json.loads(run("--config", file, "--format", "json"))["cluster"] is False

    def test_an_invalid_file(self, tmp_path):
        """One clean line, exit status 2."""
        path = tmp_path / "platform.yaml"
        path.write_text("version: 2\n")
        command = [sys.executable, "-m", "webhook", "zones", "--config", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 2
        assert done.stderr.startswith("Error: ")
        assert "Traceback" not in done.stderr

    def test_no_file(self, tmp_path):
        """A path that is misspelt is named once."""
        path = tmp_path / "platfrom.yaml"
        done = CliRunner().invoke(zones, ["--config", str(path)])
        expected = f"{path}: expected a configuration, got No such file or directory"
        assert str(done.exception) == expected


@pytest.mark.usefixtures("api")
class TestCluster:
    def test_its_own_configuration(self):
        """Without a file, configuration, namespaces, pods and bundles are the cluster's."""
        text = run()
        assert "shop: 1 pod, 1 in main" in text
        assert "published as kubetls.gauntletwizard.net:main:main.example.org" in text

    def test_a_file_against_it(self, file):
        """A configuration that is not in force yet, held against what is there."""
        file.write_text(PLATFORM.replace("*", "tools"))
        text = run("--config", file, "--live")
        assert "without a rule: no certificates" in text
        assert "pods in shop" in text
        assert "1 pod in a zone that is not for this namespace any more" in text

    def test_not_installed(self):
        """A cluster without our configuration: what to do instead."""
        done = CliRunner().invoke(zones, ["--namespace", "elsewhere"])
        assert isinstance(done.exception, ConfigurationError)
        assert str(done.exception) == (
            "ConfigMap elsewhere/kubetls-config: expected it, got none: KubeTLS is not installed"
            " there (--namespace), or give --config FILE"
        )


class TestRights:
    @pytest.mark.parametrize("resource", [PODS, NAMESPACES, CLUSTER_TRUST_BUNDLES])
    def test_what_may_not_be_seen(self, api, resource):
        """It is named, and the rest is shown."""
        api.fail("list", ForbiddenError("no", status=403), resource=resource)
        text = run()
        assert "expected the right to list" in text
        assert "Who can reach whom" in text
