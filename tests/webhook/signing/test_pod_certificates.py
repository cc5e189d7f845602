# SPDX-License-Identifier: Apache-2.0
"""What becomes of PodCertificateRequests, in good times and bad."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.webhook.signing.world import (
    OTHER_SIGNER,
    PLATFORM,
    Replicas,
    World,
    eventually,
)
from webhook.api.errors import ApiError, ConflictError, ForbiddenError, UnreachableError
from webhook.api.resources import (
    POD_CERTIFICATE_REQUESTS,
    POD_CERTIFICATE_REQUESTS_V1BETA1,
    PODS,
)
from webhook.config import PlatformConfig

pytestmark = pytest.mark.anyio


class TestIssue:
    async def test_identity_is_the_pods(self, world):
        """The certificate has the pod's SPIFFE ID, its name, and the names of its Services."""
        world.add_service("front")
        request = world.request(world.add_pod())
        async with world.signer():
            leaf = world.certificate(await world.answered(request))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == ["spiffe://example.org/ns/shop/sa/web"]
        assert names.get_values_for_type(x509.DNSName) == [
            "front.shop.svc",
            "front.shop.svc.cluster.local",
        ]
        assert leaf.subject.rfc4514_string() == "CN=web"

    async def test_key_is_the_requests(self, world):
        """The certificate is for the key in the request."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = world.request(world.add_pod(), key=key)
        async with world.signer():
            leaf = world.certificate(await world.answered(request))
        assert leaf.public_key() == key.public_key()

    async def test_times_are_the_certificates(self, world):
        """The status says the certificate's own times, in whole seconds."""
        request = world.request(world.add_pod())
        async with world.signer():
            answer = await world.answered(request)
        leaf, status = world.certificate(answer), answer["status"]
        assert status["notBefore"] == f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
        assert status["notAfter"] == f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        assert status["notBefore"] < status["beginRefreshAt"] < status["notAfter"]

    async def test_usual_request_costs_one_call(self, world):
        """The usual request is answered with one PUT, and nothing is read for it."""
        world.add_service()
        async with world.signer() as (controller, _):
            await controller.inbox.requests.synced()
            world.api.calls.clear()
            await world.answered(world.request(world.add_pod()))
        calls = [method for method, *_ in world.api.calls if method in {"get", "list", "replace"}]
        assert calls == ["replace"]

    async def test_audit_log(self, world, caplog):
        """Each certificate is in the audit log, with its serial and who asked."""
        caplog.set_level(logging.INFO, "kubetls.issuance")
        request = world.request(world.add_pod())
        async with world.signer():
            leaf = world.certificate(await world.answered(request))
        (line,) = [
            json.loads(each.getMessage())
            for each in caplog.records
            if "decision" in each.getMessage()
        ]
        assert line["serial"] == f"{leaf.serial_number:x}"
        assert line["requester"] == "system:node:node-1"
        assert (line["decision"], line["namespace"], line["pod"]) == ("issued", "shop", "web")

    async def test_pod_without_service_is_told(self, world):
        """The owner of a pod that no Service selects learns when the names will follow."""
        first = world.add_pod("web-1", ownerReferences=[{"uid": "set", "controller": True}])
        second = world.add_pod("web-2", ownerReferences=[{"uid": "set", "controller": True}])
        async with world.signer():
            for pod in (first, second):
                await world.answered(world.request(pod))
            await eventually(world.events)
        assert world.events() == [("web-1", "NoServiceYet")]

    async def test_old_node(self, world):
        """A request of a 1.35 kubelet, whose key only v1beta1 shows, is read there."""
        pod = world.add_pod()
        full = world.request(pod, name="req-1")
        world.api.put(POD_CERTIFICATE_REQUESTS_V1BETA1, full)
        request = world.request(pod, name="req-1", stubPKCS10Request="")
        async with world.signer():
            assert (await world.answered(request))["status"]["certificateChain"]


