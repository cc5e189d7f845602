# SPDX-License-Identifier: Apache-2.0
"""Which pods are injected, left alone or refused."""

import pytest

from tests.webhook.injection import json_patch
from tests.webhook.injection.world import (
    ENVIRONMENT,
    MOUNT,
    PREFIX,
    annotated,
    injected,
    outcome,
    pod,
    refusal,
)
from webhook.capabilities import Capabilities
from webhook.exceptions import ReviewError


class TestSelection:
    @pytest.mark.parametrize(
        ("namespace", "label", "expected"),
        [
            ("shop", None, "injected"),
            ("shop", "false", "skipped"),
            ("lab", None, "skipped"),
            ("lab", "true", "injected"),
            ("elsewhere", None, "skipped"),
            ("kubetls-system", "true", "skipped"),
        ],
    )
    def test_namespace_and_label(self, namespace, label, expected):
        """The rule of the namespace and the pod's label decide; our own namespace has no choice."""
        labels = {f"{PREFIX}/inject": label} if label else None
        decided, answer = outcome(pod(labels=labels), namespace=namespace)
        assert expected == decided.value
        assert answer.message is None
        assert bool(answer.patch) is (expected == "injected")

    def test_a_wish_that_nobody_hears(self):
        """A pod that asks to be injected where no rule is, is told so."""
        _, answer = outcome(pod(labels={f"{PREFIX}/inject": "true"}), namespace="elsewhere")
        assert answer.warnings == (
            "KubeTLS: this namespace has no rule in the platform's configuration",
        )

    def test_a_mirror_pod(self):
        """The pod of a static manifest runs already."""
        mirror = pod(annotations={"kubernetes.io/config.mirror": "hash", f"{PREFIX}/zone": "none"})
        assert outcome(mirror)[0].value == "skipped"

    @pytest.mark.parametrize(
        "spec",
        [{"os": {"name": "windows"}}, {"nodeSelector": {"kubernetes.io/os": "windows"}}],
        ids=["os", "node"],
    )
    def test_a_windows_pod(self, spec):
        """Windows pods are left alone, and their authors told."""
        decided, answer = outcome(pod(**spec))
        assert (decided.value, list(answer.patch)) == ("skipped", [])
        assert "Windows" in answer.warnings[0]

    def test_the_host_network(self):
        """A pod in the node's network is injected with a warning."""
        decided, answer = outcome(pod(hostNetwork=True))
        assert decided.value == "injected"
        assert "hostNetwork" in answer.warnings[0]

    @pytest.mark.parametrize(
        ("operation", "subresource"),
        [("UPDATE", ""), ("DELETE", ""), ("CONNECT", "exec"), ("CREATE", "binding")],
    )
    def test_other_operations(self, operation, subresource):
        """Only the creation of a pod injects it."""
        decided, answer = outcome(pod(), operation=operation, subresource=subresource)
        assert (decided.value, list(answer.patch)) == ("skipped", [])

    def test_no_pod(self):
        """An object without containers is the sender's error, not a pod to refuse."""
        with pytest.raises(ReviewError, match="expected a pod with containers"):
            outcome({})


class TestRefusals:
    @pytest.mark.parametrize(
        ("annotations", "message"),
        [
            (annotated(zone="x"), "annotation kubetls.gauntletwizard.net/zone: expected one of"),
            (annotated(zones="pci"), "unknown annotation 'kubetls.gauntletwizard.net/zones'"),
            (annotated(inject="true"), "is a label, got an annotation"),
        ],
        ids=["value", "name", "label"],
    )
    def test_annotations(self, annotations, message):
        """A wrong annotation refuses the pod, with the annotation in the message."""
        assert message in refusal(pod(annotations=annotations))

    def test_old_nodes(self):
        """Where nodes are too old and no other mode is allowed, the message names them."""
        found = refusal(
            pod(labels={f"{PREFIX}/inject": "true"}),
            namespace="lab",
            capabilities=Capabilities(old_nodes=("node7",)),
        )
        assert found == "mode pod-certificate: these nodes are too old for them: node7"


