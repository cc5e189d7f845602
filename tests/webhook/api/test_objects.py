# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from webhook.api import Namespace, Pod, Service
from webhook.names import annotation


def pod(**changes):
    body = {
        "metadata": {
            "name": "web-0",
            "namespace": "shop",
            "uid": "u1",
            "labels": {"app": "web"},
            "annotations": {annotation("zone"): "main", "other.example/x": "y"},
        },
        "spec": {"serviceAccountName": "web", "nodeName": "node-1"},
        "status": {"phase": "Running"},
    }
    for path, value in changes.items():
        place = body
        *parents, last = path.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    return body


class TestPod:
    def test_it_keeps_what_identity_depends_on(self):
        """Name, UID, node, account and labels are the API server's."""
        parsed = Pod.parse(pod())
        assert (
            parsed.namespace,
            parsed.name,
            parsed.uid,
            parsed.node_name,
            parsed.service_account,
        ) == ("shop", "web-0", "u1", "node-1", "web")
        assert parsed.labels == {"app": "web"}

    def test_only_our_annotations_are_kept(self):
        """Others' may be large, and are nobody's business here."""
        assert Pod.parse(pod()).annotations == {annotation("zone"): "main"}

    def test_a_prefix_that_only_begins_like_ours_is_not_ours(self):
        """The prefix ends with its slash."""
        foreign = {annotation("zone").replace("/", ".evil.example/"): "x"}
        assert Pod.parse(pod(metadata__annotations=foreign)).annotations == {}

    def test_a_deleted_pod_is_terminating(self):
        """It gets no certificate any more."""
        assert Pod.parse(pod(metadata__deletionTimestamp="2026-11-25T00:00:00Z")).is_terminating

    def test_a_static_pod_is_a_mirror(self):
        """Its node runs it; the API server only shows it."""
        mirror = {"kubernetes.io/config.mirror": "hash"}
        assert Pod.parse(pod(metadata__annotations=mirror)).is_mirror

    @pytest.mark.parametrize(
        ("expected", "phase"),
        [(True, "Succeeded"), (True, "Failed"), (False, "Running"), (False, "Pending")],
    )
    def test_a_job_s_pod_ends(self, expected, phase):
        """What has ended needs no renewal."""
        assert Pod.parse(pod(status__phase=phase)).has_ended is expected

    def test_only_volumes_that_carry_credentials_are_kept(self):
        """A Secret, a pod certificate or a driver; tokens and maps are dropped."""
        volumes = [
            {"name": "kube-api-access", "projected": {"sources": [{"serviceAccountToken": {}}]}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "a", "secret": {"secretName": "s"}},
            {
                "name": "b",
                "projected": {
                    "sources": [
                        {"podCertificate": {"signerName": "x.example/y"}},
                        {"clusterTrustBundle": {"name": "z"}},
                    ]
                },
            },
            {"name": "c", "csi": {"driver": "d"}},
        ]
        parsed = Pod.parse(pod(spec__volumes=volumes))
        assert [volume.name for volume in parsed.volumes] == ["a", "b", "c"]
        assert parsed.volume("a").secret_name == "s"
        assert parsed.volume("b").signer_names == ("x.example/y",)
        assert parsed.volume("c").csi_driver == "d"
        assert parsed.volume("settings") is None

    def test_what_the_kubelet_reports_all_the_time_changes_nothing(self):
        """A heartbeat of conditions is no change of the pod."""
        assert Pod.parse(pod()) == Pod.parse(pod(status__conditions=[{"type": "Ready"}]))

    def test_the_owner_is_the_controlling_one(self):
        """Other owners only hold it alive."""
        owners = [{"uid": "a"}, {"uid": "b", "controller": True}]
        assert Pod.parse(pod(metadata__ownerReferences=owners)).owner_uid == "b"

    def test_a_pod_without_labels_and_annotations_parses(self):
        """The API server leaves out what is empty."""
        body = pod(status={})
        del body["metadata"]["labels"], body["metadata"]["annotations"], body["spec"]["nodeName"]
        parsed = Pod.parse(body)
        assert (
            parsed.labels,
            parsed.annotations,
            parsed.node_name,
            parsed.phase,
        ) == ({}, {}, "", "Unknown")


def service(**spec):
    metadata = {"name": "web", "namespace": "shop", "uid": "u2"}
    return Service.parse({"metadata": metadata, "spec": spec})


class TestServiceSelects:
    @pytest.mark.parametrize(
        ("expected", "spec", "labels"),
        [
            pytest.param(True, {"selector": {"a": "1"}}, {"a": "1", "b": "2"}, id="subset"),
            pytest.param(False, {"selector": {"a": "1"}}, {"a": "2"}, id="other value"),
            pytest.param(False, {"selector": {"a": "1", "b": "1"}}, {"a": "1"}, id="missing"),
            pytest.param(False, {}, {"a": "1"}, id="no selector"),
            pytest.param(False, {"selector": {}}, {"a": "1"}, id="empty selector"),
            pytest.param(
                False,
                {"selector": {"a": "1"}, "type": "ExternalName"},
                {"a": "1"},
                id="external",
            ),
        ],
    )
    def test_it_vouches_only_for_pods_that_it_selects(self, expected, spec, labels):
        """A Service without a selector, or for a name elsewhere, selects nothing."""
        assert service(**spec).selects(labels) is expected


class TestNamespace:
    def test_it_has_its_labels(self):
        """Zones and rules are chosen by them."""
        body = {"metadata": {"name": "shop", "uid": "u", "labels": {"team": "a"}}}
        assert Namespace.parse(body).labels == {"team": "a"}