DENIALS = [
    pytest.param({"signer": OTHER_SIGNER}, "NotAllowedInNamespace", id="zone of others"),
    pytest.param({"subject": ["web"]}, "NonEmptyRequest", id="request with names"),
    pytest.param(
        {"key": rsa.generate_private_key(65537, 3072)}, "UnsupportedKeyType", id="key type"
    ),
    pytest.param(
        {"unverifiedUserAnnotations": {"kubetls.gauntletwizard.net/x": "y"}},
        "InvalidUnverifiedUserAnnotations",
        id="annotations",
    ),
    pytest.param({"serviceAccountName": "admin"}, "PodMismatch", id="account of others"),
    pytest.param({"stubPKCS10Request": "AAAA"}, "InvalidRequest", id="no request at all"),
    pytest.param({"maxExpirationSeconds": 60}, "LifetimeTooShort", id="lifetime"),
]


class TestDeny:
    @pytest.mark.parametrize(("asked", "reason"), DENIALS)
    async def test_reason(self, world, asked, reason):
        """What the platform does not allow is denied with a reason, and without a certificate."""
        request = world.request(world.add_pod(), **asked)
        async with world.signer():
            answer = await world.answered(request)
            await eventually(world.events)
        assert world.verdict(request) == {"Denied": reason}
        assert answer["status"].keys() == {"conditions"}
        assert world.events() == [("web", "CertificateDenied")]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"deletionTimestamp": "2026-11-25T12:00:00Z"}, "PodTerminal"),
            ({"annotations": {"kubernetes.io/config.mirror": "x"}}, "NotAllowedInNamespace"),
        ],
        ids=["terminating", "mirror"],
    )
    async def test_pod(self, world, change, reason):
        """A pod that ends, or that is only a mirror, gets nothing."""
        request = world.request(world.add_pod(**change))
        async with world.signer():
            await world.answered(request)
        assert world.verdict(request) == {"Denied": reason}

    async def test_namespace_without_rule(self, world):
        """A namespace that the configuration does not name gets nothing."""
        request = world.request(world.add_pod(namespace="elsewhere"))
        async with world.signer():
            await world.answered(request)
        assert world.verdict(request) == {"Denied": "NotAllowedInNamespace"}

    async def test_stale_pod_denies_nobody(self, world):
        """A pod that is behind in what we watch is read before a refusal."""
        pod = world.add_pod()
        async with world.signer() as (controller, _):
            stale = controller._signer.pods
            known = stale.get("shop", "web")
            stale._objects["shop", "web"] = type(known).parse(
                pod | {"spec": pod["spec"] | {"serviceAccountName": "earlier"}}
            )
            request = world.request(pod)
            await world.answered(request)
        assert world.verdict(request) == {"Issued": "Issued"}

    async def test_stale_configuration_denies_nobody(self, world):
        """A rule that has not reached this replica's file yet is read before a refusal."""
        world.config.ahead = PlatformConfig.parse(PLATFORM.replace("[plain]", "[plain, fresh]"))
        request = world.request(world.add_pod(namespace="fresh"))
        async with world.signer():
            await world.answered(request)
        assert world.verdict(request) == {"Issued": "Issued"}

    async def test_unknown_signer_is_left_alone(self, world):
        """A request to another signer is not even seen."""
        request = world.request(world.add_pod(), signer="signer.example/x")
        ours = world.request(world.add_pod("mine"))
        async with world.signer():
            await world.answered(ours)
        assert world.verdict(request) == {}