class TestWarnings:
    @pytest.mark.parametrize(
        ("namespace", "spec"),
        [
            ("shop", {"hostNetwork": True}),
            ("shop", {"os": {"name": "windows"}}),
            ("elsewhere", {}),
            ("edge", {}),
        ],
    )
    def test_length(self, namespace, spec):
        """The API server cuts warnings, so each is at most 120 characters."""
        labels = {f"{PREFIX}/inject": "true"}
        only_csi = Capabilities(None, nodes_without_driver=("n1",))
        annotations = annotated(mode="csi") if namespace == "edge" else {}
        asked = pod(labels=labels, annotations=annotations, **spec)
        capabilities = only_csi if namespace == "edge" else None
        _, answer = outcome(asked, namespace=namespace, capabilities=capabilities)
        assert len(answer.warnings) == 1
        assert len(answer.warnings[0]) <= 120


def debugged(pod, *containers):
    return {**pod, "spec": {**pod["spec"], "ephemeralContainers": list(containers)}}


class TestEphemeralContainers:
    ABOUT = {"operation": "UPDATE", "subresource": "ephemeralcontainers"}  # noqa: RUF012

    def test_of_an_injected_pod(self):
        """A new one gets mount and environment of the pod's others."""
        before = injected(pod(annotations=annotated(mount_path="/etc/identity")))
        after = debugged(before, {"name": "debug", "targetContainerName": "main"})
        changed = injected(after, old=before, **self.ABOUT)
        assert changed["spec"]["ephemeralContainers"] == [
            {
                "name": "debug",
                "targetContainerName": "main",
                "volumeMounts": before["spec"]["containers"][0]["volumeMounts"],
                "env": before["spec"]["containers"][0]["env"],
            }
        ]
        del changed["spec"]["ephemeralContainers"]
        assert before == changed

    def test_those_that_run(self):
        """One that is there already cannot be changed, and is not."""
        plain = injected(pod())
        before = debugged(plain, {"name": "first"})
        after = debugged(plain, {"name": "first"}, {"name": "second"})
        changed = injected(after, old=before, **self.ABOUT)
        first, second = changed["spec"]["ephemeralContainers"]
        assert first == {"name": "first"}
        assert (second["volumeMounts"], second["env"]) == ([MOUNT], ENVIRONMENT)

    def test_whatever_the_configuration_says_now(self):
        """A pod that would be refused today can still be debugged."""
        before = injected(pod())
        before["metadata"]["annotations"] |= annotated(zone="gone")
        after = debugged(before, {"name": "debug"})
        decided, _ = outcome(after, old=before, namespace="elsewhere", **self.ABOUT)
        assert decided.value == "injected"

    def test_of_another_pod(self):
        """A pod that was not injected has nothing to mount."""
        after = debugged(pod(), {"name": "debug"})
        assert outcome(after, old=pod(), **self.ABOUT)[0].value == "skipped"

    def test_a_volume_by_hand(self):
        """A volume of our name in a pod that was never injected is its author's own affair."""
        by_hand = {"name": "main", "volumeMounts": [MOUNT]}
        before = pod(by_hand, volumes=[{"name": "kubetls", "emptyDir": {}}])
        after = debugged(before, {"name": "debug"})
        assert outcome(after, old=before, **self.ABOUT)[0].value == "skipped"

    def test_settings_of_its_own(self):
        """One that contradicts is left alone with a warning: debugging is never refused."""
        before = injected(pod())
        variable = {"name": "KUBETLS_TRUST_DOMAIN", "value": "else.example"}
        after = debugged(before, {"name": "own", "env": [variable]}, {"name": "debug"})
        decided, answer = outcome(after, old=before, **self.ABOUT)
        assert decided.value == "injected"
        own, debug = json_patch.apply(after, answer.patch)["spec"]["ephemeralContainers"]
        assert own == {"name": "own", "env": [variable]}
        assert debug["volumeMounts"] == [MOUNT]
        assert len(answer.warnings) == 1
        assert len(answer.warnings[0]) <= 120
