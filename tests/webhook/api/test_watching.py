# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tests.webhook.api.rude_server import break_off, event, hang, line, refusal, stream
from webhook.api import ApiError, ForbiddenError, GoneError, UnreachableError
from webhook.api.requests import watch_request
from webhook.api.resources import PODS, SECRETS
from webhook.api.watching import BOOKMARK, watch

pytestmark = pytest.mark.anyio

OPENED = (BOOKMARK, "4")


async def follow(api, resource=PODS):
    """All events until the watch ends, and the error that ended it."""
    seen = []
    return seen, await take(api.watch(resource, resource_version="4"), seen)


async def take(events, seen):
    """Append type and version of each event; return the error that ended them."""
    try:
        async for each in events:
            seen.append((each.type, each.resource_version))
    except ApiError as error:
        return error


class TestEvents:
    async def test_they_come_in_order_after_a_bookmark(self, api, server):
        """The bookmark says that the watch is open, and from where."""
        server.answer(stream(event("ADDED"), event("MODIFIED", version="6")))
        assert await follow(api) == ([OPENED, ("ADDED", "5"), ("MODIFIED", "6")], None)

    async def test_the_request_asks_for_bookmarks_and_an_end(self, api, server):
        """Both bound how long a lost connection can go unnoticed."""
        server.answer(stream())
        await follow(api)
        query = server.requests[0].query
        assert (
            query["watch"],
            query["resourceVersion"],
            query["allowWatchBookmarks"],
        ) == ("1", "4", "true")
        assert 60 <= int(query["timeoutSeconds"]) <= 90

    async def test_an_event_in_pieces_is_one_event(self, api, server):
        """Packets end anywhere, also within a character of two bytes."""
        text = line(event("ADDED", note="é" * 300)).replace(b"\\u00e9", "é".encode())
        server.answer(stream(*(text[at : at + 1] for at in range(len(text)))))
        assert await follow(api) == ([OPENED, ("ADDED", "5")], None)

    async def test_many_events_in_one_piece_are_many(self, api, server):
        """Empty lines between them say nothing."""
        text = b"\n".join(line(event("ADDED", version=str(n))) for n in range(5, 300))
        server.answer(stream(b"\n" + text + b"\r\n"))
        seen, error = await follow(api)
        assert (len(seen), error) == (296, None)

    async def test_a_large_object_comes_through(self, api, server):
        """Three megabytes, which is what the API server accepts."""
        server.answer(stream(event("ADDED", note="x" * 3_000_000)))
        assert await follow(api) == ([OPENED, ("ADDED", "5")], None)


class TestErrors:
    async def test_an_error_event_of_410_is_gone(self, api, server):
        """The history was compacted while the watch was open."""
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        server.answer(stream(event("ADDED"), {"type": "ERROR", "object": status}))
        seen, error = await follow(api)
        assert ([OPENED, ("ADDED", "5")], GoneError) == (seen, type(error))

    async def test_a_refusal_of_410_is_gone(self, api, server):
        """Or it was already when the watch was opened."""
        server.answer(refusal(410, "Expired"))
        seen, error = await follow(api)
        assert ([], GoneError) == (seen, type(error))

    async def test_a_refusal_has_its_type(self, api, server):
        """A missing right is told as such."""
        server.answer(refusal(403, "Forbidden"))
        assert isinstance((await follow(api))[1], ForbiddenError)

    async def test_an_error_event_without_a_code_may_pass(self, api, server):
        """It ends the watch and nothing else."""
        server.answer(stream({"type": "ERROR", "object": {}}))
        assert (await follow(api))[1].is_retryable

    async def test_words_about_secrets_are_left_out(self, api, server):
        """Of an ERROR event too."""
        status = {"kind": "Status", "code": 500, "message": "c2VjcmV0"}
        server.answer(stream({"type": "ERROR", "object": status}))
        assert "c2VjcmV0" not in str((await follow(api, SECRETS))[1])

    @pytest.mark.parametrize(
        "chunks",
        [
            pytest.param([b'{"type":"ADDED","object":{"metad'], id="half an event"),
            pytest.param([b"not JSON\n"], id="no JSON"),
            pytest.param([b"[]\n"], id="no object"),
            pytest.param([b"\xff\xfe\n"], id="no text"),
            pytest.param([b'{"type":"ADDED"}\n'], id="no object in it"),
            pytest.param([b'{"type":"ADDED","object":{}}\n'], id="no metadata"),
            pytest.param([b'{"type":"ADDED","object":{"metadata":{}}}\n'], id="no version"),
            pytest.param([b'{"type":"ADDED","object":[]}\n'], id="a list"),
            pytest.param([b'{"type":"OTHER","object":{"metadata":{"resourceVersion":"1"}}}\n']),
            pytest.param([b'{"type":[],"object":{"metadata":{"resourceVersion":"1"}}}\n']),
        ],
    )
    async def test_what_is_no_event_ends_the_watch(self, api, server, chunks):
        """It can go on from the last version; nothing is guessed."""
        server.answer(stream(*chunks))
        seen, error = await follow(api)
        assert ([OPENED], UnreachableError) == (seen, type(error))

    async def test_a_line_without_an_end_is_given_up(self, api, server, monkeypatch):
        """Memory is bounded whatever is sent."""
        monkeypatch.setattr("webhook.api.watching._MAX_LINE", 100_000)
        server.answer(stream(*[b"x" * 50_000] * 5, then="hang"))
        assert isinstance((await follow(api))[1], UnreachableError)

    @pytest.mark.parametrize("answer", [break_off, stream(event("ADDED"), then="break")])
    async def test_a_broken_connection_is_an_error(self, api, server, answer):
        """Whether before the first byte or in the middle."""
        server.answer(answer)
        assert isinstance((await follow(api))[1], UnreachableError)


class TestSilence:
    async def test_a_connection_on_which_nothing_comes_is_given_up(self, api, server):
        """A half-closed connection looks just like one on which nothing happens."""
        server.answer(stream(event("ADDED"), then="hang"))
        request = watch_request(PODS, None, {})
        seen = []
        error = await take(watch(api._transport, request, "4", idle_seconds=0.2), seen)
        assert ([OPENED, ("ADDED", "5")], UnreachableError) == (seen, type(error))

    async def test_an_answer_that_does_not_begin_is_given_up(self, api, server, monkeypatch):
        """Opening has a shorter limit than silence."""
        monkeypatch.setattr("webhook.api.watching._OPEN_SECONDS", 0.2)
        server.answer(hang)
        assert isinstance((await follow(api))[1], UnreachableError)


class TestLeaving:
    async def test_leaving_early_closes_the_connection(self, api, server):
        """The API server need not keep a watch that nobody reads."""
        ended = asyncio.Event()

        async def answer(request):
            try:
                return await stream(event("ADDED"), then="hang")(request)
            finally:
                ended.set()

        server.answer(answer)
        async with aclosing(api.watch(PODS, resource_version="4")) as events:
            async for each in events:
                if each.type == "ADDED":
                    break
        async with asyncio.timeout(5):
            await ended.wait()

    async def test_cancelling_leaves_nothing_behind(self, api, server):
        """No task, no connection."""
        server.answer(stream(then="hang"))
        following = asyncio.ensure_future(follow(api))
        await server.came.wait()
        following.cancel()
        await asyncio.wait([following])
        assert following.cancelled()
        assert not api._transport._session.connector._acquired
