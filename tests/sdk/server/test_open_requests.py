# SPDX-License-Identifier: Apache-2.0
"""What is under way is decided again: the sweep itself, without a server."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from kubetls_sdk import TrustDomain
from kubetls_sdk.authz import PolicySet
from kubetls_sdk.server import open_requests, refusal_log
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.users import Issuer, Users, UserSettings
from tests.sdk.server.scopes import World, http_scope, websocket_scope
from tests.sdk.server.test_users import SIGNER, Keys, with_token
from tests.tokens import AUDIENCE, ISSUER

RULES = """
version: 1
policies:
  - name: orders
    allow:
      - name: reads
        from: {{namespace: shop}}
        to: {{paths: "/orders/{{id}}"}}
        {more}
      - name: opens
        from: {{namespace: shop}}
        to: {{paths: "/orders/{{id}}", websocket: true}}
"""


def policies(more=""):
    return PolicySet.parse(
        {"p.yaml": RULES.format(more=more)}, trust_domain=TrustDomain("example.org")
    )


class Live:
    """Tells of changes, in whichever thread it is called."""

    def __init__(self, current=None):
        self.current = current or policies()
        self.callbacks = []

    def put(self, current):
        self.current = current
        for callback in tuple(self.callbacks):
            callback(current)

    def subscribe(self, callback):
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


@pytest.fixture
def world():
    return World()


@pytest.fixture(autouse=True)
def fresh_quotas(monkeypatch):
    """Many lines are written here, and none is to be missed elsewhere."""
    monkeypatch.setattr(refusal_log, "_quotas", {})


class Waiting:
    """An application whose requests last until they are ended."""

    def __init__(self):
        self.started = 0
        self.cancelled = 0

    async def __call__(self, scope, receive, send):
        self.started += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def _ignore(_=None):
    return {"type": "websocket.connect"}


async def begin(middleware, app, *scopes):
    """Start requests; the application has them when this returns."""
    tasks = [asyncio.create_task(middleware(scope, _ignore, _ignore)) for scope in scopes]
    await settle()
    assert app.started == len(scopes)
    return tasks


async def ends(tasks):
    done, _ = await asyncio.wait(tasks, timeout=5)
    return len(done) == len(tasks)


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


class TestSweep:
    def test_server_that_is_not_ours(self, world):
        """Where a server has no way to end a response, its task is cancelled."""
        live, app = Live(), Waiting()
        middleware = KubeTLSMiddleware(app, policy=live)

        async def main():
            tasks = await begin(middleware, app, http_scope(world.connection()))
            live.put(PolicySet.deny_all())
            return await ends(tasks)

        assert asyncio.run(main())
        assert app.cancelled == 1
        assert len(middleware._open) == 0

    def test_connection_is_ended(self, world):
        """Where it has, the server ends the response, once."""
        live, app, ended = Live(), Waiting(), []
        middleware = KubeTLSMiddleware(app, policy=live)
        connection = world.connection()
        connection.end = ended.append

        async def main():
            (task,) = await begin(middleware, app, http_scope(connection))
            for _ in range(2):
                live.put(PolicySet.deny_all())
                await settle()
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())
        assert ended == [False]

    def test_still_allowed(self, world):
        """Nothing happens to what a new policy allows as well."""
        live, app = Live(), Waiting()
        middleware = KubeTLSMiddleware(app, policy=live)

        async def main():
            (task,) = await begin(middleware, app, http_scope(world.connection()))
            live.put(policies())
            await settle()
            is_done = task.done()
            task.cancel()
            await asyncio.wait([task])
            return is_done

        assert asyncio.run(main()) is False

    def test_websocket(self, world):
        """A WebSocket says goodbye, and its connection ends if the client does not."""
        live, app, ended = Live(), Waiting(), []
        middleware, sent = KubeTLSMiddleware(app, policy=live), []
        connection = world.connection()
        connection.end = ended.append

        async def send(message):
            sent.append(message)

        async def main():
            task = asyncio.create_task(middleware(websocket_scope(connection), _ignore, send))
            await settle()
            assert app.started == 1
            live.put(PolicySet.deny_all())
            await settle()
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())
        assert sent == [{"type": "websocket.close", "code": 1008}]
        assert ended == [True]

    def test_conditions(self, world):
        """Details of the request count, as they did at its beginning."""
        live, app = Live(), Waiting()
        middleware = KubeTLSMiddleware(app, policy=live)

        async def main():
            tasks = await begin(middleware, app, http_scope(world.connection()))
            live.put(policies(more="when: request.host == 'other'"))
            return await ends(tasks)

        assert asyncio.run(main())

    def test_anonymous_path(self, world):
        """What everybody may have goes on."""
        live, app = Live(), Waiting()
        middleware = KubeTLSMiddleware(app, policy=live, optional=True, anonymous_paths=["/free"])

        async def main():
            (task,) = await begin(middleware, app, http_scope(world.connection(None), path="/free"))
            live.put(PolicySet.deny_all())
            await settle()
            is_done = task.done()
            task.cancel()
            await asyncio.wait([task])
            return is_done

        assert asyncio.run(main()) is False

    def test_user_becomes_required(self, world):
        """A response without a user ends when its rule wants one."""
        live, app = Live(policies(more="user: optional")), Waiting()
        issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=Keys())

        async def main(users):
            middleware = KubeTLSMiddleware(app, policy=live, users=users)
            scope = with_token(http_scope(world.connection()), SIGNER.token())
            with_user, without = await begin(middleware, app, scope, http_scope(world.connection()))
            live.put(policies())
            is_ended = await ends([without])
            is_user_ended = with_user.done()
            with_user.cancel()
            await asyncio.wait([with_user])
            return is_ended, is_user_ended

        with Users(UserSettings(issuers=(issuer,))) as users:
            assert asyncio.run(main(users)) == (True, False)

    def test_bug_of_one(self, world, caplog):
        """A policy that fails about a request allows neither it nor the others."""

        class Failing:
            def decide(self, caller, method, path, details):
                if path == "/orders/1":
                    raise RuntimeError("bug")
                return PolicySet.deny_all().decide(caller, method, path, details)

        live, app = Live(), Waiting()
        middleware = KubeTLSMiddleware(app, policy=live)
        scopes = [http_scope(world.connection(), path=f"/orders/{n}") for n in range(3)]

        async def main():
            tasks = await begin(middleware, app, *scopes)
            live.put(Failing())
            return await ends(tasks)

        assert asyncio.run(main())
        assert "deciding again about a request under way failed" in caplog.text

    def test_slices(self, world, monkeypatch):
        """Many are looked at in slices, between which others run."""
        monkeypatch.setattr(open_requests, "SLICE_SECONDS", 0.0)
        live, app = Live(), Waiting()
        middleware = KubeTLSMiddleware(app, policy=live)
        scopes = [http_scope(world.connection(), path=f"/orders/{n}") for n in range(20)]

        async def main():
            tasks = await begin(middleware, app, *scopes)
            live.put(PolicySet.deny_all())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            part = app.cancelled + sum(task.cancelling() for task in tasks if not task.done())
            return part, await ends(tasks)

        part, is_ended = asyncio.run(main())
        assert 0 < part < 20
        assert is_ended


class TestLife:
    def test_nothing_is_kept(self, world):
        """A request that is over is forgotten, also when its application fails."""

        async def app(scope, receive, send):
            assert len(middleware._open) == 1
            raise ValueError("bug")

        middleware = KubeTLSMiddleware(app, policy=Live())
        with pytest.raises(ValueError, match="bug"):
            asyncio.run(middleware(http_scope(world.connection()), _ignore, _ignore))
        assert len(middleware._open) == 0

    def test_policy_does_not_keep_the_middleware(self):
        """A policy that outlives its middleware lets go of it."""
        live = Live()
        middleware = KubeTLSMiddleware(Waiting(), policy=live)
        assert len(live.callbacks) == 1
        gone = weakref.ref(middleware)
        del middleware
        gc.collect()
        assert gone() is None
        assert live.callbacks == []

    def test_change_after_the_loop(self, world):
        """A change when the event loop is gone disturbs nobody."""
        live = Live()

        async def app(scope, receive, send):
            pass

        asyncio.run(
            KubeTLSMiddleware(app, policy=live)(http_scope(world.connection()), _ignore, _ignore)
        )
        live.put(PolicySet.deny_all())

    def test_policy_that_never_changes(self):
        """Without `subscribe` there is nothing to hear of."""
        KubeTLSMiddleware(Waiting(), policy=AnyVerified())
