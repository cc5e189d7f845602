# SPDX-License-Identifier: Apache-2.0
"""`POST /mutate` over ASGI: what is answered, and with which status."""

import asyncio
import json

import pytest
from prometheus_client import REGISTRY

from tests.webhook.injection import world
from tests.webhook.injection.world import pod, review_body
from webhook.injection import app as app_module
from webhook.injection.app import InjectorApp
from webhook.injection.review import MAX_BYTES

JSON = (b"content-type", b"application/json")


DENIED = world.annotated(zone="x")


def mounted():
    return {"name": "other", "mountPath": "/run/secrets/workload-spiffe-credentials"}


class Exchange:
    """One request to the application, and what it answered."""

    def __init__(self, app=None, *parts, path="/mutate", method="POST", headers=(JSON,)):
        self.messages = []
        self._parts = list(parts)
        scope = {"type": "http", "path": path, "method": method, "headers": list(headers)}
        asyncio.run((app or InjectorApp(world.platform))(scope, self._receive, self._send))
        start, body = self.messages
        self.status = start["status"]
        self.headers = dict(start["headers"])
        self.body = body["body"]
        assert int(self.headers[b"content-length"]) == len(self.body)

    async def _receive(self):
        if not self._parts:
            return {"type": "http.disconnect"}
        part = self._parts.pop(0)
        if part is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": part, "more_body": bool(self._parts)}

    async def _send(self, message):
        self.messages.append(message)


def counted(outcome):
    name = "kubetls_admission_reviews_total"
    return REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0


class TestAnswers:
    @pytest.mark.parametrize(
        ("sent", "outcome"),
        [
            (pod(), "injected"),
            (pod(annotations=world.annotated(zone="x")), "denied"),
            (pod(labels={f"{world.PREFIX}/inject": "false"}), "skipped"),
            (world.injected(pod()), "complete"),
        ],
    )
    def test_each_outcome(self, sent, outcome):
        """Each outcome is an answer with 200, and is counted."""
        before = counted(outcome)
        exchange = Exchange(None, review_body(sent))
        assert (exchange.status, exchange.headers[b"content-type"]) == (200, b"application/json")
        response = json.loads(exchange.body)["response"]
        assert response["allowed"] is (outcome != "denied")
        assert bool(world.patch_of(response)) is (outcome == "injected")
        assert counted(outcome) == before + 1

    def test_in_parts(self):
        """A body may come in parts."""
        body = review_body(pod())
        assert Exchange(None, body[:10], b"", body[10:]).status == 200

    def test_dry_run(self):
        """A dry run is answered as any other: nothing is done but to answer."""
        answers = [Exchange(None, review_body(pod(), dryRun=dry)).body for dry in (True, False)]
        assert answers[0] == answers[1]

    def test_a_charset(self):
        """A parameter of the content type does not matter."""
        headers = [(b"content-type", b"Application/JSON; charset=utf-8")]
        assert Exchange(None, review_body(pod()), headers=headers).status == 200

    def test_draining(self):
        """Before the end, each answer sends the client to another replica."""
        app = InjectorApp(world.platform)
        assert b"connection" not in Exchange(app, review_body(pod())).headers
        app.is_draining = True
        assert Exchange(app, review_body(pod())).headers[b"connection"] == b"close"


class TestDeniedPods:
    def test_a_long_name(self, caplog):
        """What a pod's author wrote is cut, in the answer and in the log."""
        sent = pod(containers=[{"name": "x" * 100_000, "volumeMounts": [mounted()]}])
        with caplog.at_level("INFO"):
            answered = Exchange(InjectorApp(world.platform), review_body(sent))
        message = json.loads(answered.body)["response"]["status"]["message"]
        assert message.startswith("container 'xxx")
        assert len(message) <= 2048
        assert len(caplog.messages[-1]) <= 600

    def test_many(self, caplog):
        """Whoever reaches the port cannot fill a disk with lines; all are counted."""
        app, body = InjectorApp(world.platform), review_body(pod(annotations=DENIED))
        before = counted("denied")
        with caplog.at_level("INFO"):
            for _ in range(100):
                Exchange(app, body)
        assert counted("denied") == before + 100
        assert len(caplog.messages) < 70


