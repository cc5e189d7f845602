# SPDX-License-Identifier: Apache-2.0
"""Heads of responses wait for their bodies, and for nothing else."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from kubetls_sdk.server import _joined_writes
from kubetls_sdk.server._joined_writes import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Transport(asyncio.Transport):
    """Remembers what happened to it."""

    def __init__(self):
        super().__init__({"peername": ("10.0.0.7", 1)})
        self.calls = []
        self.is_closed = False

    def write(self, data):
        self.calls.append(bytes(data))

    def writelines(self, list_of_data):
        self.calls.append([bytes(data) for data in list_of_data])

    def is_closing(self):
        return self.is_closed

    def close(self):
        self.calls.append("close")
        self.is_closed = True

    def abort(self):
        self.calls.append("abort")
        self.is_closed = True

    def get_write_buffer_size(self):
        return 7

    def set_protocol(self, protocol):
        self.calls.append(("protocol", protocol))


def in_turns(*turns):
    """Run each function in a turn of the event loop of its own; return what the transport saw."""
    transport = Transport()

    async def run():
        writes = JoinedWrites(transport)
        for turn in turns:
            turn(writes)
            transport.calls.append("turn")
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())
    return transport.calls


class TestWrite:
    def test_head_and_body(self):
        """They are one write, at once."""
        assert in_turns(lambda w: (w.write(HEAD), w.write(b"ok"))) == [HEAD + b"ok", "turn"]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_kinds_of_bytes(self, kind):
        """A body may be anything that a transport takes."""
        found = in_turns(lambda w: (w.write(HEAD), w.write(kind(b"ok"))))
        assert found == [HEAD + b"ok", "turn"]

    def test_empty_body(self):
        """An empty body lets the head go, too."""
        assert in_turns(lambda w: (w.write(HEAD), w.write(b""))) == [HEAD, "turn"]

    def test_long_body(self):
        """A long body is not copied; both go down in one call."""
        body = b"x" * 100_000
        assert in_turns(lambda w: (w.write(HEAD), w.write(body))) == [[HEAD, body], "turn"]

    def test_head_alone(self):
        """A head without a body, as of HEAD and of a slow stream, goes at the end of the turn."""
        assert in_turns(lambda w: w.write(HEAD), lambda _: None) == ["turn", HEAD, "turn"]

    def test_only_heads_wait(self):
        """Parts of a stream, and whatever else is no head, go at once."""
        found = in_turns(
            lambda w: w.write(b"tick\n"),
            lambda w: w.write(b"\x81\x02ok"),
            lambda w: w.write(b"\x00\x00\x04\x01\x04"),
            lambda w: w.write(b"HTTP"),
            lambda w: w.write(memoryview(HEAD)),
            lambda w: w.write(b""),
        )
        parts = [b"tick\n", b"\x81\x02ok", b"\x00\x00\x04\x01\x04", b"HTTP", HEAD, b""]
        assert [call for call in found if call != "turn"] == parts
        assert found[::2] == parts

    def test_stream(self):
        """After the first part of a body, each part goes at once."""
        found = in_turns(
            lambda w: (w.write(HEAD), w.write(b"1"), w.write(b"2")), lambda w: w.write(b"3")
        )
        assert found == [HEAD + b"1", b"2", "turn", b"3", "turn"]

    def test_two_heads(self):
        """`100 Continue` and what follows it keep their order."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        found = in_turns(lambda w: (w.write(interim), w.write(HEAD), w.write(b"ok")))
        assert b"".join(call for call in found if call != "turn") == interim + HEAD + b"ok"

    def test_pipelined(self):
        """Responses one after the other in a turn keep their order."""
        found = in_turns(lambda w: [w.write(part) for part in (HEAD, b"1", HEAD, b"2", HEAD)])
        assert found == [HEAD + b"1", HEAD + b"2", "turn", HEAD]

    def test_lines(self):
        """`writelines` keeps the order as well."""
        found = in_turns(lambda w: (w.write(HEAD), w.writelines([b"o", b"k"])))
        assert found == [HEAD, [b"o", b"k"], "turn"]

    def test_buffer_size(self):
        """What waits counts as not sent."""
        sizes = []

        def measure(writes):
            writes.write(HEAD)
            sizes.append(writes.get_write_buffer_size())
            writes.write(b"ok")
            sizes.append(writes.get_write_buffer_size())

        in_turns(measure)
        assert sizes == [7 + len(HEAD), 7]


class TestEnd:
    def test_close(self):
        """What waits is written before the end: a response without body, an application's error."""
        found = in_turns(lambda w: (w.write(HEAD), w.close()), lambda _: None)
        assert found == [HEAD, "close", "turn", "turn"]

    def test_abort(self):
        """An aborted connection gets nothing more."""
        found = in_turns(lambda w: (w.write(HEAD), w.abort()), lambda _: None)
        assert found == ["abort", "turn", "turn"]

    def test_lost(self):
        """A head whose client has gone meanwhile is dropped."""

        def lose(writes):
            writes.write(HEAD)
            writes._transport.is_closed = True

        assert in_turns(lose, lambda _: None) == ["turn", "turn"]

    def test_is_closing(self):
        """Whether it is closing is the transport's to say."""
        seen = []
        in_turns(lambda w: (seen.append(w.is_closing()), w.close(), seen.append(w.is_closing())))
        assert seen == [False, True]


class TestElse:
    def test_everything_else(self):
        """All other methods are the transport's own."""
        names = []
        protocol = asyncio.Protocol()
        found = in_turns(
            lambda w: (names.append(w.get_extra_info("peername")), w.set_protocol(protocol))
        )
        assert names == [("10.0.0.7", 1)]
        assert found[0] == ("protocol", protocol)

    def test_unknown(self):
        """What transports do not have, it does not have."""

        async def ask():
            return hasattr(JoinedWrites(Transport()), "no_such_thing")

        assert not asyncio.run(ask())


class TestTurn:
    def test_one_failure(self):
        """A transport that fails does not keep the heads of others."""
        transports = [Transport() for _ in range(3)]

        def fail(_):
            raise RuntimeError("broken")

        transports[1].write = fail
        errors = []

        async def run():
            asyncio.get_running_loop().set_exception_handler(lambda _, e: errors.append(e))
            for transport in transports:
                JoinedWrites(transport).write(HEAD)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(run())
        assert [transport.calls for transport in transports] == [[HEAD], [], [HEAD]]
        assert len(errors) == 1

    def test_written_while_flushing(self):
        """A head that is written by what a flush sets off goes in the next turn."""
        first, second = Transport(), Transport()

        async def run():
            later = JoinedWrites(second)
            first.write = lambda _: later.write(HEAD)
            JoinedWrites(first).write(HEAD)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(run())
        assert second.calls == [HEAD]

    def test_event_loops_are_not_kept(self):
        """Nothing of a closed event loop stays."""
        before = len(_joined_writes._turns)
        loop = asyncio.new_event_loop()

        async def write():
            JoinedWrites(Transport()).write(HEAD)
            await asyncio.sleep(0)

        loop.run_until_complete(write())
        loop.close()
        known = weakref.ref(loop)
        del loop
        gc.collect()
        assert known() is None
        assert len(_joined_writes._turns) <= before
