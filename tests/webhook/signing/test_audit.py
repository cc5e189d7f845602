# SPDX-License-Identifier: Apache-2.0
"""The audit log of issuance: what a line has, and what never is in one."""

import json
import logging

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.webhook.issuance.samples import NOW, UID, authority, development_ca, grant, key, request
from webhook.exceptions import IssuanceError
from webhook.issuance.profile import issue
from webhook.signing.audit import LOGGER, MAX_CHARACTERS, AuditLog

REQUESTER = "system:node:node-1"


@pytest.fixture
def lines(caplog):
    """The lines so far, with their levels."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    return lambda: [(each.levelname, each.getMessage()) for each in caplog.records]


def signed(granted=None):
    return issue(granted or grant(), authority(development_ca()), now=NOW, serial=0xABC)


def write_issued(granted=None, **changes):
    granted = granted or grant()
    AuditLog().issued(
        request(**changes),
        granted,
        signed(granted),
        now=NOW,
        requester=REQUESTER,
        name="shop/req-1",
        signer="aa11",
    )


class TestIssued:
    def test_a_line(self, lines):
        """Who asked, for which pod, what was certified, by whom, and until when."""
        write_issued()
        [(level, text)] = lines()
        assert level == "INFO"
        assert json.loads(text) == {
            "time": "2026-11-25T12:30:15.999Z",
            "decision": "issued",
            "kind": "PodCertificateRequest",
            "name": "shop/req-1",
            "requester": REQUESTER,
            "namespace": "shop",
            "pod": "web-0",
            "pod_uid": UID,
            "service_account": "web",
            "node": "node-1",
            "signer": "kubetls.gauntletwizard.net/workload",
            "key_type": "ECDSAP256",
            "requested_seconds": 86400,
            "serial": "abc",
            "spiffe_id": "spiffe://example.org/ns/shop/sa/web",
            "common_name": "web-0",
            "dns_names": ["web.shop.svc", "web.shop.svc.cluster.local"],
            "zone": "default",
            "authority": "aa11",
            "not_before": "2026-11-25T12:28:15Z",
            "not_after": "2026-11-26T12:28:15Z",
            "refresh_at": json.loads(text)["refresh_at"],
            "reason": None,
            "message": None,
        }

    def test_one_line(self, lines):
        """A record is one line of ASCII, whatever a name has in it."""
        write_issued(pod_name='a\n{"decision":"denied"}\u2028\x1b[31mä')
        [(_, text)] = lines()
        assert text.isascii()
        assert text.isprintable()
        assert json.loads(text)["decision"] == "issued"

    def test_many_names(self, lines):
        """The first hundred names are listed, and how many follow."""
        write_issued(grant(dns_names=tuple(f"s{number}.shop.svc" for number in range(130))))
        [(_, text)] = lines()
        listed = json.loads(text)["dns_names"]
        assert len(listed) == 101
        assert listed[-1] == "... and 30 more"

    def test_no_key_material(self, lines):
        """Neither the key nor the certificate is in a line, nor what the author wrote."""
        write_issued(annotations={"example.org/x": "secret-value"})
        [(_, text)] = lines()
        pem = signed().certificate.public_bytes(Encoding.PEM).splitlines()[1].decode()
        assert pem[:40] not in text
        assert "BEGIN" not in text
        assert "secret-value" not in text
        assert str(key().public_key().public_numbers().x) not in text


class TestRefused:
    @pytest.mark.parametrize("decision", ["denied", "failed"])
    def test_a_line(self, lines, decision):
        """Who asked for what, and why it was refused; a warning."""
        error = IssuanceError("expected the pod's node, got another", reason="PodMismatch")
        AuditLog().refused(
            request(), error, now=NOW, requester=REQUESTER, name="shop/req-1", decision=decision
        )
        [(level, text)] = lines()
        found = json.loads(text)
        assert level == "WARNING"
        assert found["decision"] == decision
        assert found["reason"] == "PodMismatch"
        assert found["message"] == "expected the pod's node, got another"
        assert found["pod"] == "web-0"
        assert "serial" not in found

    def test_unreadable(self, lines):
        """A request that could not be read is written down with its name."""
        error = IssuanceError("expected a well-formed request", reason="InvalidRequest")
        AuditLog().refused(None, error, now=NOW, requester=REQUESTER, kind="CSR", name="csr-1")
        [(_, text)] = lines()
        assert json.loads(text) == {
            "time": "2026-11-25T12:30:15.999Z",
            "decision": "denied",
            "kind": "CSR",
            "name": "csr-1",
            "requester": REQUESTER,
            "reason": "InvalidRequest",
            "message": "expected a well-formed request",
        }

    def test_long_texts(self, lines):
        """A long text is cut, and says so."""
        error = IssuanceError("x" * 10_000, reason="InvalidRequest")
        AuditLog().refused(None, error, now=NOW, requester="y" * 10_000)
        [(_, text)] = lines()
        assert json.loads(text)["message"] == "x" * MAX_CHARACTERS + "..."
        assert json.loads(text)["requester"] == "y" * MAX_CHARACTERS + "..."


class TestLogger:
    def test_a_logger_of_ones_own(self):
        """Lines go to the logger that was given."""
        logger, seen = logging.Logger("own", logging.INFO), []
        handler = logging.Handler()
        handler.emit = seen.append
        logger.addHandler(handler)
        AuditLog(logger).refused(
            None, IssuanceError("no", reason="NotAllowed"), now=NOW, requester=REQUESTER
        )
        assert json.loads(seen[0].getMessage())["reason"] == "NotAllowed"

    def test_a_handler_that_fails(self, monkeypatch):
        """A full disk does not stop the signer."""
        monkeypatch.setattr(logging, "raiseExceptions", False)

        class Full(logging.StreamHandler):
            def flush(self):
                raise OSError("disk full")

        logger = logging.Logger("full", logging.INFO)
        logger.addHandler(Full())
        AuditLog(logger).refused(
            None, IssuanceError("no", reason="NotAllowed"), now=NOW, requester=REQUESTER
        )