class TestTransientTrouble:
    async def test_pod_that_is_seen_later(self, world):
        """A request that comes before its pod is answered as soon as the pod is seen."""
        pod = world.add_pod()
        world.api.remove(PODS, "web", "shop")
        request = world.request(pod)
        async with world.signer() as (controller, _):
            await eventually(lambda: ("shop", "web") in controller._awaiting)
            world.api.put(PODS, pod)
            await world.answered(request)
        assert world.verdict(request) == {"Issued": "Issued"}

    async def test_no_authority_yet(self, world):
        """Without a CA a request stays pending, and is answered once there is one."""
        pool = world.pools.pools.pop("default")
        request = world.request(world.add_pod())
        async with world.signer() as (controller, _):
            await eventually(lambda: _failures(controller, request) > 1)
            assert world.verdict(request) == {}
            world.pools.pools["default"] = pool
            await world.answered(request)
        assert world.verdict(request) == {"Issued": "Issued"}

    async def test_cluster_out_of_sight(self, world):
        """Names and pods of long ago are not certified: a Service may be another one by now."""
        request = world.request(world.add_pod())
        is_blind = True
        async with world.signer(is_blind=lambda: is_blind) as (pods, _):
            await eventually(lambda: pods.inbox.worklist._entries)
            entries = pods.inbox.worklist._entries
            await eventually(lambda: any(each.backoff.failures > 2 for each in entries.values()))
            assert world.verdict(request) == {}
            is_blind = False
            await world.answered(request)
        assert world.verdict(request) == {"Issued": "Issued"}

    async def test_trust_domain_that_was_changed(self, world):
        """The authorities of one trust domain sign no name of another: the pool is not its."""
        request = world.request(world.add_pod())
        mended = world.config.current
        world.config.current = PlatformConfig.parse(PLATFORM.replace("example.org", "example.net"))
        async with world.signer() as (pods, _):
            await eventually(lambda: pods.inbox.worklist._entries)
            entries = pods.inbox.worklist._entries
            await eventually(lambda: any(each.backoff.failures > 2 for each in entries.values()))
            assert world.verdict(request) == {}
            world.config.current = mended
            leaf = world.certificate(await world.answered(request))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
            "spiffe://example.org/ns/shop/sa/web"
        ]

    async def test_long_wait_is_told(self, world):
        """Who waits for long learns why, once for a workload."""
        world.pools.pools.pop("default")
        for name in ("web-1", "web-2"):
            owner = [{"uid": "set", "controller": True}]
            world.request(world.add_pod(name, ownerReferences=owner))
        async with world.signer() as (controller, _):
            entries = controller.inbox.worklist._entries
            await eventually(lambda: entries)
            await eventually(lambda: all(each.backoff.failures > 6 for each in entries.values()))
            await eventually(world.events)
        assert [reason for _, reason in world.events()] == ["CertificatePending"]

    @pytest.mark.parametrize(
        "error",
        [
            UnreachableError("no answer"),
            ApiError("slow down", status=429, retry_after=0.001),
            ForbiddenError("no verb sign"),
            ConflictError("changed"),
            RuntimeError("a mistake of ours"),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_answer_that_is_not_taken(self, world, error):
        """An answer that the API server does not take is given again, until it is taken."""
        world.api.fail("replace", error, times=3)
        request = world.request(world.add_pod())
        async with world.signer():
            await world.answered(request)
        assert world.verdict(request) == {"Issued": "Issued"}

    async def test_request_that_is_gone(self, world):
        """A request that is deleted is forgotten."""
        world.pools.pools.clear()
        request = world.request(world.add_pod())
        async with world.signer() as (controller, _):
            await eventually(lambda: _failures(controller, request) > 0)
            world.api.remove(POD_CERTIFICATE_REQUESTS, request["metadata"]["name"], "shop")
            await eventually(lambda: len(controller.inbox.worklist) == 0)

    async def test_watch_that_breaks(self, world):
        """Requests that are made while no watch is open are not lost."""
        async with world.signer() as (controller, _):
            await controller.inbox.requests.synced()
            world.api.disconnect()
            request = world.request(world.add_pod())
            await world.answered(request)
        assert world.verdict(request) == {"Issued": "Issued"}


class TestRaces:
    async def test_settled_by_another(self, world, monkeypatch):
        """An answer that comes second, after the decision was made, changes nothing."""
        condition = {"type": "Denied", "status": "True", "reason": "Theirs"}
        request = world.request(world.add_pod())
        replace, attempts = world.api.replace, []

        async def late(*args, **options):
            if not attempts:
                theirs = request | {"status": {"conditions": [condition]}}
                world.api.put(POD_CERTIFICATE_REQUESTS, theirs)
            attempts.append(args)
            return await replace(*args, **options)

        monkeypatch.setattr(world.api, "replace", late)
        async with world.signer() as (controller, _):
            await eventually(lambda: attempts and not len(controller.inbox.worklist))
        assert world.verdict(request) == {"Denied": "Theirs"}
        assert len(attempts) == 1

    async def test_both_think_it_is_theirs(self, world):
        """Two replicas that both own a request write one answer."""
        async with world.signer(), world.signer():
            requests = [world.request(world.add_pod(f"web-{number}")) for number in range(20)]
            for request in requests:
                await world.answered(request)
        assert {str(world.verdict(request)) for request in requests} == {"{'Issued': 'Issued'}"}

    async def test_share_of_a_lost_replica(self, world):
        """The requests of a replica that is gone move to those that live."""
        replicas = Replicas("one", ("two",))
        async with world.signer(replicas=replicas) as (controller, _):
            request = world.request(world.add_pod())
            await eventually(lambda: controller.inbox.requests.get(_key(request)))
            assert world.verdict(request) == {}
            replicas.live = ("one",)
            await world.answered(request)

    async def test_replica_that_does_not_answer(self, world):
        """A request that its owner left for long is answered by any other."""
        request = world.request(world.add_pod())
        request["metadata"]["creationTimestamp"] = "2026-11-25T12:00:00Z"
        world.api.remove(POD_CERTIFICATE_REQUESTS, request["metadata"]["name"], "shop")
        world.api.put(POD_CERTIFICATE_REQUESTS, request)
        async with world.signer(replicas=Replicas("one", ("two",))):
            await world.answered(request)


class TestRestart:
    @pytest.mark.parametrize("call", range(9))
    async def test_killed_at_any_call(self, call):
        """A replica that was killed at any of its calls loses no request."""
        world = World()
        requests = [world.request(world.add_pod(f"web-{number}")) for number in range(3)]
        await _live_until(world, call)
        async with world.signer():
            for request in requests:
                await world.answered(request)
        assert {str(world.verdict(request)) for request in requests} == {"{'Issued': 'Issued'}"}

    async def test_end_finishes_what_is_under_way(self, world, monkeypatch):
        """A replica that ends writes the answers that it has begun."""
        request = world.request(world.add_pod())
        has_begun, may_go_on = asyncio.Event(), asyncio.Event()
        replace = world.api.replace

        async def slow(*args, **options):
            has_begun.set()
            await may_go_on.wait()
            return await replace(*args, **options)

        monkeypatch.setattr(world.api, "replace", slow)
        async with world.signer() as (controller, _):
            await has_begun.wait()
            closing = asyncio.create_task(controller.inbox.worklist.close(within=5))
            asyncio.get_running_loop().call_later(0.02, may_go_on.set)
            await closing
            assert world.verdict(request) == {"Issued": "Issued"}


async def _live_until(world, call):
    """Run a replica that hangs for ever at its n-th call from the first write on, and kill it."""
    reached = asyncio.Event()
    count = 0

    async def hang():
        nonlocal count
        count += 1
        if count > call:
            reached.set()
            await asyncio.Event().wait()

    async def live():
        async with world.signer():
            await asyncio.Event().wait()

    world.api.delay = hang
    task = asyncio.create_task(live())
    await reached.wait()
    task.cancel()
    world.api.delay = None
    await asyncio.wait([task])


def _key(request):
    return request["metadata"]["namespace"], request["metadata"]["name"]


def _failures(controller, request):
    entry = controller.inbox.worklist._entries.get(_key(request))
    return entry.backoff.failures if entry else 0
