# SPDX-License-Identifier: Apache-2.0
"""A server that costs as little as possible: mutual TLS on uvloop, one fixed answer.

python -m benchmarks.canned PORT AUTHORITIES CERTIFICATE KEY
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import uvloop

ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver: canned\r\ncontent-type: application/json\r\n"
    b'content-length: 17\r\n\r\n{"hello":"world"}'
)
END = b"\r\n\r\n"


class Canned(asyncio.Protocol):
    """Answers each request head."""

    def connection_made(self, transport):
        """Begin."""
        self._transport = transport
        self._rest = b""

    def data_received(self, received):
        """Answer what is complete."""
        *heads, self._rest = (self._rest + received).split(END)
        self._transport.write(ANSWER * len(heads))


async def serve(port, context):
    server = await asyncio.get_running_loop().create_server(
        Canned, "127.0.0.1", int(port), ssl=context
    )
    await server.serve_forever()


def main(port, authorities, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    uvloop.run(serve(port, context))


if __name__ == "__main__":
    main(*sys.argv[1:])
