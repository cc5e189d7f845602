# SPDX-License-Identifier: Apache-2.0
"""gRPC streams that are open when the policy changes."""

from __future__ import annotations

import io
import json
import logging

import grpc
import pytest

from kubetls_sdk import TrustDomain, audit
from kubetls_sdk.authz import PolicySet
from tests.integration.grpc_world import World, path, serve
from tests.integration.test_grpc_server_streams import _Messages, _open, ended_with
from tests.waiting import until

KINDS = ["threaded", "async"]
ARITIES = ["unary_stream", "stream_unary", "stream_stream"]


def policies(who="shop"):
    text = (
        "version: 1\npolicies:\n- name: p\n  allow:\n  - name: calls\n"
        f"    from: {{namespace: {who}}}\n    to: {{grpc: '{path('x').split('/')[1]}/*'}}\n"
    )
    return PolicySet.parse({"p": text}, trust_domain=TrustDomain("example.org"))


class Holder:
    def __init__(self):
        self.current = policies()


@pytest.fixture
def world():
    return World()


class TestStreams:
    @pytest.mark.parametrize("arity", ARITIES)
    @pytest.mark.parametrize("kind", KINDS)
    def test_denied(self, world, kind, arity):
        """A stream on which nothing happens ends when the policy does not allow it any more."""
        holder, written = Holder(), io.StringIO()
        audit.enable(logging.StreamHandler(written))
        try:
            with serve(world, kind, policy=holder, stream_recheck=0.3) as serving:
                call, release = _open(serving.channel(), serving.orders, arity)
                holder.current = policies("other")
                ended_with(call, arity)
                expected = {grpc.StatusCode.PERMISSION_DENIED}
                if kind == "threaded":  # it can only be cancelled while it waits
                    expected.add(grpc.StatusCode.CANCELLED)
                assert call.code() in expected
                release.set()
                until(lambda: serving.orders.running == 0)
        finally:
            audit.disable()
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
        denied = [line["reason"] for line in lines if line["decision"] == "deny"]
        assert len(denied) == 1
        assert denied[0].startswith("ended under way: ")

    @pytest.mark.parametrize("kind", KINDS)
    def test_next_message(self, world, kind):
        """The next message is not served, however rarely the server looks."""
        holder = Holder()
        with serve(world, kind, policy=holder, stream_recheck=60.0) as serving:
            messages = _Messages()
            call = serving.channel().stream_stream(path("stream_stream"))(messages)
            messages.send(b"a")
            assert next(call).endswith(b"a")
            holder.current = policies("other")
            messages.send(b"b")
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    @pytest.mark.parametrize("kind", KINDS)
    def test_allowed(self, world, kind):
        """A stream that is still allowed goes on."""
        holder = Holder()
        with serve(world, kind, policy=holder, stream_recheck=0.15) as serving:
            messages = _Messages()
            call = serving.channel().stream_stream(path("stream_stream"))(messages)
            for number in range(3):
                messages.send(b"%d" % number)
                assert next(call).endswith(b"%d" % number)
                holder.current = policies()
            messages.stop()
            assert list(call) == []
