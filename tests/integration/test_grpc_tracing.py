# SPDX-License-Identifier: Apache-2.0
"""Attributes of the spans that an instrumentation of gRPC makes around our servers."""

from __future__ import annotations

import contextlib

import grpc
import pytest
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, use_span

from kubetls_sdk.server import tracing
from kubetls_sdk.users import Users
from tests.integration.grpc_users import SIGNER, bearer, policies, serve_users, settings
from tests.integration.grpc_world import ARITIES, World, code_of, invoke
from tests.tokens import ISSUER
from tests.waiting import until

WEB = "spiffe://example.org/ns/shop/sa/web"
ALLOWED = {
    "kubetls.peer.id": WEB,
    "kubetls.decision": "allow",
    "kubetls.policy": "orders",
    "kubetls.rule": "alice-calls",
    "enduser.id": "alice",
    "kubetls.enduser.issuer": ISSUER,
}


class Span(NonRecordingSpan):
    """A span that remembers."""

    def __init__(self, spans):
        super().__init__(INVALID_SPAN_CONTEXT)
        self.attributes = {}
        spans.append(self)

    def is_recording(self):
        return True

    def set_attributes(self, attributes):
        self.attributes |= attributes


class Context:
    """Instrumentations wrap the servicer context."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)


class Spans(grpc.ServerInterceptor):
    """Makes a span for each call, as instrumentations of threaded servers do."""

    def __init__(self):
        self.spans = []

    def intercept_service(self, continuation, handler_call_details):
        handler = continuation(handler_call_details)
        inner = handler.stream_stream or handler.stream_unary

        def unary(requests, context):
            with use_span(Span(self.spans)):
                return inner(requests, Context(context))

        def streaming(requests, context):
            with use_span(Span(self.spans)):
                yield from inner(requests, Context(context))

        if handler.response_streaming:
            return handler._replace(stream_stream=streaming)
        return handler._replace(stream_unary=unary)


class AsyncSpans(grpc.aio.ServerInterceptor):
    """The same for asyncio servers."""

    def __init__(self):
        self.spans = []

    async def intercept_service(self, continuation, handler_call_details):
        handler = await continuation(handler_call_details)
        inner = handler.stream_stream or handler.stream_unary

        async def unary(requests, context):
            with use_span(Span(self.spans)):
                return await inner(requests, Context(context))

        async def streaming(requests, context):
            with use_span(Span(self.spans)):
                async for response in inner(requests, Context(context)):
                    yield response

        if handler.response_streaming:
            return handler._replace(stream_stream=streaming)
        return handler._replace(stream_unary=unary)


@pytest.fixture
def world():
    return World()


@contextlib.contextmanager
def instrumented(monkeypatch, world, kind, **settings_of_server):
    """A server whose outermost interceptor is an instrumentation's, put there as those do it."""
    interceptor = AsyncSpans() if kind == "async" else Spans()
    module = grpc.aio if kind == "async" else grpc
    make = module.server

    def patched(*args, **kwargs):
        kwargs["interceptors"] = [interceptor, *(kwargs.get("interceptors") or ())]
        return make(*args, **kwargs)

    monkeypatch.setattr(module, "server", patched)
    tracing.enable()
    try:
        with (
            Users(settings()) as users,
            serve_users(world, kind, users=users, **settings_of_server) as serving,
        ):
            yield serving, interceptor.spans
    finally:
        tracing.disable()


@pytest.mark.parametrize("kind", ["threaded", "async"])
class TestSpans:
    @pytest.mark.parametrize("has_interceptors", [False, True])
    def test_allowed(self, monkeypatch, world, kind, has_interceptors):
        """The span of a call says who asked, for whom, and by which rule; of any arity."""
        more = {"interceptors": [_Nothing() if kind == "threaded" else _AsyncNothing()]}
        with instrumented(monkeypatch, world, kind, **(more if has_interceptors else {})) as (
            serving,
            spans,
        ):
            channel, metadata = serving.channel(), bearer(SIGNER.token())
            for number, arity in enumerate(ARITIES, start=1):
                assert invoke(channel, arity, b"a", metadata=metadata)
                until(lambda number=number: len(spans) == number)
            assert [span.attributes for span in spans] == [ALLOWED] * 4

    def test_refused(self, monkeypatch, world, kind):
        """That of a refused one says what was known of it, and nothing that was only claimed."""
        with instrumented(monkeypatch, world, kind, policy=policies()) as (serving, spans):
            channel = serving.channel()
            code_of(channel, "unary_unary", b"a")
            code_of(channel, "unary_unary", b"a", metadata=bearer(SIGNER.token(sub="bob")))
            code_of(channel, "unary_unary", b"a", method="/a//b")
            forged = world.partner.issue_for("example.org", "/ns/shop/sa/admin")
            code_of(serving.channel(forged), "unary_unary", b"a")
        peer = {"kubetls.peer.id": WEB, "kubetls.decision": "deny"}
        bob = {"enduser.id": "bob", "kubetls.enduser.issuer": ISSUER}
        expected = [peer, peer | bob, peer, {"kubetls.decision": "deny"}]
        assert [span.attributes for span in spans] == expected


class _Nothing(grpc.ServerInterceptor):
    def intercept_service(self, continuation, handler_call_details):
        return continuation(handler_call_details)


class _AsyncNothing(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation, handler_call_details):
        return await continuation(handler_call_details)
