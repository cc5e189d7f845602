# SPDX-License-Identifier: Apache-2.0
"""Which CertificateSigningRequests are approved and signed, and which are not."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.spiffe_id import SpiffeId
from tests.webhook.signing.world import (
    EXTERNAL_SIGNER,
    OTHER_SIGNER,
    PLATFORM,
    World,
    csr,
    eventually,
)
from webhook.api.errors import UnreachableError
from webhook.api.resources import CERTIFICATE_SIGNING_REQUESTS
from webhook.config import PlatformConfig
from webhook.issuance.grant import Grant
from webhook.issuance.signing_request import named_request
from webhook.names import NODE_LABEL

pytestmark = pytest.mark.anyio

POD_USER = "system:serviceaccount:shop:web"
APPROVED = {"conditions": [{"type": "Approved", "status": "True", "reason": "Somebody"}]}


async def settled(world, request):
    """Wait until a request is answered, and return it."""
    name = request["metadata"]["name"]

    def now():
        found = world.api.find(CERTIFICATE_SIGNING_REQUESTS, name)
        is_refused = world.verdict(request).keys() & {"Denied", "Failed"}
        return found if found.get("status", {}).get("certificate") or is_refused else None

    return await eventually(now)


def uris(leaf):
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


class TestRequesters:
    async def test_secret_issuer(self, world):
        """The secret issuer gets the certificate of a pod that carries our injection."""
        request = world.signing_request(world.add_secret_pod())
        async with world.signer():
            answer = await settled(world, request)
        assert uris(world.certificate(answer)) == ["spiffe://example.org/ns/shop/sa/web"]
        assert world.verdict(request) == {"Approved": "PolicyAllows"}

    async def test_pod_with_a_bound_token(self, world):
        """A pod that asks for itself gets its own certificate."""
        request = world.signing_request(world.add_pod(), by=POD_USER)
        async with world.signer():
            answer = await settled(world, request)
        assert uris(world.certificate(answer)) == ["spiffe://example.org/ns/shop/sa/web"]

    async def test_pod_where_the_mode_is_another(self, world):
        """Where pods may not have the CSI mode, none of them asks for itself."""
        pod = world.add_pod(namespace="plain")
        request = world.signing_request(pod, by=POD_USER.replace("shop", "plain"))
        async with world.signer():
            answer = await settled(world, request)
        assert world.verdict(request) == {"Denied": "ModeNotAllowed"}
        (condition,) = answer["status"]["conditions"]
        assert condition["message"] == "namespace 'plain' may not have mode 'csi'"

    async def test_pod_of_a_namespace_that_just_got_the_mode(self, world):
        """A refusal is for ever, so the configuration is read afresh before one."""
        world.config.ahead = PlatformConfig.parse(
            PLATFORM.replace("[plain]", "[plain], modes: [csi]")
        )
        pod = world.add_pod(namespace="plain")
        request = world.signing_request(pod, by=POD_USER.replace("shop", "plain"))
        async with world.signer():
            answer = await settled(world, request)
        assert uris(world.certificate(answer)) == ["spiffe://example.org/ns/plain/sa/web"]

    @pytest.mark.parametrize(
        "by",
        [
            "system:serviceaccount:shop:other",
            "system:serviceaccount:plain:web",
            "system:node:node-1",
            "kubernetes-admin",
            "system:serviceaccount:shop:kubetls-secret-issuer",
        ],
    )
    async def test_nobody_else(self, world, by):
        """Nobody gets a certificate of a pod that is not theirs."""
        request = world.signing_request(world.add_secret_pod(), by=by)
        async with world.signer():
            answer = await settled(world, request)
        assert set(world.verdict(request)) == {"Denied"}
        assert "certificate" not in answer["status"]

    async def test_annotations_of_others(self, world):
        """A pod's name in annotations counts from the secret issuer alone."""
        pod = world.add_secret_pod()
        request = world.signing_request(pod)
        world.api.remove(CERTIFICATE_SIGNING_REQUESTS, request["metadata"]["name"])
        request["spec"]["username"] = POD_USER
        world.api.put(CERTIFICATE_SIGNING_REQUESTS, request)
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": "UnknownRequester"}

    async def test_token_without_a_pod(self, world):
        """A token that is bound to no pod gets nothing."""
        request = world.signing_request(world.add_pod(), by=POD_USER, extra={})
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": "UnknownRequester"}

    async def test_token_of_a_predecessor(self, world):
        """A token of an earlier pod of the same name gets nothing."""
        pod = world.add_pod()
        pod["metadata"]["uid"] = "earlier"
        request = world.signing_request(pod, by=POD_USER)
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": "PodTerminal"}