class TestRefusals:
    @pytest.mark.parametrize(
        ("about", "status"),
        [
            ({"path": "/"}, 404),
            ({"path": "/mutate/"}, 404),
            ({"path": "/healthz", "method": "GET"}, 404),
            ({"method": "GET"}, 405),
            ({"headers": []}, 415),
            ({"headers": [(b"content-type", b"text/json")]}, 415),
            ({"headers": [JSON, (b"content-encoding", b"gzip")]}, 415),
            ({"headers": [JSON, (b"content-length", b"%d" % (MAX_BYTES + 1))]}, 413),
            ({"headers": [JSON, (b"content-length", b"9" * 5000)]}, 413),
        ],
    )
    def test_by_the_head(self, about, status):
        """What the head shows is refused before the body is read; the connection ends."""
        exchange = Exchange(None, None, **about)
        assert exchange.status == status
        assert exchange.headers[b"connection"] == b"close"

    @pytest.mark.parametrize(
        ("parts", "status"),
        [
            pytest.param((b"{}",), 400, id="no review"),
            pytest.param((b"x",), 400, id="no JSON"),
            pytest.param((b"[" * 100_000,), 400, id="deep"),
            pytest.param((b" " * MAX_BYTES, b" ", None), 413, id="long"),
            pytest.param((), 400, id="gone"),
        ],
    )
    def test_by_the_body(self, parts, status):
        """A body that is no review is refused with one clause, and counted."""
        before = counted("invalid")
        exchange = Exchange(None, *parts)
        assert exchange.status == status
        assert exchange.body.startswith(b"expected ")
        assert b"\n" not in exchange.body
        assert counted("invalid") == before + 1

    def test_many_large_bodies(self, monkeypatch):
        """Too many at once are refused; what they took is free again afterwards."""
        monkeypatch.setattr(app_module, "_MAX_BODIES", MAX_BYTES)
        app = InjectorApp(world.platform)
        with app._bodies.arriving() as take:
            take(bytes(MAX_BYTES))
            refused = Exchange(app, b" " * 100_000)
            small = Exchange(app, review_body(pod()))
        assert (refused.status, refused.headers[b"connection"]) == (503, b"close")
        assert small.status == 200
        assert Exchange(app, b" " * 100_000).status == 400

    def test_large_bodies_wait_for_small_ones(self):
        """Whoever sends many large ones at once delays a usual review by few of them."""
        app, order = InjectorApp(world.platform), []

        def exchange(body, name):
            async def receive():
                return {"type": "http.request", "body": body, "more_body": False}

            async def send(message):
                if message["type"] == "http.response.body":
                    order.append(name)

            scope = {"type": "http", "path": "/mutate", "method": "POST", "headers": [JSON]}
            return app(scope, receive, send)

        async def all_at_once():
            large = [exchange(b" " * 100_000, "large") for _ in range(5)]
            await asyncio.gather(*large, exchange(review_body(pod()), "small"))

        asyncio.run(all_at_once())
        assert len(order) == 6
        assert order.index("small") <= 1

    def test_a_slow_body(self, monkeypatch):
        """A body that does not come in time is not waited for."""
        monkeypatch.setattr(app_module, "_BODY_SECONDS", 0.05)
        assert Exchange(None, b"{", None).status == 408

    def test_our_own_fault(self, caplog):
        """An error of ours is 500 without a word about it; the log has it."""
        before = counted("failed")

        def broken():
            raise RuntimeError("hunter2")

        exchange = Exchange(InjectorApp(broken), review_body(pod()))
        assert (exchange.status, exchange.body) == (500, b"internal error")
        assert counted("failed") == before + 1
        assert "an admission review failed" in caplog.text
