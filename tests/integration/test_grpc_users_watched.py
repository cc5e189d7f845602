# SPDX-License-Identifier: Apache-2.0
"""End users of gRPC calls over time: keys on their way, tokens that expire, and what is written."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import Future

import grpc
import pytest
from prometheus_client import CollectorRegistry

from kubetls_sdk import audit, metrics
from kubetls_sdk.server import _grpc_gate, refusal_log
from kubetls_sdk.users import Users
from tests.integration.grpc_users import (
    ALICE,
    OPTIONAL,
    RULES,
    SIGNER,
    AsyncUserOrders,
    Keys,
    UserOrders,
    bearer,
    policies,
    serve_users,
    settings,
)
from tests.integration.grpc_world import ARITIES, KINDS, World, code_of, path
from tests.integration.test_grpc_server_streams import _open, ended_with
from tests.tokens import ISSUER
from tests.waiting import until

UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")
STREAMS = ("unary_stream", "stream_unary", "stream_stream")


@pytest.fixture(autouse=True)
def fresh_quotas(monkeypatch):
    """Refusals of earlier tests leave no lines out here."""
    monkeypatch.setattr(refusal_log, "_quotas", {})


@pytest.fixture
def world():
    return World()


@pytest.fixture
def users():
    with Users(settings()) as opened:
        yield opened


class Holder:
    def __init__(self, text):
        self.current = policies(text)


class TestKeysOnTheirWay:
    @pytest.fixture
    def keys(self):
        keys = Keys()
        keys.flying = Future()
        return keys

    @pytest.fixture
    def users(self, keys):
        with Users(settings(keys)) as opened:
            yield opened

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("arity", ARITIES)
    def test_waits(self, world, users, keys, kind, arity):
        """A call waits for the keys of its token, and is judged then."""
        with serve_users(world, kind, users=users) as serving:
            call = self.begin(serving, arity)
            assert keys.asked.wait(10)
            assert serving.orders.seen == []
            keys.flying.set_result(None)
            assert call() == [ALICE + b" a"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_peer_refused_meanwhile(self, world, users, keys, kind):
        """A peer whose root was removed during the wait is refused, and nothing is read."""
        with serve_users(world, kind, users=users) as serving:
            call = self.begin(serving, "stream_stream")
            assert keys.asked.wait(10)
            world.distrust()
            keys.flying.set_result(None)
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                call()
            assert serving.orders.seen == []

    def begin(self, serving, arity):
        method = getattr(serving.channel(), arity)(path(arity))
        request = iter([b"a"]) if arity.startswith("stream") else b"a"
        metadata = bearer(SIGNER.token())
        if arity.endswith("stream"):
            call = method(request, timeout=10, metadata=metadata)
            return lambda: list(call)
        call = method.future(request, timeout=10, metadata=metadata)
        return lambda: [call.result()]


class TestExpiry:
    @pytest.mark.parametrize("arity", STREAMS)
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_stream(self, world, users, kind, arity, caplog):
        """A stream on which nothing happens ends soon after the token of its user has expired."""
        with serve_users(world, kind, users=users, stream_recheck=0.3) as serving:
            metadata = bearer(SIGNER.token(exp=int(time.time()) + 2))
            call, release = _open(serving.channel(), serving.orders, arity, metadata=metadata)
            ended_with(call, arity, 6)
            expected = {grpc.StatusCode.UNAUTHENTICATED}
            if kind == "threaded":  # it can only be cancelled while it waits
                expected.add(grpc.StatusCode.CANCELLED)
            assert call.code() in expected
            release.set()
            until(lambda: serving.orders.running == 0)
        assert "the user's token expired" in caplog.text

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_single_answer(self, world, users, kind, monkeypatch):
        """A single answer that comes long after the end of the token is not given."""
        monkeypatch.setattr(_grpc_gate, "USER_GRACE_SECONDS", 0.0)
        until_then = int(time.time()) + 2

        class Slow(AsyncUserOrders if kind == "async" else UserOrders):
            def who(self, context):
                until(lambda: time.time() > until_then, timeout=5)
                return b"late"

        with serve_users(world, kind, users=users, orders=Slow()) as serving:
            metadata = bearer(SIGNER.token(exp=until_then))
            got = code_of(serving.channel(), "unary_unary", b"a", metadata=metadata)
            assert got == UNAUTHENTICATED


class TestPolicyChange:
    @pytest.mark.parametrize("arity", STREAMS)
    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_wants_a_user_now(self, world, users, kind, arity):
        """A stream without user ends when its rule wants one; one with its user goes on."""
        holder = Holder(OPTIONAL)
        with serve_users(world, kind, users=users, policy=holder, stream_recheck=0.3) as serving:
            channel, metadata = serving.channel(), bearer(SIGNER.token())
            call, release = _open(channel, serving.orders, arity)
            other, other_release = _open(
                channel, serving.orders, arity, metadata=metadata, running=2
            )
            holder.current = policies(RULES)
            ended_with(call, arity)
            assert other.is_active()
            other.cancel()
            release.set()
            other_release.set()


class TestWritten:
    """Each call is written with the results of the five checks, and never with a token."""

    @pytest.fixture
    def lines(self):
        written = []

        class Keep(logging.Handler):
            def emit(self, record):
                written.append(json.loads(str(record.msg)))

        audit.enable(Keep())
        yield written
        audit.disable()

    CASES = (
        ("unary_unary", "alice", "passed passed passed passed passed"),
        ("unary_unary", "bob", "passed passed passed passed failed"),
        ("unary_unary", None, "passed passed passed failed not-reached"),
        ("unary_unary", "expired", "passed passed not-reached failed not-reached"),
        ("other", "alice", "passed passed failed passed not-reached"),
        ("/a//b", "alice", "passed passed not-reached not-reached not-reached"),
    )

    @pytest.mark.parametrize("kind", KINDS)
    def test_audit(self, world, users, kind, lines):
        """What was found of peer, user and policy is in the record, for refusals as well."""
        tokens = {
            "alice": bearer(SIGNER.token()),
            "bob": bearer(SIGNER.token(sub="bob")),
            "expired": bearer(SIGNER.token(exp=1)),
            None: None,
        }
        rules = RULES.replace("shop.Orders/*", "shop.Orders/unary_unary")
        with serve_users(world, kind, users=users, policy=policies(rules)) as serving:
            channel = serving.channel()
            for name, who, _ in self.CASES:
                call = channel.unary_unary(name if "/" in name else path(name))
                call.future(b"a", timeout=9, metadata=tokens[who]).exception()
        for line, (_, who, checks) in zip(lines, self.CASES, strict=True):
            assert line["event"] == "grpc"
            assert " ".join(line["checks"].values()) == checks
            assert line["tls"] == "TLSv1.3"
            assert line["verified"] is True
            assert line["spiffe_id"] == "spiffe://example.org/ns/shop/sa/web"
            known = who in ("alice", "bob") and "not-reached not-reached not-reached" not in checks
            assert line["user"] == ({"issuer": ISSUER, "subject": who} if known else None)

    def test_refused_peer(self, world, users, lines):
        """A peer that proves nothing fails the second check, whatever its token."""
        with serve_users(world, users=users) as serving:
            forged = serving.channel(world.partner.issue_for("example.org", "/ns/shop/sa/web"))
            code_of(forged, "unary_unary", b"a", metadata=bearer(SIGNER.token()))
        [line] = lines
        assert list(line["checks"].values()) == [
            "passed", "failed", "not-reached", "not-reached", "not-reached",
        ]  # fmt: skip
        assert line["verified"] is False

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_token_anywhere(self, world, users, kind, lines, caplog):
        """No part of any token is in log or audit log; the caller is told no reason."""
        caplog.set_level(logging.DEBUG)
        tokens = [
            SIGNER.token(), SIGNER.token(sub="bob"), SIGNER.token(aud="https://other.test"),
            SIGNER.token(exp=1), b"rubbish-rubbish",
        ]  # fmt: skip
        with serve_users(world, kind, users=users) as serving:
            channel = serving.channel()
            answers = [
                channel.unary_unary(path("unary_unary"))
                .future(b"a", timeout=9, metadata=bearer(token))
                .exception()
                for token in (*tokens, *tokens[:1] * 2)
            ]
        assert "expected one of the audiences" in caplog.text
        assert "audience" not in repr(answers)
        written = caplog.text + json.dumps(lines)
        assert not [part for each in tokens for part in each.decode().split(".") if part in written]

    def test_metrics(self, world, users):
        """Each call counts as accepted, refused or absent."""
        registry = CollectorRegistry()
        metrics.enable(registry)
        try:
            with serve_users(world, users=users) as serving:
                channel = serving.channel()
                for tokens in ((SIGNER.token(),), (SIGNER.token(exp=1),), (), ()):
                    call = channel.unary_unary(path("unary_unary"))
                    call.future(b"a", timeout=9, metadata=bearer(*tokens)).exception()
            counts = [
                registry.get_sample_value(metrics.USER_TOKENS, {"result": result})
                for result in ("accepted", "refused", "absent")
            ]
        finally:
            metrics.disable()
        assert counts == [1, 1, 2]
