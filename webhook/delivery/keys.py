# SPDX-License-Identifier: Apache-2.0
"""Makes the private keys of pods, in memory.

Rules:
    1. RSA takes up to seconds, so such keys are made outside of the event loop, and by threads of
       their own: whoever wants many keeps nothing else waiting.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from webhook.config import KeyType

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubetls_sdk.svid import PrivateKey

__all__ = ("new_key",)

_EXPONENT: Final = 65537
_threads: Final = ThreadPoolExecutor(2, thread_name_prefix="keys")
_MAKERS: Final[dict[KeyType, Callable[[], PrivateKey]]] = {
    KeyType.ECDSA_P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyType.ECDSA_P384: lambda: ec.generate_private_key(ec.SECP384R1()),
    KeyType.ECDSA_P521: lambda: ec.generate_private_key(ec.SECP521R1()),
    KeyType.ED25519: ed25519.Ed25519PrivateKey.generate,
    KeyType.RSA_3072: lambda: rsa.generate_private_key(_EXPONENT, 3072),
    KeyType.RSA_4096: lambda: rsa.generate_private_key(_EXPONENT, 4096),
}


async def new_key(key_type: KeyType) -> PrivateKey:
    """Make a key."""
    make = _MAKERS[key_type]
    if key_type in (KeyType.RSA_3072, KeyType.RSA_4096):
        return await asyncio.get_running_loop().run_in_executor(_threads, make)
    return make()
