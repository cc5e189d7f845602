# SPDX-License-Identifier: Apache-2.0
"""What the cluster can do, and which delivery mode follows from it."""

import json

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from webhook.capabilities import Capabilities
from webhook.choice import choose
from webhook.config import Mode, PlatformConfig
from webhook.exceptions import AdmissionDenied

ANNOTATION = "kubetls.gauntletwizard.net/mode"


def choice_of(modes, annotations=None, zone=""):
    return choose(
        PlatformConfig.parse(
            f"version: 1\nzones: [{{name: default, trustDomain: example.org{zone}}}]\n"
            f"namespaces: [{{names: [shop], modes: [{modes}]}}]\n"
        ),
        "shop",
        annotations or {},
    )


class TestDocument:
    def test_round_trip(self):
        """What is written is what is read."""
        found = Capabilities("v1beta1", None, ("node1", "node2"))
        assert found == Capabilities.parse(found.to_json())

    def test_the_same_text(self):
        """The order of the nodes does not make another document."""
        one, two = Capabilities(old_nodes=("b", "a")), Capabilities(old_nodes=("a", "b"))
        assert one.to_json() == two.to_json()

    def test_unknown_fields(self):
        """A newer signer may write more."""
        text = '{"podCertificates": "v1", "clusterTrustBundles": "v1", "later": {}}'
        assert Capabilities("v1", "v1", ()) == Capabilities.parse(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{",
            '{"podCertificates": "v2"}',
            '{"podCertificates": 1}',
            '{"podCertificates": ["v1"]}',
            '{"oldNodes": "node1"}',
            '{"oldNodes": [1]}',
            "[" * 100_000,
        ],
    )
    def test_other_texts(self, text):
        """Anything else is a configuration error, so that the last good document stays."""
        with pytest.raises(ConfigurationError):
            Capabilities.parse(text)


class TestModeOf:
    @pytest.mark.parametrize(
        ("capabilities", "modes", "expected"),
        [
            pytest.param(Capabilities(), "pod-certificate, secret", Mode.POD_CERTIFICATE, id="all"),
            pytest.param(Capabilities(), "secret, pod-certificate", Mode.SECRET, id="preference"),
            pytest.param(Capabilities(None), "pod-certificate, secret", Mode.SECRET, id="no API"),
            pytest.param(
                Capabilities("v1", None), "pod-certificate, secret", Mode.SECRET, id="no bundles"
            ),
            pytest.param(
                Capabilities(old_nodes=("n1",)), "pod-certificate, secret", Mode.SECRET, id="nodes"
            ),
            pytest.param(
                Capabilities("v1beta1", "v1beta1"), "pod-certificate", Mode.POD_CERTIFICATE, id="β"
            ),
        ],
    )
    def test_the_first_that_works(self, capabilities, modes, expected):
        """The first mode of the rule that the cluster has is taken."""
        assert expected == capabilities.mode_of(choice_of(modes))

    @pytest.mark.parametrize(
        ("capabilities", "message"),
        [
            (Capabilities(None), "the API server does not serve PodCertificateRequests"),
            (Capabilities("v1", None), "the API server does not serve ClusterTrustBundles"),
            (
                Capabilities(old_nodes=tuple(f"n{i}" for i in range(7))),
                "these nodes are too old for them: n0, n1, n2, n3, n4 and 2 more",
            ),
        ],
    )
    def test_none_works(self, capabilities, message):
        """A pod whose only mode the cluster lacks is refused, and told why."""
        with pytest.raises(AdmissionDenied) as refused:
            capabilities.mode_of(choice_of("pod-certificate"))
        assert f"mode pod-certificate: {message}" == str(refused.value)

    def test_the_annotation_is_not_replaced(self):
        """A pod that asks for pod certificates never gets another mode silently."""
        choice = choice_of("pod-certificate, secret", {ANNOTATION: "pod-certificate"})
        with pytest.raises(AdmissionDenied, match="too old for them: n1"):
            Capabilities(old_nodes=("n1",)).mode_of(choice)

    def test_an_external_signer(self):
        """A zone that somebody else signs for has no pod certificates: nobody would answer."""
        from kubetls_sdk.testing import DevelopmentCA

        pem = json.dumps(DevelopmentCA("example.org").bundle.to_pem().decode())
        zone = f", externalSigner: example.com/ca, trustBundle: {pem}"
        choice = choice_of("pod-certificate, secret", zone=zone)
        assert Capabilities().mode_of(choice) is Mode.SECRET
