# SPDX-License-Identifier: Apache-2.0
"""How the edge example judges: what the audit logs say becomes hops, and texts to compare."""

from __future__ import annotations

import json

import jwt
import pytest

from examples.demonstration.case import Case
from examples.edge.command import Result
from examples.edge.hop import CHECKS, Hop, Wire
from examples.edge.login import AUDIENCE, FAULTS, ISSUER, TokenIssuer
from examples.edge.outside_cases import tampered
from examples.edge.trail import Trail

EXTERNAL = "spiffe://example.org/ns/shop/sa/external-api"


def record(**fields):
    """The record of a request that passed all checks."""
    return {
        **{"time": "2026-11-25T12:00:00.000Z", "event": "request", "decision": "allow"},
        **{"peer": "127.0.0.1:4000", "spiffe_id": EXTERNAL, "path": "/orders/A1"},
        **{"rule": "edge-reads-order", "reason": "", "tls": "TLSv1.3"},
        "user": {"issuer": ISSUER, "subject": "alice"},
        "checks": dict.fromkeys(CHECKS, "passed"),
        **fields,
    }


def failing(check, **fields):
    return record(
        decision="deny", checks=dict.fromkeys(CHECKS, "passed") | {check: "failed"}, **fields
    )


class TestHop:
    """`Hop`."""

    def test_is_allowed_when_nothing_failed(self):
        """A hop whose checks all passed is allowed, and names its user and rule."""
        hop = Hop(record())
        assert (hop.is_allowed, hop.failed, hop.user) == (True, None, "alice")
        assert hop.rule == "edge-reads-order"

    @pytest.mark.parametrize("check", CHECKS)
    def test_names_the_check_that_failed(self, check):
        """Any of the five."""
        hop = Hop(failing(check))
        assert not hop.is_allowed
        assert hop.failed == check.replace("_", " ")

    def test_is_refused_where_the_log_contradicts_itself(self):
        """An allowed request with a failed check is not taken for allowed."""
        assert not Hop({**failing("encryption"), "decision": "allow"}).is_allowed

    def test_is_refused_by_what_its_route_requires(self):
        """The request is allowed by its policy, and then refused by the route."""
        route = failing("user_authorization", event="action", rule=None, reason="not the owner")
        hop = Hop(record(), route)
        assert (hop.is_allowed, hop.failed) == (False, "user authorization")
        assert hop.document()["checks"][-1]["seen"] == ["not the owner"]

    @pytest.mark.parametrize(
        ("reason", "failed"),
        [("its issuer is unknown", "service authentication"), ("TLS failed: ...", "encryption")],
        ids=["certificate", "no TLS"],
    )
    def test_has_five_checks_without_a_request(self, reason, failed):
        """A handshake that was refused failed one check, and reached none after it."""
        hop = Hop(record(event="handshake", decision="deny", checks=None, reason=reason))
        assert hop.failed == failed
        assert list(hop.checks) == list(CHECKS)
        assert hop.checks["user_authorization"] == "not-reached"

    def test_shows_what_was_seen(self):
        """The document holds what is in the record and in the connection, and nothing else."""
        wire = Wire("127.0.0.1:4000", "TLSv1.3", "TLS_AES_256_GCM_SHA384", "spiffe://b/c")
        seen = {c["name"]: c["seen"] for c in Hop(record(), wire=wire).document()["checks"]}
        assert seen == {
            "encryption": ["TLSv1.3", "TLS_AES_256_GCM_SHA384"],
            "service_authentication": [f"caller {EXTERNAL}", "server spiffe://b/c"],
            "service_authorization": ["rule edge-reads-order"],
            "user_authentication": ["alice", f"of {ISSUER}"],
            "user_authorization": ["rule edge-reads-order"],
        }

    def test_shows_nothing_of_a_connection_that_it_does_not_know(self):
        """Without the connection there is no cipher suite and no server."""
        first, second, *_ = Hop(record()).document()["checks"]
        assert (first["seen"], second["seen"]) == (["TLSv1.3"], [f"caller {EXTERNAL}"])


class TestTrail:
    """`Trail`."""

    def test_reads_after_a_mark(self, tmp_path):
        """Only what was written after the mark, and no line that is not complete."""
        file = tmp_path / "audit.jsonl"
        trail = Trail(file)
        assert (trail.mark(), trail.since(0)) == (0, [])
        file.write_text('{"a": 1}\n')
        mark = trail.mark()
        with file.open("a") as log:
            log.write('{"a": 2}\n{"a": {"b"')
        assert trail.since(mark) == [{"a": 2}]

    @pytest.mark.parametrize(
        ("size", "found"), [(9, []), (12, [3]), (21, [2, 3]), (1000, [1, 2, 3])]
    )
    def test_reads_the_last_bytes(self, tmp_path, size, found):
        """A line of which the beginning is missing is left out."""
        file = tmp_path / "audit.jsonl"
        file.write_text("".join(f'{{"a": {n}}}\n' for n in (1, 2, 3)))
        assert [each["a"] for each in Trail(file).recent(size)] == found


class TestTokens:
    """The tokens that the example works with."""

    @pytest.fixture
    def issuer(self):
        return TokenIssuer()

    def verified(self, issuer, token):
        key = jwt.PyJWK(issuer.jwks()["keys"][0])
        return jwt.decode(token, key, audience=AUDIENCE, issuer=ISSUER)

    def test_good_ones_are_good(self, issuer):
        """An independent library verifies them."""
        claims = self.verified(issuer, issuer.token("alice", "browser"))
        assert (claims["sub"], claims["client_id"]) == ("alice", "browser")

    @pytest.mark.parametrize("fault", [*FAULTS, "key"])
    def test_others_are_wrong(self, issuer, fault):
        """An independent library refuses them."""
        with pytest.raises(jwt.InvalidTokenError):
            self.verified(issuer, issuer.token("alice", "browser", fault))

    def test_a_tampered_one_says_bob(self, issuer):
        """It differs from a good one in nothing but its user."""
        token = issuer.token("alice", "browser")
        good, bad = (
            jwt.decode(t, options={"verify_signature": False}) for t in (token, tampered(token))
        )
        assert bad == {**good, "sub": "bob"}
        with pytest.raises(jwt.InvalidSignatureError):
            self.verified(issuer, tampered(token))


class TestResult:
    """`Result`."""

    def test_is_ok_when_every_case_is(self):
        """One wrong case makes all of it wrong."""
        right, wrong = Case("a", "200", "200"), Case("b", "403", "200")
        assert Result((right,), {}).is_ok
        assert not Result((right, wrong), {}).is_ok

    def test_a_removal_without_effect_has_no_time(self):
        """JSON knows no infinity."""
        document = Result((), {"partner_removed": float("inf")}).document()
        assert json.loads(json.dumps(document, allow_nan=False))["seconds_to_effect"] == {
            "partner_removed": None
        }
