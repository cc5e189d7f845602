# SPDX-License-Identifier: Apache-2.0
"""The faults that lie in who signed a leaf, or in what is presented beside it.

Rules:
    1. The leaf is right in itself, apart from the signature.
    2. Every certificate has a subject of its own, so that none looks self-issued.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.testing.authority import Authority, IssuedChain
from kubetls_sdk.testing.draft import subject
from kubetls_sdk.testing.keys import new_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.testing.draft import Draft

__all__ = ("CHAIN_FAULTS", "ChainFault")


class ChainFault(NamedTuple):
    """One fault.

    Attributes:
        meaning: What is wrong, in one clause.
        put_in: From the right draft and its issuer to the chain with the fault.
    """

    meaning: str
    put_in: Callable[[Draft, Authority], IssuedChain]


def _untrusted_root(draft: Draft, issuer: Authority) -> IssuedChain:
    root = _authority_draft(draft, 0)
    impostor = Authority.self_signed(replace(root, subject=issuer.certificate.subject))
    return impostor.sign(_under(draft, impostor))


def _bad_signature(draft: Draft, issuer: Authority) -> IssuedChain:
    chain = issuer.sign(draft)
    der = bytearray(chain.leaf.public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_certificate(bytes(der))
    return replace(chain, certificates=(broken, *chain.certificates[1:]))


def _missing_intermediate(draft: Draft, issuer: Authority) -> IssuedChain:
    between = _authority_below(issuer, draft, 1)
    whole = between.sign(_under(draft, between))
    return replace(whole, certificates=whole.certificates[:1])


def _leaf_as_issuer(draft: Draft, issuer: Authority) -> IssuedChain:
    other = replace(draft, subject=subject("another leaf"), key=new_key("p256"))
    signed = issuer.sign(other)
    stolen = Authority(signed.leaf, other.key, above=signed.certificates[1:])
    return stolen.sign(_under(draft, stolen))


def _wrong_key(draft: Draft, issuer: Authority) -> IssuedChain:
    return replace(issuer.sign(draft), private_key=new_key("p256"))


def _long_chain(draft: Draft, issuer: Authority) -> IssuedChain:
    already = len(issuer.chain)
    for number in range(already + 1, 100):
        issuer = _authority_below(issuer, draft, number)
    return issuer.sign(_under(draft, issuer))


def _under(draft: Draft, issuer: Authority) -> Draft:
    return draft.having(issuer.key_identifier(), critical=False)


def _authority_below(issuer: Authority, draft: Draft, number: int) -> Authority:
    below = _authority_draft(draft, number)
    signed = issuer.sign(_under(below, issuer))
    return Authority(signed.leaf, below.key, above=signed.certificates[1:])


def _authority_draft(draft: Draft, number: int) -> Draft:
    trust_domain = draft.uri.removeprefix("spiffe://").partition("/")[0]
    name, key = subject(f"intermediate {number}"), new_key("p256")
    blank = replace(draft, subject=name, key=key, extensions=())
    return blank.with_authority_profile(f"spiffe://{trust_domain}", None)


CHAIN_FAULTS = {
    "untrusted_root": ChainFault(
        "signed by a root with the name of ours, which is not in the bundle", _untrusted_root
    ),
    "bad_signature": ChainFault("one bit of the leaf's signature is wrong", _bad_signature),
    "missing_intermediate": ChainFault("the intermediate is not presented", _missing_intermediate),
    "leaf_as_issuer": ChainFault("signed with the key of another leaf", _leaf_as_issuer),
    "wrong_key": ChainFault("the private key is not that of the leaf", _wrong_key),
    "long_chain": ChainFault("a chain of 100 certificates", _long_chain),
}
"""The faults by name."""
