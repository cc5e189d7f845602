# SPDX-License-Identifier: Apache-2.0
"""Pools in each state that a rotation passes."""

from __future__ import annotations

from datetime import timedelta

from kubetls_sdk.spiffe_id import TrustDomain
from tests.webhook.trust.world import LIFETIME, PROPAGATION, START
from webhook.trust import pool_transition as to
from webhook.trust.ca_pool import CaPool
from webhook.trust.pool_entry import Origin
from webhook.trust.root_certificate import new_root

DOMAIN = TrustDomain.parse("example.org")
SECOND = timedelta(seconds=1)
LIMITS = {"propagation": PROPAGATION, "longest_lifetime": LIFETIME}


def root(entry_id="00000002"):
    return new_root(DOMAIN, entry_id, now=START)


def fresh():
    return CaPool.create(
        DOMAIN, root("00000001"), origin=Origin.CREATED, entry_id="00000001", now=START
    )


def with_next(pool=None):
    return to.add_next(
        pool or fresh(), root(), origin=Origin.CREATED, entry_id="00000002", now=START
    )


def anchors(pool):
    return {entry.anchor_der for entry in pool.entries if entry.is_published}


def published(pool=None):
    pool = pool or with_next()
    return to.observe(pool, anchors(pool), now=START)


def rotated():
    return to.activate(published(), now=START + PROPAGATION, **LIMITS)


def states(pool):
    return [entry.state.value for entry in pool.entries]
