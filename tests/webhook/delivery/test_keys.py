# SPDX-License-Identifier: Apache-2.0
"""Keys of each type, and nobody waits for another's."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from webhook.config import KeyType
from webhook.delivery import keys
from webhook.issuance.public_key import key_type_of

DEADLINE = 10


@pytest.mark.parametrize("key_type", [each for each in KeyType if each is not KeyType.RSA_4096])
def test_type(key_type):
    """A key is of the type that was asked for."""
    made = asyncio.run(keys.new_key(key_type))
    assert key_type_of(made.public_key()) is key_type


def test_slow_keys_keep_nothing_else_waiting(monkeypatch):
    """While many RSA keys are made, files are written and other keys are made."""
    gate = threading.Event()
    monkeypatch.setitem(keys._MAKERS, KeyType.RSA_4096, lambda: gate.wait(DEADLINE))

    async def scenario():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        slow = [asyncio.create_task(keys.new_key(KeyType.RSA_4096)) for _ in range(20)]
        async with asyncio.timeout(DEADLINE / 2):
            await asyncio.to_thread(lambda: None)
            await keys.new_key(KeyType.ECDSA_P256)
        assert not any(each.done() for each in slow)
        gate.set()
        assert all(await asyncio.gather(*slow))

    asyncio.run(scenario())
