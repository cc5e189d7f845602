# SPDX-License-Identifier: Apache-2.0
"""Metrics: stable names, bounded labels, and nothing at all until they are enabled."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kubetls_sdk import ConfigurationError, metrics


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    metrics.enable(registry)
    yield registry
    metrics.disable()


class TestNames:
    def test_are_stable(self):
        """A change of this table breaks users' dashboards: it is a change of the interface."""
        assert {(m.name, m.kind, m.labels) for m in metrics.METRICS} == {
            ("kubetls_volume_reloads_total", "counter", ("result",)),
            ("kubetls_volume_problems_total", "counter", ("kind",)),
            ("kubetls_snapshot_generation", "gauge", ()),
            ("kubetls_svid_not_after_timestamp_seconds", "gauge", ()),
            ("kubetls_bundle_authorities", "gauge", ("trust_domain",)),
            ("kubetls_bundle_stale_seconds", "gauge", ("trust_domain",)),
            ("kubetls_bundle_fetches_total", "counter", ("trust_domain", "result")),
            ("kubetls_handshakes_total", "counter", ("side", "result", "reason")),
            ("kubetls_handshake_seconds", "histogram", ("side",)),
            ("kubetls_connections_ended_total", "counter", ("side", "reason")),
            ("kubetls_requests_total", "counter", ("decision", "rule")),
            ("kubetls_decision_seconds", "histogram", ()),
            ("kubetls_policy_reloads_total", "counter", ("result",)),
            ("kubetls_policy_loaded_timestamp_seconds", "gauge", ()),
            ("kubetls_identity_headers_removed_total", "counter", ()),
            ("kubetls_user_tokens_total", "counter", ("result",)),
            ("kubetls_user_key_fetches_total", "counter", ("url", "result")),
        }

    def test_each_constant_is_a_row(self):
        """Every name that code can use is in the table, and the other way round."""
        constants = {
            value
            for name, value in vars(metrics).items()
            if name.isupper() and isinstance(value, str)
        }
        assert constants == {metric.name for metric in metrics.METRICS}

    def test_each_is_exposed_under_its_name(self, registry):
        """What prometheus_client shows is what the table says, with help."""
        text = generate_latest(registry).decode()
        for metric in metrics.METRICS:
            name = metric.name
            assert f"# HELP {name} {metric.help}\n" in text
            assert f"# TYPE {name} {metric.kind}\n" in text


class TestRecording:
    def test_counter(self, registry):
        """Increments add up by label values, in whatever order the labels are given."""
        metrics.increment(metrics.REQUESTS, decision="allowed", rule="a")
        metrics.increment(metrics.REQUESTS, 2, rule="a", decision="allowed")
        labels = {"decision": "allowed", "rule": "a"}
        assert registry.get_sample_value(metrics.REQUESTS, labels) == 3

    def test_gauge(self, registry):
        """A gauge shows the last value."""
        metrics.set_gauge(metrics.GENERATION, 1)
        metrics.set_gauge(metrics.GENERATION, 7)
        assert registry.get_sample_value(metrics.GENERATION) == 7

    def test_histogram(self, registry):
        """A histogram counts observations."""
        metrics.observe(metrics.HANDSHAKE_SECONDS, 0.002, side="server")
        name = f"{metrics.HANDSHAKE_SECONDS}_count"
        assert registry.get_sample_value(name, {"side": "server"}) == 1

    def test_labels_are_bounded(self, registry, monkeypatch):
        """Past the limit further label values count as `other`; those before keep counting."""
        monkeypatch.setattr(metrics, "MAX_LABEL_SETS", 2)
        for number in (1, 2, 3, 4, 1):
            metrics.increment(metrics.POLICY_RELOADS, result=str(number))

        def count(result):
            return registry.get_sample_value(metrics.POLICY_RELOADS, {"result": result})

        assert [count(each) for each in ("1", "2", "3", "other")] == [2, 1, None, 2]

    def test_long_label_values_are_cut(self, registry):
        """No value makes a sample of unbounded size."""
        metrics.increment(metrics.REQUESTS, decision="denied", rule="r" * 10_000)
        labels = {"decision": "denied", "rule": "r" * 200}
        assert registry.get_sample_value(metrics.REQUESTS, labels) == 1

    @pytest.mark.parametrize(
        "labels",
        [
            pytest.param({"decision": "allowed"}, id="too few"),
            pytest.param({"decision": "allowed", "rule": "a", "x": "y"}, id="too many"),
        ],
    )
    def test_a_wrong_call_is_logged_and_harms_nobody(self, registry, caplog, labels):
        """A bug of ours does not fail the request that is measured."""
        metrics.increment(metrics.REQUESTS, **labels)
        assert "was not recorded" in caplog.text

    def test_an_unknown_name_is_logged_and_harms_nobody(self, registry, caplog):
        """The same for a metric that does not exist."""
        metrics.increment("kubetls_unknown_total")
        assert "'kubetls_unknown_total'" in caplog.text


class TestEnable:
    def test_disabled_calls_do_nothing(self):
        """Without `enable` a call with any name is silent."""
        assert not metrics.is_enabled()
        metrics.increment("anything", x="y")
        metrics.set_gauge("anything", 1)
        metrics.observe("anything", 1)

    def test_twice_with_the_same_registry(self, registry):
        """A second call changes nothing."""
        metrics.set_gauge(metrics.GENERATION, 3)
        metrics.enable(registry)
        assert registry.get_sample_value(metrics.GENERATION) == 3

    def test_a_second_registry(self, registry):
        """Two registries are a contradiction."""
        with pytest.raises(ConfigurationError, match="expected one registry"):
            metrics.enable(CollectorRegistry())

    def test_disable_leaves_the_registry_clean(self):
        """After `disable` the same registry can be used again."""
        registry = CollectorRegistry()
        for _ in range(2):
            metrics.enable(registry)
            metrics.disable()
        assert generate_latest(registry) == b""

    def test_without_prometheus_client(self, monkeypatch):
        """The error says what to install."""
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'kubetls-sdk\[metrics\]'"):
            metrics.enable()

    def test_prometheus_client_is_not_imported_unasked(self):
        """Importing the metrics loads no exporter."""
        code = (
            "import sys, kubetls_sdk.metrics, kubetls_sdk.volume_source;"
            "assert 'prometheus_client' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
