# SPDX-License-Identifier: Apache-2.0
"""Log lines about what was refused."""

from __future__ import annotations

import logging

import pytest

from kubetls_sdk.exceptions import PeerVerificationError
from kubetls_sdk.server import refusal_log
from kubetls_sdk.server.refusal_log import (
    LogQuota,
    adopt_handlers,
    log_refusal,
    log_refused_peer,
)
from kubetls_sdk.spiffe_id import SpiffeId

WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")


@pytest.fixture(autouse=True)
def fresh_quotas(monkeypatch):
    monkeypatch.setattr(refusal_log, "_quotas", {})


class TestLine:
    def test_handshake(self, caplog):
        """A refused handshake shows what the peer claims, as a claim."""
        log_refusal("handshake", "it expired", address="10.0.0.7:1", spiffe_id=WEB)
        (record,) = caplog.records
        assert record.getMessage() == (
            "refused handshake of 10.0.0.7:1 that claims 'spiffe://example.org/ns/shop/sa/web':"
            " it expired"
        )
        assert (record.name, record.levelno) == ("kubetls_sdk.server", logging.WARNING)
        assert (record.event, record.address, record.spiffe_id, record.reason) == (
            "handshake", "10.0.0.7:1", str(WEB), "it expired",
        )  # fmt: skip

    def test_request(self, caplog):
        """A refused request shows who proved to be there, and for what."""
        log_refusal(
            "request", "no rule", address="10.0.0.7:1", spiffe_id=WEB, detail="'GET' '/admin'"
        )
        assert caplog.messages == [
            "refused request of 10.0.0.7:1 (spiffe://example.org/ns/shop/sa/web) 'GET' '/admin':"
            " no rule"
        ]

    def test_without_identity(self, caplog):
        """Without any identity there is none in the line."""
        log_refusal("handshake", "it presented no certificate", address="10.0.0.7:1")
        assert caplog.messages == ["refused handshake of 10.0.0.7:1: it presented no certificate"]

    def test_peer_without_address(self, caplog):
        """Where the event loop does the handshake, the reason is there all the same."""
        log_refused_peer(PeerVerificationError("it expired", spiffe_id=WEB))
        assert "refused handshake of a peer that claims" in caplog.text


class TestFlood:
    def test_no_flood(self, caplog):
        """Ten thousand refusals are a burst of lines; the rest is counted in the next one."""
        for _ in range(10_000):
            log_refusal("handshake", "no", address="10.0.0.7:1")
        assert 50 <= len(caplog.records) <= 100
        refusal_log._quotas["handshake"]._left = 1.0
        log_refusal("handshake", "no", address="10.0.0.7:1")
        assert "more such lines were not written" in caplog.messages[-1]

    def test_events_are_apart(self, caplog):
        """A flood of handshakes does not hide a refused request."""
        for _ in range(1000):
            log_refusal("handshake", "no", address="10.0.0.7:1")
        log_refusal("request", "no", address="10.0.0.7:1")
        assert "refused request" in caplog.messages[-1]

    def test_quota(self, monkeypatch):
        """A quota is regained with time, up to its burst."""
        now = [0.0]
        monkeypatch.setattr(refusal_log.time, "monotonic", lambda: now[0])
        quota = LogQuota(burst=2, per_second=1.0)
        assert [quota.take() for _ in range(3)] == [True, True, False]
        now[0] = 1.0
        assert [quota.take() for _ in range(2)] == [True, False]
        now[0] = 100.0
        assert [quota.take() for _ in range(3)] == [True, True, False]
        assert quota.suppressed == 3


class TestAdoptHandlers:
    @staticmethod
    def loggers(monkeypatch):
        ours, theirs = logging.getLogger("kubetls_sdk"), logging.getLogger("a-server")
        monkeypatch.setattr(logging.root, "handlers", [])
        monkeypatch.setattr(ours, "handlers", [logging.NullHandler()])
        monkeypatch.setattr(theirs, "handlers", [logging.StreamHandler()])
        return ours, theirs

    def test_unconfigured(self, monkeypatch):
        """Lines go where the server's go when nobody has said anything else."""
        ours, theirs = self.loggers(monkeypatch)
        adopt_handlers("a-server")
        assert theirs.handlers[0] in ours.handlers

    def test_configured(self, monkeypatch):
        """Whoever configured our logger, or the root, keeps it."""
        ours, theirs = self.loggers(monkeypatch)
        ours.addHandler(logging.StreamHandler())
        adopt_handlers("a-server")
        assert theirs.handlers[0] not in ours.handlers
