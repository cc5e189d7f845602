# SPDX-License-Identifier: Apache-2.0
"""The control plane's metrics: names, labels, and how they are read."""

from datetime import UTC, datetime

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from webhook import metrics

NAMES = {
    "kubetls_signer_issued": ("counter", ("zone", "kind")),
    "kubetls_signer_denied": ("counter", ("kind", "reason")),
    "kubetls_signer_failed": ("counter", ("kind", "reason")),
    "kubetls_signer_retried": ("counter", ("kind", "reason")),
    "kubetls_signer_pending": ("gauge", ("kind",)),
    "kubetls_signer_request_seconds": ("histogram", ("kind",)),
    "kubetls_signer_issue_seconds": ("histogram", ()),
    "kubetls_queue_length": ("gauge", ("queue",)),
    "kubetls_queue_seconds": ("histogram", ("queue",)),
    "kubetls_ca_not_after_timestamp_seconds": ("gauge", ("zone", "state")),
    "kubetls_ca_authorities": ("gauge", ("zone", "state")),
    "kubetls_serving_not_after_timestamp_seconds": ("gauge", ()),
    "kubetls_pods_without_source": ("counter", ()),
}


def families():
    text = metrics.exposition().decode()
    return {each.name: each for each in text_string_to_metric_families(text)}


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_name_and_type(self, name):
        """Dashboards and alerts rest on these names and types."""
        found = families()[name]
        assert found.type == NAMES[name][0]
        assert found.documentation.endswith(".")

    def test_labels(self):
        """Each has its labels, none of which names a namespace or a pod."""
        every = [
            each for each in vars(metrics).values() if isinstance(each, Counter | Gauge | Histogram)
        ]
        found = {each._name: each._labelnames for each in every}
        for name, (_, labels) in NAMES.items():
            assert found[name] == labels
        assert not {"namespace", "pod", "node", "user"} & {
            label for labels in found.values() for label in labels
        }


class TestExposition:
    def test_a_count(self):
        """What is counted is exposed under its labels."""
        metrics.DENIED.labels(kind="test", reason="UnsupportedKeyType").inc(3)
        samples = families()["kubetls_signer_denied"].samples
        assert [
            each.value
            for each in samples
            if each.name.endswith("_total") and each.labels["kind"] == "test"
        ] == [3.0]

    def test_times(self):
        """A time is exposed in seconds since the epoch."""
        at = datetime(2027, 1, 1, tzinfo=UTC)
        metrics.set_time(metrics.CA_NOT_AFTER.labels(zone="test", state="active"), at)
        samples = families()["kubetls_ca_not_after_timestamp_seconds"].samples
        assert [each.value for each in samples if each.labels["zone"] == "test"] == [at.timestamp()]

    def test_content_type(self):
        """It is Prometheus' text format."""
        assert metrics.CONTENT_TYPE.startswith("text/plain")
