# SPDX-License-Identifier: Apache-2.0
"""The manifests of the injection without a webhook; what they do is tried in tests/cluster."""

import json

import pytest

from kubetls_sdk.testing import DevelopmentCA
from tests.webhook.injection import world
from webhook.config import PlatformConfig
from webhook.injection.policy import build_policies

ZONES = "version: 1\nzones: [{name: default, trustDomain: example.org}]\n"


def policies(text):
    return build_policies(PlatformConfig.parse(ZONES + text))


def conditions(manifest):
    return {each["name"]: each["expression"] for each in manifest["spec"]["matchConditions"]}


class TestBuildPolicies:
    def test_four_manifests_a_rule(self):
        """Each rule with a mode but Secret has a validation, a mutation, and their bindings."""
        found = [
            (each["kind"], each["metadata"]["name"]) for each in build_policies(world.config())
        ]
        kinds = [
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
        ]
        names = [f"kubetls-inject-{number}" for number in (1, 2, 3, 4, 6)]
        assert found == [(kind, name) for name in names for kind in kinds]

    def test_bindings(self):
        """Each binding is of the policy of its name, and a violation is denied."""
        validating, binding, mutating, mutation = policies("namespaces: [{names: [shop]}]")
        assert binding["spec"] == {"policyName": "kubetls-inject-1", "validationActions": ["Deny"]}
        assert mutation["spec"] == {"policyName": "kubetls-inject-1"}
        assert validating["spec"]["failurePolicy"] == mutating["spec"]["failurePolicy"] == "Fail"
        assert mutating["spec"]["reinvocationPolicy"] == "IfNeeded"

    def test_the_same_pods(self):
        """Both policies of a rule look at the same pods."""
        validating, _, mutating, _ = policies("namespaces: [{names: [shop]}]")
        for name in ("matchConstraints", "matchConditions", "variables"):
            assert validating["spec"][name] == mutating["spec"][name]

    def test_the_first_rule_decides(self):
        """A rule is not asked about namespaces that an earlier one names, even one without us."""
        found = policies('namespaces: [{names: [pay, "pay-*"], modes: [secret]}, {names: ["*"]}]')
        assert len(found) == 4
        assert conditions(found[0])["the-rule-of-this-namespace"] == (
            '(request.namespace.startsWith("")) && !(request.namespace == "pay" ||'
            ' request.namespace.startsWith("pay-"))'
        )

    @pytest.mark.parametrize(
        ("modes", "default", "allowed"),
        [
            ("secret, csi", "csi", ["csi"]),
            ("csi, secret, pod-certificate", "csi", ["csi", "pod-certificate"]),
            ("pod-certificate, csi", "pod-certificate", ["pod-certificate", "csi"]),
        ],
    )
    def test_modes(self, modes, default, allowed):
        """The first mode that is not Secret is the default, and pods choose among such."""
        found = policies(f"namespaces: [{{names: [shop], modes: [{modes}]}}]\n")
        variables = {each["name"]: each["expression"] for each in found[0]["spec"]["variables"]}
        assert variables["mode"].endswith(f'.orValue("{default}")')
        assert f"variables.mode in {json.dumps(allowed)}" in variables["refusal"]

    def test_secrets_alone(self):
        """A rule with nothing but Secrets has no policy."""
        assert policies("namespaces: [{names: [shop], modes: [secret]}]\n") == []

    def test_an_external_signer(self):
        """Where the first zone is somebody else's to sign for, there is no policy."""
        pem = json.dumps(DevelopmentCA("example.org").bundle.to_pem().decode())
        zone = f"example.org, externalSigner: example.com/ca, trustBundle: {pem}"
        config = PlatformConfig.parse(
            ZONES.replace("example.org", zone) + "namespaces: [{names: [shop]}]"
        )
        assert build_policies(config) == []

    def test_no_certificates(self):
        """Partners are named; their certificates are not in the manifests."""
        text = json.dumps(build_policies(world.config()))
        assert "partner.example" in text
        assert "BEGIN CERTIFICATE" not in text