class TestInjection:
    async def test_pod_without_injection(self, world):
        """The secret issuer gets nothing for a pod that does not carry our injection."""
        request = world.signing_request(world.add_pod())
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": "NotInjected"}

    @pytest.mark.parametrize(
        "names",
        [
            {"mounted": "kubetls-ffffffffffffffffffff"},
            {"secret": "database-password"},
            {"secret": "kubetls-0123456789ABCDEF0123"},
        ],
        ids=["another volume", "another Secret", "not a name of ours"],
    )
    async def test_forged_injection(self, world, names):
        """Annotation and volume must agree, and be of our own kind."""
        request = world.signing_request(world.add_secret_pod(**names))
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": "NotInjected"}

    async def test_namespace_without_secret_mode(self, world):
        """A pod cannot choose a mode that its namespace may not have."""
        request = world.signing_request(world.add_secret_pod(namespace="plain"))
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": "ModeNotAllowed"}


DENIALS = [
    pytest.param({"usages": ["server auth"]}, "UnexpectedUsages", id="too few usages"),
    pytest.param(
        {"usages": ["digital signature", "server auth", "client auth", "cert sign"]},
        "UnexpectedUsages",
        id="too many usages",
    ),
    pytest.param({"signerName": OTHER_SIGNER}, "NotAllowedInNamespace", id="zone of others"),
    pytest.param(
        {"pem": csr(subject=["admin"], encoding=Encoding.PEM)}, "NonEmptyRequest", id="names"
    ),
    pytest.param({"pem": b"no PEM"}, "InvalidRequest", id="no PEM"),
    pytest.param({"pem": csr(encoding=Encoding.PEM) * 2}, "InvalidRequest", id="two requests"),
    pytest.param({"request": "%%%"}, "InvalidRequest", id="no base64"),
    pytest.param(
        {"pem": csr(ec.generate_private_key(ec.SECP521R1()), encoding=Encoding.PEM)},
        "UnsupportedKeyType",
        id="key type",
    ),
    pytest.param({"expirationSeconds": 600}, "LifetimeTooShort", id="lifetime"),
]


class TestDeny:
    @pytest.mark.parametrize(("asked", "reason"), DENIALS)
    async def test_reason(self, world, asked, reason):
        """What the platform does not allow is denied with a reason."""
        request = world.signing_request(world.add_secret_pod(), **asked)
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": reason}

    async def test_approval_of_others_is_no_proof(self, world):
        """What somebody approved and the platform does not allow is failed, not signed."""
        request = world.signing_request(world.add_pod(), status=APPROVED)
        async with world.signer():
            answer = await settled(world, request)
        assert world.verdict(request) == {"Approved": "Somebody", "Failed": "NotInjected"}
        assert "certificate" not in answer["status"]

    async def test_denial_of_others_stays(self, world):
        """What somebody denied is left alone."""
        denied = {"conditions": [{"type": "Denied", "status": "True", "reason": "Theirs"}]}
        request = world.signing_request(world.add_secret_pod(), status=denied)
        other = world.signing_request(world.add_secret_pod("other"))
        async with world.signer():
            await settled(world, other)
        assert world.verdict(request) == {"Denied": "Theirs"}


class TestRestart:
    async def test_approved_and_not_signed(self, world):
        """A request that was approved before a crash is signed after it."""
        request = world.signing_request(world.add_secret_pod(), status=APPROVED)
        async with world.signer():
            answer = await settled(world, request)
        assert answer["status"]["certificate"]

    @pytest.mark.parametrize("failures", [1, 2, 3])
    async def test_answers_that_are_not_taken(self, world, failures):
        """Approval and certificate are written again until they are taken."""
        world.api.fail("replace", UnreachableError("no answer"), times=failures)
        request = world.signing_request(world.add_secret_pod())
        async with world.signer():
            answer = await settled(world, request)
        assert answer["status"]["certificate"]


EXTERNAL = PLATFORM.replace(
    "{name: default, trustDomain: example.org}",
    f"{{name: default, trustDomain: example.org, externalSigner: {EXTERNAL_SIGNER},"
    " trustBundle: BUNDLE}",
)


