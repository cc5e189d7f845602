# SPDX-License-Identifier: Apache-2.0
"""Which Secrets are written, and which are never touched."""

from __future__ import annotations

import pytest

from tests.webhook.api_double import ApiDouble
from tests.webhook.secrets.guarded_api import GuardedApi
from webhook.api import ConflictError, UnreachableError
from webhook.api.resources import SECRETS
from webhook.secrets.writer import ForeignSecretError, SecretWriter, Version

pytestmark = pytest.mark.anyio

TYPE = "kubetls.gauntletwizard.net/workload"
NAME = "kubetls-0123456789abcdef0123"


def secret(content="eA==", *, owner="pod-1", type_=TYPE):
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": owner}
    return {
        "metadata": {"name": NAME, "namespace": "shop", "ownerReferences": [reference]},
        "type": type_,
        "data": {"tls.key": content},
    }


@pytest.fixture
def stored():
    return ApiDouble()


@pytest.fixture
def api(stored):
    return GuardedApi(stored)


@pytest.fixture
def writer(api):
    return SecretWriter(api)


def content(stored):
    return stored.find(SECRETS, NAME, "shop")["data"]["tls.key"]


class TestWrite:
    async def test_new(self, writer, stored):
        """A Secret that is not there is created."""
        version = await writer.write(secret(), None)
        found = stored.find(SECRETS, NAME, "shop")
        assert version == Version.of(found)

    async def test_known(self, writer, api, stored):
        """What was written before is replaced at one call, by compare-and-swap."""
        version = await writer.write(secret(), None)
        stored.calls.clear()
        await writer.write(secret("eQ=="), version)
        assert content(stored) == "eQ=="
        assert [method for method, *_ in stored.calls] == ["replace"]
        assert api.tried == [(False, {"tls.key": "eQ=="})]

    async def test_after_a_restart(self, writer, stored):
        """A Secret of the pod's own, of which nothing is known, is proved and replaced."""
        before = stored.put(SECRETS, secret())
        version = await writer.write(secret("eQ=="), None)
        assert content(stored) == "eQ=="
        assert version.uid == before["metadata"]["uid"]

    async def test_keys_are_sent_once(self, writer, api, stored):
        """What is only tried has no content."""
        stored.put(SECRETS, secret())
        await writer.write(secret("eQ=="), None)
        assert api.tried == [(True, {}), (True, {}), (False, {"tls.key": "eQ=="})]

    async def test_deleted_by_somebody(self, writer, stored):
        """A Secret that somebody deleted is created again."""
        version = await writer.write(secret(), None)
        stored.remove(SECRETS, NAME, "shop")
        await writer.write(secret("eQ=="), version)
        assert content(stored) == "eQ=="

    async def test_another_replica_wrote(self, writer, stored):
        """What another replica wrote for the same pod is proved and replaced."""
        version = await writer.write(secret(), None)
        stored.put(SECRETS, secret("eg=="))
        await writer.write(secret("eQ=="), version)
        assert content(stored) == "eQ=="


class TestForeign:
    @pytest.mark.parametrize(
        "found",
        [
            secret(owner="pod-2"),
            secret(type_="Opaque"),
            secret(owner="pod-2", type_="kubernetes.io/tls"),
            {**secret(), "metadata": {"name": NAME, "namespace": "shop"}},
        ],
        ids=["another pod's", "another type", "both", "without owner"],
    )
    async def test_never_touched(self, writer, stored, found):
        """A Secret that is not the pod's stays as it is."""
        before = stored.put(SECRETS, found)
        with pytest.raises(ForeignSecretError):
            await writer.write(secret("eQ=="), None)
        assert stored.find(SECRETS, NAME, "shop") == before

    async def test_replaced_by_a_stranger(self, writer, stored):
        """A Secret that was deleted and made by somebody else is not ours any more."""
        version = await writer.write(secret(), None)
        stored.remove(SECRETS, NAME, "shop")
        before = stored.put(SECRETS, secret(owner="pod-2"))
        with pytest.raises(ForeignSecretError):
            await writer.write(secret("eQ=="), version)
        assert stored.find(SECRETS, NAME, "shop") == before

    async def test_swapped_while_it_was_proved(self, writer, api, stored, monkeypatch):
        """What was proved is what is changed, or nothing is."""
        stored.put(SECRETS, secret())
        replace = api.replace

        async def swap_before_the_write(resource, body, *, dry_run=False, **options):
            if not dry_run:
                stored.remove(SECRETS, NAME, "shop")
                stored.put(SECRETS, secret("eg=="))
            return await replace(resource, body, dry_run=dry_run, **options)

        monkeypatch.setattr(api, "replace", swap_before_the_write)
        with pytest.raises(ConflictError):
            await writer.write(secret("eQ=="), None)
        assert content(stored) == "eg=="

    @pytest.mark.parametrize("owner", ["pod-1", "pod-2"])
    async def test_without_the_policy(self, writer, api, stored, owner):
        """Where no policy compares owners, nothing that exists is overwritten."""
        api.has_policy = False
        before = stored.put(SECRETS, secret(owner=owner))
        with pytest.raises(ForeignSecretError):
            await writer.write(secret("eQ=="), None)
        assert stored.find(SECRETS, NAME, "shop") == before

    async def test_silence_proves_nothing(self, writer, api, stored, monkeypatch):
        """A try without an answer is no refusal, and no proof."""
        before = stored.put(SECRETS, secret())
        replace, count = api.replace, []

        async def silent_at_the_second(resource, body, **options):
            count.append(1)
            if len(count) == 2:
                raise UnreachableError("no answer")
            return await replace(resource, body, **options)

        monkeypatch.setattr(api, "replace", silent_at_the_second)
        with pytest.raises(UnreachableError):
            await writer.write(secret("eQ=="), None)
        assert stored.find(SECRETS, NAME, "shop") == before
