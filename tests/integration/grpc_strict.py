# SPDX-License-Identifier: Apache-2.0
"""A client in a process whose environment lets gRPC read SPIFFE bundle maps.

`python -m tests.integration.grpc_strict`; prints which servers it took, as JSON.
"""

from __future__ import annotations

import json
import os
import sys

from kubetls_sdk import StaticSource, TrustBundle, TrustBundleSet
from kubetls_sdk.client.grpc import ServiceName
from kubetls_sdk.testing import FAULTS
from tests.integration.grpc_calling import opened
from tests.integration.grpc_world import Plain, World, code_of, invoke, serve, serve_stock

VARIABLE = "GRPC_EXPERIMENTAL_XDS_MTLS_SPIFFE"
PATH = "/ns/shop/sa/orders"
CANNOT_SERVE = ("no_digital_signature", "wrong_key")  # not with gRPC


def answer(target, source, kind="threaded", **options):
    """`ok`, or the status of a call."""
    with opened(kind, target, source, **options) as channel:
        try:
            return invoke(channel, "unary_unary", b"a")[0].decode()
        except Exception:  # noqa: BLE001 - code_of tells which
            return code_of(channel, "unary_unary", b"a")[0].name


def good(world, source):
    """What has to work as without the variable."""
    with serve(world, "async") as serving:
        for kind in ("threaded", "async"):
            yield f"ours, {kind}", answer(serving.target, source, kind)
    svids = {
        "intermediates": world.ca.issue(PATH, intermediates=2),
        "rsa": world.ca.issue(PATH, key_type="rsa2048"),
    }
    for name, svid in svids.items():
        with serve_stock(svid, Plain()) as target:
            yield name, answer(target, source)
    server = world.partner.issue("/ns/x/sa/y")
    with serve_stock(server, Plain()) as target:
        yield "partner", answer(target, source, server_id="spiffe://partner.example/ns/x/sa/y")
    with serve_stock(world.ca.issue("/x", dns_names=("orders",)), Plain()) as target:
        yield "name", answer(target, source, server_id=ServiceName("orders"))


def bad(world, source):
    """What has to be refused."""
    for fault in FAULTS:
        if fault not in CANNOT_SERVE:
            with serve_stock(world.ca.issue_faulty(fault, PATH), Plain()) as target:
                yield fault, answer(target, source)
    with serve_stock(world.partner.issue_for("example.org", PATH), Plain()) as target:
        yield "forged by a partner", answer(target, source)
    with serve_stock(world.ca.issue(PATH), Plain()) as target:
        nobody = StaticSource(
            source.snapshot.svid, TrustBundleSet([TrustBundle(world.ca.trust_domain, ())])
        )
        yield "nobody trusted", answer(target, nobody)


def main():
    world = World()
    bundles = TrustBundleSet([world.ca.bundle, world.partner.bundle])
    source = StaticSource(world.ca.issue("/ns/shop/sa/web"), bundles)
    found = {"good": dict(good(world, source)), "bad": dict(bad(world, source))}
    sys.stdout.write(json.dumps(found | {"environment": os.environ.get(VARIABLE)}))


if __name__ == "__main__":
    main()