class TestExternalSigner:
    @pytest.fixture
    def world(self, kubetls_ca):
        pem = kubetls_ca.authority.public_bytes(Encoding.PEM).decode()
        return World(EXTERNAL.replace("BUNDLE", repr(pem).replace("'", '"')))

    @pytest.fixture
    def key(self):
        return ec.generate_private_key(ec.SECP256R1())

    def named(self, world, key, **changes):
        zone = world.config.current.zones["default"]
        grant = {
            "zone": zone,
            "spiffe_id": SpiffeId(zone.trust_domain, "/ns/shop/sa/web"),
            "common_name": None,
            "dns_names": (),
            "public_key": key.public_key(),
            "lifetime": None,
        }
        return named_request(Grant(**grant | changes), key)

    async def test_approved_and_left_to_sign(self, world, key):
        """A request with exactly the pod's names is approved; its signer signs."""
        pem = self.named(world, key)
        request = world.signing_request(world.add_secret_pod(), pem=pem, signerName=EXTERNAL_SIGNER)
        async with world.signer():
            await eventually(lambda: world.verdict(request))
        assert world.verdict(request) == {"Approved": "PolicyAllows"}
        found = world.api.find(CERTIFICATE_SIGNING_REQUESTS, request["metadata"]["name"])
        assert "certificate" not in found["status"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"common_name": "web"},
            {"common_name": "bank.shop.svc"},
            {"dns_names": ("bank.shop.svc",)},
        ],
        ids=["a name without a Service", "a host's name", "another Service"],
    )
    async def test_other_names(self, world, key, changes):
        """A request with other names than the pod's is denied."""
        pem = self.named(world, key, **changes)
        request = world.signing_request(world.add_secret_pod(), pem=pem, signerName=EXTERNAL_SIGNER)
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": "DifferentNames"}

    async def test_pod_for_itself(self, world, key):
        """So is a pod's own request that its node's driver made, where it may have that mode."""
        request = world.signing_request(
            world.add_pod(),
            by=POD_USER,
            pem=self.named(world, key),
            labels={NODE_LABEL: "node-1"},
            signerName=EXTERNAL_SIGNER,
        )
        async with world.signer():
            await eventually(lambda: world.verdict(request))
        assert world.verdict(request) == {"Approved": "PolicyAllows"}

    @pytest.mark.parametrize(
        ("namespace", "changes", "reason"),
        [
            ("shop", {"dns_names": ("bank.shop.svc",)}, "DifferentNames"),
            ("plain", {}, "ModeNotAllowed"),
        ],
        ids=["other names", "another mode"],
    )
    async def test_pod_for_more_than_itself(self, world, key, namespace, changes, reason):
        """No more than for our own signer does it get what is not the pod's."""
        request = world.signing_request(
            world.add_pod(namespace=namespace),
            by=POD_USER.replace("shop", namespace),
            pem=self.named(world, key, **changes),
            labels={NODE_LABEL: "node-1"},
            signerName=EXTERNAL_SIGNER,
        )
        async with world.signer():
            await settled(world, request)
        assert world.verdict(request) == {"Denied": reason}

    @pytest.mark.parametrize("by", [POD_USER, "alice"], ids=["a pod", "a person"])
    async def test_requests_of_others(self, world, key, by):
        """That signer is not ours alone: what others ask of it is neither approved nor denied."""
        pem = self.named(world, key)
        request = world.signing_request(world.add_pod(), by=by, pem=pem, signerName=EXTERNAL_SIGNER)
        ours = world.signing_request(
            world.add_secret_pod("mine"), pem=pem, signerName=EXTERNAL_SIGNER
        )
        async with world.signer() as (_, requests):
            await eventually(lambda: world.verdict(ours))
            await eventually(lambda: len(requests.inbox.worklist) == 0)
            assert world.verdict(request) == {}
            assert requests.inbox.requests.get(("", request["metadata"]["name"])) is None

    async def test_our_signer_name_of_such_a_zone(self, world):
        """The zone's own signer name is nobody's: it is denied, not left pending."""
        request = world.request(world.add_pod())
        async with world.signer():
            await world.answered(request)
        assert world.verdict(request) == {"Denied": "NotAllowedInNamespace"}


class TestFlood:
    @pytest.mark.parametrize("phase", ["Pending", "Running"], ids=["new", "renewal"])
    async def test_others_are_answered_meanwhile(self, world, phase):
        """A pod that asks again and again is in its own way, and in no other pod's."""
        flooding = world.add_pod("flooding", phase=phase)
        asked = [world.signing_request(flooding, by=POD_USER) for _ in range(400)]

        def answered():
            return sum(bool(world.verdict(each)) for each in asked)

        async with world.signer():
            await eventually(lambda: answered() > 20)
            other = world.signing_request(world.add_pod(phase=phase), by=POD_USER)
            before = answered()
            await settled(world, other)
            assert answered() - before < 100
            await eventually(lambda: answered() == len(asked))
