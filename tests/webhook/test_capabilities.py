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
        found = Capabilities("v1beta1", None, ("node1", "node2"), False, ("node3",))
        assert found == Capabilities.parse(found.to_json())

    def test_the_same_text(self):
        """The order of the nodes does not make another document."""
        for field in ("old_nodes", "nodes_without_driver"):
            one, two = (Capabilities(**{field: nodes}) for nodes in (("b", "a"), ("a", "b")))
            assert one.to_json() == two.to_json()

    def test_unknown_fields(self):
        """A newer signer may write more."""
        text = '{"podCertificates": "v1", "clusterTrustBundles": "v1", "later": {}}'
        assert Capabilities("v1", "v1", csi_driver=False) == Capabilities.parse(text)

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
            '{"csiDriver": "yes"}',
            '{"nodesWithoutDriver": "node1"}',
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

    @pytest.mark.parametrize("mode", ["pod-certificate", "csi"])
    def test_an_external_signer(self, mode):
        """Where somebody else signs for a zone, nobody would answer a request with only a key."""
        from kubetls_sdk.testing import DevelopmentCA

        pem = json.dumps(DevelopmentCA("example.org").bundle.to_pem().decode())
        zone = f", externalSigner: example.com/ca, trustBundle: {pem}"
        choice = choice_of(f"{mode}, secret", zone=zone)
        assert Capabilities().mode_of(choice) is Mode.SECRET


class TestCsi:
    @pytest.mark.parametrize(
        ("capabilities", "modes", "expected"),
        [
            pytest.param(Capabilities(), "csi, secret", Mode.CSI, id="installed"),
            pytest.param(Capabilities(csi_driver=False), "csi, secret", Mode.SECRET, id="missing"),
            pytest.param(
                Capabilities(nodes_without_driver=("n1",)), "csi, secret", Mode.SECRET, id="a node"
            ),
            pytest.param(
                Capabilities(old_nodes=("n1",)), "pod-certificate, csi", Mode.CSI, id="old nodes"
            ),
            pytest.param(
                Capabilities(None, None), "pod-certificate, csi, secret", Mode.CSI, id="old cluster"
            ),
            pytest.param(
                Capabilities(nodes_without_driver=("n1",)),
                "csi, pod-certificate",
                Mode.POD_CERTIFICATE,
                id="a node, and pod certificates",
            ),
        ],
    )
    def test_the_first_that_works_everywhere(self, capabilities, modes, expected):
        """It is taken where the driver is; while a node lacks it, the next one is."""
        assert capabilities.mode_of(choice_of(modes)) is expected

    @pytest.mark.parametrize("annotations", [{}, {ANNOTATION: "csi"}], ids=["rule", "annotation"])
    def test_one_broken_node_refuses_no_pod(self, annotations):
        """A pod that can have nothing else is taken: on that node it waits, elsewhere it runs."""
        capabilities = Capabilities(None, nodes_without_driver=("n2", "n1"))
        modes = "csi, secret" if annotations else "pod-certificate, csi"
        assert capabilities.mode_of(choice_of(modes, annotations)) is Mode.CSI
        assert [mode for mode in Mode if capabilities.may_wait(mode)] == [Mode.CSI]

    def test_not_installed(self):
        """Without the driver no pod of this mode is taken: it would wait for ever."""
        with pytest.raises(AdmissionDenied) as refused:
            Capabilities(csi_driver=False).mode_of(choice_of("csi, secret", {ANNOTATION: "csi"}))
        driver = "csi.kubetls.gauntletwizard.net"
        assert str(refused.value) == f"mode csi: CSI driver {driver} is not installed"

    @pytest.mark.parametrize(
        ("capabilities", "why"),
        [
            (Capabilities("v1", None), "the API server does not serve ClusterTrustBundles"),
            (Capabilities(old_nodes=("n1",)), "these nodes are too old for them: n1"),
        ],
        ids=["old cluster", "old node"],
    )
    def test_trust_store(self, capabilities, why):
        """The trust store is projected by the kubelet, and refused where that is not possible."""
        store = {"kubetls.gauntletwizard.net/trust-store": "internal"}
        with pytest.raises(AdmissionDenied, match=why) as refused:
            capabilities.mode_of(choice_of("csi", store))
        assert "trust-store 'internal' is not possible there" in str(refused.value)
        assert capabilities.mode_of(choice_of("csi, secret", store)) is Mode.SECRET
        assert capabilities.mode_of(choice_of("csi")) is Mode.CSI
