# SPDX-License-Identifier: Apache-2.0
"""CAs of a company, to import from."""

from __future__ import annotations

from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.testing import Authority, IssuedChain
from kubetls_sdk.testing.draft import Draft, subject
from kubetls_sdk.testing.keys import new_key
from tests.webhook.trust.world import START


def authority(name, *, above=None, path_length=1, years=5, constraints=None):
    """A corporate CA, or one below it."""
    span = (START - timedelta(days=1), START + timedelta(days=365 * years))
    draft = Draft(subject(name), new_key("p256"), *span).with_authority_profile(
        "spiffe://corp.example", path_length
    )
    if constraints is not None:
        draft = draft.having(constraints, critical=True)
    if above is None:
        return Authority.self_signed(draft)
    draft = draft.having(above.key_identifier(), critical=False)
    chain = above.sign(draft)
    return Authority(chain.leaf, draft.key, above.chain)


def pem(*certificates):
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def key_pem(of):
    return IssuedChain((of.certificate,), of.private_key).private_key_pem()
