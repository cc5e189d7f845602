# SPDX-License-Identifier: Apache-2.0
"""Stock uvicorn with mutual TLS 1.3 and without session tickets: `ticketless PORT CERT KEY CA`."""

from __future__ import annotations

import ssl
import sys

import uvicorn


def context(certificate: str, key: str, authorities: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    made.load_verify_locations(authorities)
    made.verify_mode = ssl.CERT_REQUIRED
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.num_tickets = 0
    return made


if __name__ == "__main__":
    port, *paths = sys.argv[1:]
    uvicorn.run(
        "benchmarks.app:app",
        port=int(port),
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
        ssl_context_factory=lambda config, default: context(*paths),
    )
