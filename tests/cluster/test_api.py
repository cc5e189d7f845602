# SPDX-License-Identifier: Apache-2.0
"""The API client with a real API server: what a double can only pretend."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from cluster import ControlPlane
from webhook.api import (
    AlreadyExistsError,
    Api,
    ConflictError,
    EventRecorder,
    ForbiddenError,
    GoneError,
    Informer,
    InvalidError,
    Leadership,
    Membership,
    NotFoundError,
)
from webhook.api.events import reference
from webhook.api.resources import (
    CLUSTER_TRUST_BUNDLES,
    CONFIG_MAPS,
    EVENTS,
    LEASES,
    POD_CERTIFICATE_REQUESTS,
    PODS,
    SECRETS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    Resource,
)

pytestmark = pytest.mark.anyio

SECRET_TEXT = "bm90IGZvciBhbnkgbG9n"
UNSERVED = Resource("certificates.k8s.io", "v1alpha9", "podcertificaterequests", "Pod")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def api(control_plane: ControlPlane):
    """The client as the cluster's administrator."""
    async with await Api.connect(control_plane.kubeconfig) as client:
        yield client


def map_of(namespace, name="map", **data):
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


@dataclass(frozen=True, slots=True)
class Map:
    name: str
    values: tuple

    @classmethod
    def parse(cls, body):
        return cls(body["metadata"]["name"], tuple((body.get("data") or {}).items()))


async def seen(informer, predicate):
    """Wait until the informer's objects are as expected."""
    async with asyncio.timeout(45):
        changed = asyncio.Event()
        leave = informer.subscribe(lambda _old, _new: changed.set())
        while not predicate({each.name: dict(each.values) for each in informer.values()}):
            await changed.wait()
            changed.clear()
        leave()


class TestVerbs:
    async def test_an_object_lives_and_dies(self, api, namespace):
        """Created, read, replaced, merged, applied, deleted."""
        created = await api.create(CONFIG_MAPS, map_of(namespace, a="1"))
        with pytest.raises(AlreadyExistsError):
            await api.create(CONFIG_MAPS, map_of(namespace))
        replaced = await api.replace(CONFIG_MAPS, created | {"data": {"a": "2"}})
        with pytest.raises(ConflictError):
            await api.replace(CONFIG_MAPS, created | {"data": {"a": "3"}})
        await api.patch(CONFIG_MAPS, map_of(namespace, b="1"))
        await api.apply(CONFIG_MAPS, map_of(namespace, c="1"), field_manager="test")
        found = await api.get(CONFIG_MAPS, "map", namespace=namespace)
        assert found["data"] == {"a": "2", "b": "1", "c": "1"}
        with pytest.raises(ConflictError):
            await api.delete(CONFIG_MAPS, "map", namespace=namespace, uid="another")
        version = replaced["metadata"]["resourceVersion"]
        with pytest.raises(ConflictError):
            await api.delete(CONFIG_MAPS, "map", namespace=namespace, resource_version=version)
        await api.delete(CONFIG_MAPS, "map", namespace=namespace, uid=found["metadata"]["uid"])
        with pytest.raises(NotFoundError):
            await api.get(CONFIG_MAPS, "map", namespace=namespace)

    async def test_applying_takes_no_field_of_another_s(self, api, namespace):
        """Unless it is forced to."""
        await api.create(CONFIG_MAPS, map_of(namespace, a="1"))
        with pytest.raises(ConflictError):
            await api.apply(CONFIG_MAPS, map_of(namespace, a="2"), field_manager="test")
        forced = await api.apply(
            CONFIG_MAPS, map_of(namespace, a="2"), field_manager="test", force=True
        )
        assert forced["data"] == {"a": "2"}

    async def test_a_dry_run_stores_nothing(self, api, namespace):
        """The API server only checks."""
        await api.create(CONFIG_MAPS, map_of(namespace), dry_run=True)
        await api.apply(CONFIG_MAPS, map_of(namespace), field_manager="test", dry_run=True)
        with pytest.raises(NotFoundError):
            await api.get(CONFIG_MAPS, "map", namespace=namespace)

    async def test_lists_come_in_pages(self, api, namespace):
        """Each object once, and one version of all."""
        bodies = [map_of(namespace, f"page-{number:03}") for number in range(45)]
        await asyncio.gather(*(api.create(CONFIG_MAPS, body) for body in bodies))
        pages = [page async for page in api.pages(CONFIG_MAPS, namespace=namespace, size=10)]
        names = [item["metadata"]["name"] for page in pages for item in page.items]
        assert len(pages) >= 5
        assert len(names) == len(set(names)) >= 45
        assert len({page.resource_version for page in pages}) == 1

    async def test_discovery_tells_what_is_served(self, api):
        """In the version that is asked for."""
        assert await api.serves(POD_CERTIFICATE_REQUESTS)
        assert await api.serves(CLUSTER_TRUST_BUNDLES)
        assert await api.serves(PODS)
        assert not await api.serves(UNSERVED)
        assert await api.version() >= (1, 37)


