# SPDX-License-Identifier: Apache-2.0
"""Ways of a bundle endpoint to answer that waste memory, time or patience: acts of `BundleServer`.

Each one gets the handler of one request, and ends when the client hangs up or the test does.
"""

from __future__ import annotations

import contextlib
import gzip
import json

MEGABYTE = 1024 * 1024
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_BOMB = gzip.compress(b" " * (64 * MEGABYTE))


def send(answer, *parts):
    """Send raw bytes, and close."""
    with contextlib.suppress(OSError):
        for part in parts:
            answer.wfile.write(part)
    answer.close_connection = True
    return False


def repeat(answer, begin, part):
    """Send something again and again, as fast as it is taken."""
    with contextlib.suppress(OSError):
        answer.wfile.write(begin)
        while not answer.server.released.is_set():
            answer.wfile.write(part)
    answer.close_connection = True
    return False


def chunks_without_end(answer):
    """Chunks of blanks, and never the last one."""
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    return repeat(answer, _HEAD + b"transfer-encoding: chunked\r\n\r\n", chunk)


def chunk_of_everything(answer):
    """One chunk whose size is larger than any memory."""
    return repeat(
        answer, _HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffff\r\n", b" " * 65536
    )


def broken_chunk(answer):
    """A size that is no number."""
    head = _HEAD + b"transfer-encoding: chunked\r\n\r\n"
    return send(answer, head, b"zz\r\n" + answer.server.body + b"\r\n0\r\n\r\n")


def gzip_bomb(answer):
    """64 MB of blanks in 64 KB, and the field that says so."""
    length = b"content-length: %d\r\n" % len(_BOMB)
    return send(answer, _HEAD, b"content-encoding: gzip\r\n", length, b"\r\n", _BOMB)


def hidden_gzip_bomb(answer):
    """The same without the field."""
    return send(answer, _HEAD, b"content-length: %d\r\n\r\n" % len(_BOMB), _BOMB)


def gzip_transfer(answer):
    """The same as a transfer coding."""
    head = _HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n"
    return send(answer, head, b"%x\r\n" % len(_BOMB), _BOMB, b"\r\n0\r\n\r\n")


def headers_without_end(answer):
    """Header fields, and never a body."""
    return repeat(answer, _HEAD, b"x-flood: " + b"x" * 1000 + b"\r\n")


def one_endless_header(answer):
    """A single field without an end."""
    return repeat(answer, _HEAD + b"x-flood: ", b"x" * 65536)


def informational_without_end(answer):
    """Always another 103, and never an answer."""
    return repeat(answer, b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")


def endless_length(answer):
    """A length of many terabytes, and blanks."""
    return repeat(answer, _HEAD + b"content-length: 99999999999999\r\n\r\n", b" " * 65536)


def two_lengths(answer):
    """Two lengths: what is behind the shorter one would be another answer."""
    body = answer.server.body
    head = _HEAD + b"content-length: 2\r\ncontent-length: %d\r\n\r\n" % len(body)
    return send(answer, head, body)


def negative_length(answer):
    """A length below nothing."""
    return send(answer, _HEAD, b"content-length: -1\r\n\r\n", answer.server.body)


def no_http(answer):
    """Another protocol."""
    return send(answer, b"SSH-2.0-OpenSSH_9.9\r\n", answer.server.body)


def old_http(answer):
    """HTTP/0.9: a body and nothing before it."""
    return send(answer, answer.server.body)


def redirect_with_a_flood(answer):
    """A redirect whose body never ends."""
    head = b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-type: text/html\r\n\r\n"
    return repeat(answer, head, b" " * 65536)


def redirect_to_a_novel(answer):
    """A redirect to a URL of a megabyte."""
    location = b"/" + b"a" * MEGABYTE
    return send(answer, b"HTTP/1.1 302 Found\r\nlocation: ", location, b"\r\n\r\n")


def _document(answer, text):
    head = _HEAD + b"content-length: %d\r\n\r\n" % len(text)
    return send(answer, head, text)


def deep_nesting(answer):
    """The good document with something very deep in it."""
    text = answer.server.body.rstrip()[:-1]
    return _document(answer, text + b', "x": ' + b'{"x":' * 30_000 + b"1" + b"}" * 30_000 + b"}")


def nested_duplicate(answer):
    """A member twice within an entry: one parser sees an authority, the other none."""
    return _document(answer, answer.server.body.replace(b'"use"', b'"use": "none", "use"', 1))


def escaped_duplicate(answer):
    """The same, written differently."""
    text = answer.server.body.replace(b'"keys"', b'"keys": [], "k\\u0065ys"', 1)
    return _document(answer, text)


def half_good(answer):
    """A good entry, and one that is broken."""
    document = json.loads(answer.server.body)
    document["keys"].append({**document["keys"][0], "x5c": ["AAAA"]})
    return _document(answer, json.dumps(document).encode())


def endless_number(answer):
    """A number that takes a minute to read."""
    text = answer.server.body.rstrip()[:-1]
    return _document(answer, text + b', "spiffe_refresh_hint": ' + b"9" * 500_000 + b"}")


def infinite_number(answer):
    """A number that is none."""
    text = answer.server.body.rstrip()[:-1]
    return _document(answer, text + b', "spiffe_refresh_hint": Infinity}')


ACTS = (
    chunks_without_end, chunk_of_everything, broken_chunk, gzip_bomb, hidden_gzip_bomb,
    gzip_transfer, headers_without_end, one_endless_header, informational_without_end,
    endless_length, two_lengths, negative_length, no_http, old_http, redirect_with_a_flood,
    redirect_to_a_novel, deep_nesting, nested_duplicate, escaped_duplicate, half_good,
    endless_number, infinite_number,
)  # fmt: skip