class TestErrors:
    async def test_what_is_said_about_a_secret_quotes_none_of_it(self, api, namespace):
        """Validation names the field; decoding says nothing."""
        metadata = {"name": "s", "namespace": namespace}
        wrong_type = {"metadata": metadata, "type": "kubernetes.io/tls"}
        with pytest.raises(InvalidError) as caught:
            await api.create(SECRETS, wrong_type | {"data": {"tls.key": SECRET_TEXT}})
        assert "tls.crt" in str(caught.value)
        for broken in ({"tls.key": f"%{SECRET_TEXT}"}, {f"/{SECRET_TEXT}": SECRET_TEXT}):
            with pytest.raises(Exception, match="secrets") as refused:
                await api.create(SECRETS, wrong_type | {"data": broken})
            assert f"%{SECRET_TEXT}" not in str(refused.value)

    async def test_a_service_account_s_rights_are_the_cluster_s(
        self, api, control_plane, namespace
    ):
        """Its token is sent, and what RBAC says comes back as `ForbiddenError`."""
        path = control_plane.kubeconfig_of_service_account(namespace, "default")
        async with await Api.connect(path) as restricted:
            with pytest.raises(ForbiddenError) as caught:
                await restricted.list(SECRETS, namespace=namespace)
            review = await restricted.create(
                SELF_SUBJECT_ACCESS_REVIEWS,
                {"spec": {"resourceAttributes": {"resource": "secrets", "verb": "list"}}},
            )
        assert (caught.value.status, caught.value.is_retryable) == (403, False)
        assert review["status"]["allowed"] is False


class TestInformer:
    async def test_it_follows_the_api_server(self, api, namespace):
        """Created, changed, deleted."""
        async with Informer(api, CONFIG_MAPS, Map.parse, namespace=namespace) as maps:
            await maps.synced()
            created = await api.create(CONFIG_MAPS, map_of(namespace, a="1"))
            await seen(maps, lambda found: found.get("map") == {"a": "1"})
            await api.replace(CONFIG_MAPS, created | {"data": {"a": "2"}})
            await seen(maps, lambda found: found.get("map") == {"a": "2"})
            await api.delete(CONFIG_MAPS, "map", namespace=namespace)
            await seen(maps, lambda found: "map" not in found)

    async def test_it_survives_a_restart_of_the_api_server(self, api, control_plane, namespace):
        """Everything that changed while it was down, or before it looked again, is seen."""
        await api.create(CONFIG_MAPS, map_of(namespace, "old", a="1"))
        async with Informer(api, CONFIG_MAPS, Map.parse, namespace=namespace) as maps:
            await maps.synced()
            await asyncio.to_thread(control_plane.restart, "kube-apiserver")
            await api.create(CONFIG_MAPS, map_of(namespace, "new", a="1"))
            await api.delete(CONFIG_MAPS, "old", namespace=namespace)
            await seen(maps, lambda found: "new" in found and "old" not in found)
            assert not maps.is_stale(5)

    async def test_a_watch_tells_that_it_is_open(self, api, namespace):
        """The first event is a bookmark of the version that was asked for."""
        listed = await api.list(CONFIG_MAPS, namespace=namespace)
        watch = api.watch(
            CONFIG_MAPS, resource_version=listed.resource_version, namespace=namespace
        )
        async with aclosing(watch) as events:
            first = await anext(events)
            assert ("BOOKMARK", listed.resource_version) == (first.type, first.resource_version)
            await api.create(CONFIG_MAPS, map_of(namespace, a="1"))
            assert (await anext(events)).object["data"] == {"a": "1"}

    async def test_a_version_that_is_too_old_is_gone(self, api):
        """The API server opens the watch and then says so, in an event."""
        async with aclosing(api.watch(CONFIG_MAPS, resource_version="1")) as events:
            await anext(events)
            with pytest.raises(GoneError):
                await anext(events)


class TestLeases:
    async def test_replicas_share_and_one_leads(self, api, namespace):
        """The API server accepts what is written, also what is given back."""
        async with (
            Membership(api, namespace, "signer", "a", renew_every=0.5) as first,
            Membership(api, namespace, "signer", "b", renew_every=0.5) as second,
        ):
            async with asyncio.timeout(10):
                changed = asyncio.Event()
                first.subscribe(changed.set)
                second.subscribe(changed.set)
                while not first.live == second.live == ("a", "b"):
                    await changed.wait()
                    changed.clear()
            assert first.owner("key") == second.owner("key")
        async with (
            Leadership(api, namespace, "leader", "a", retry_every=0.2) as winner,
            asyncio.timeout(10),
        ):
            await winner.elected()
        lease = await api.get(LEASES, "leader", namespace=namespace)
        assert lease["spec"]["holderIdentity"] == ""
        assert len((await api.list(LEASES, namespace=namespace)).items) == 1


class TestEvents:
    async def test_the_api_server_accepts_them_and_their_series(self, api, namespace):
        """`kubectl get events` shows them at the object."""
        about = reference(PODS, {"name": "web-0", "namespace": namespace, "uid": "u1"})
        async with EventRecorder(api, "kubetls-signer", instance="signer-1") as events:
            for _ in range(5):
                await events.event(about, "Warning", "Denied", "é" * 2000)
        assert events.dropped == 0
        [event] = (await api.list(EVENTS, namespace=namespace)).items
        assert (event["series"]["count"], event["regarding"]["name"]) == (5, "web-0")


class TestCost:
    async def test_500_writes_cost_less_than_a_second_of_processor_time(self, api, namespace):
        """With 32 in flight, as the signer answers a burst."""
        spec = {"holderIdentity": "x", "leaseDurationSeconds": 3}
        gate = asyncio.Semaphore(32)

        async def write(body):
            async with gate:
                return await api.replace(LEASES, body)

        async def create(number):
            metadata = {"name": f"lease-{number}", "namespace": namespace}
            async with gate:
                return await api.create(LEASES, {"metadata": metadata, "spec": spec})

        leases = await asyncio.gather(*(create(number) for number in range(500)))
        for lease in leases:
            lease["metadata"]["annotations"] = {"example.org/chain": "x" * 3000}
        before = time.process_time()
        await asyncio.gather(*(write(lease) for lease in leases))
        assert time.process_time() - before < 1
