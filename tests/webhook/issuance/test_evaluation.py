# SPDX-License-Identifier: Apache-2.0
"""What a request is granted, and why it is refused."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhook.issuance.samples import CONFIG, PREFIX, SIGNER, key, pod, request, service
from webhook.config import KeyType
from webhook.exceptions import IssuanceError
from webhook.issuance.evaluation import evaluate
from webhook.issuance.service_names import ServiceIndex

PAYMENTS = f"{PREFIX}/payments"
HOUR = timedelta(hours=1)
NO_SERVICES = ServiceIndex()


def granted(asked=None, *, by=None, services=(), config=CONFIG):
    return evaluate(
        asked or request(), pod=by or pod(), services=ServiceIndex(services), config=config
    )


def refused(asked=None, *, by=None):
    """The refusal: its reason, and whether it may pass."""
    with pytest.raises(IssuanceError) as caught:
        evaluate(asked or request(), pod=by, services=NO_SERVICES, config=CONFIG)
    return caught.value.reason, caught.value.is_retryable


class TestGrant:
    def test_the_identity(self):
        """The identity is the zone's trust domain, the namespace and the service account."""
        found = granted()
        assert str(found.spiffe_id) == "spiffe://example.org/ns/shop/sa/web"
        assert found.zone is CONFIG.zones["default"]
        assert found.public_key == key().public_key()
        assert found.warnings == ()

    def test_names(self):
        """The names are those of the Services that select the pod now."""
        assert granted().dns_names == ()
        assert granted(services=[service()]).dns_names == (
            "web.shop.svc",
            "web.shop.svc.cluster.local",
        )

    def test_short_names(self):
        """Short names are the namespace rule's to allow, and never a registry's."""
        for namespace, expected in (("short", True), ("shop", False), ("com", False)):
            found = granted(
                request(namespace=namespace),
                by=pod(namespace=namespace),
                services=[service(namespace=namespace)],
            )
            assert (f"web.{namespace}" in found.dns_names) is expected

    def test_the_common_name(self):
        """The pod's name is for people."""
        assert granted(services=[service()]).common_name == "web-0"

    def test_a_host_as_pod_name(self):
        """Without DNS names clients would take the common name for one: there is none."""
        name = "bank.other.svc"
        assert granted(request(pod_name=name), by=pod(name=name)).common_name is None

    def test_a_long_pod_name(self):
        """A pod name that is too long for a common name is shortened, not refused."""
        name = "a" * 253
        found = granted(request(pod_name=name), by=pod(name=name), services=[service()])
        assert len(found.common_name) == 64

    def test_too_many_names(self):
        """Names that there is no room for are told, and the certificate is issued."""
        found = granted(services=[service(f"s{number:04}") for number in range(1000)])
        assert found.dns_names
        assert found.warnings == (
            f"{2000 - len(found.dns_names)} DNS names of its Services are too long or too many:"
            " left out",
        )

    def test_the_longest_names(self):
        """The longest names that Kubernetes allows make an identity."""
        account, namespace = "s" * 253, "short"
        asked = request(namespace=namespace, service_account=account)
        by = pod(namespace=namespace, spec={"serviceAccountName": account})
        assert granted(asked, by=by).spiffe_id.service_account == account

    @pytest.mark.parametrize("account", ["a/b", "..", "a b", "ä", "a%2fb", "a\n"])
    def test_accounts_that_are_no_names(self, account):
        """A service account that Kubernetes would never store gets no identity."""
        asked = request(service_account=account)
        by = pod(spec={"serviceAccountName": account})
        assert refused(asked, by=by) == ("InvalidRequest", False)


class TestPod:
    def test_not_seen_yet(self):
        """A pod that is not there yet is waited for."""
        assert refused(by=None) == ("PodNotSeen", True)

    def test_not_bound_yet(self):
        """A pod that is not seen on its node yet is waited for."""
        assert refused(by=pod(spec={"nodeName": ""})) == ("PodNotSeen", True)

    def test_another_pod_of_its_name(self):
        """Another UID is a view that is behind, or a request of a pod that is gone: no denial."""
        assert refused(by=pod(uid="another")) == ("PodMismatch", True)

    @pytest.mark.parametrize(
        "by",
        [
            pytest.param(pod(name="web-1"), id="name"),
            pytest.param(pod(namespace="bank"), id="namespace"),
            pytest.param(pod(spec={"nodeName": "node-2"}), id="node"),
            pytest.param(pod(spec={"serviceAccountName": "admin"}), id="account"),
            pytest.param(pod(spec={"serviceAccountName": None}), id="default-account"),
        ],
    )
    def test_mismatches(self, by):
        """What the request says of the pod must be so."""
        assert refused(by=by) == ("PodMismatch", False)

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
    def test_ended(self, phase):
        """A pod whose containers have ended for good gets no more certificates."""
        assert refused(by=pod(phase=phase)) == ("PodTerminal", False)

    @pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown"])
    def test_living(self, phase):
        """A pod in any other phase does."""
        assert granted(by=pod(phase=phase))

    def test_terminating(self):
        """A pod that is being deleted gets no more certificates."""
        by = pod(deletionTimestamp="2026-11-25T12:00:00Z")
        assert refused(by=by) == ("PodTerminal", False)

    def test_mirror_pods(self):
        """A static pod has no service account that anybody verified."""
        by = pod()
        mirror = type(by)(
            **{name: getattr(by, name) for name in by.__slots__} | {"is_mirror": True}
        )
        assert refused(by=mirror) == ("NotAllowedInNamespace", False)


class TestZone:
    @pytest.mark.parametrize(
        ("namespace", "signer", "zone"),
        [
            ("shop", SIGNER, None),
            ("shop", PAYMENTS, None),
            ("pay", SIGNER, None),
            ("pay", PAYMENTS, None),
            ("both", SIGNER, None),
            ("both", PAYMENTS, None),
            ("both", SIGNER, "default"),
            ("both", PAYMENTS, "payments"),
            ("both", SIGNER, "payments"),
            ("both", PAYMENTS, "default"),
            ("both", SIGNER, "unknown"),
            ("shop", SIGNER, "payments"),
            ("shop", PAYMENTS, "payments"),
            ("nowhere", SIGNER, None),
            ("both", "example.org/other", None),
            ("both", "", None),
        ],
    )
    def test_zones(self, namespace, signer, zone):
        """A signer is granted where the namespace may have its zone, and the pod's own is it."""
        allowed = {
            ("shop", SIGNER, None): "example.org",
            ("pay", PAYMENTS, None): "payments.example.org",
            ("both", SIGNER, None): "example.org",
            ("both", PAYMENTS, None): "payments.example.org",
            ("both", SIGNER, "default"): "example.org",
            ("both", PAYMENTS, "payments"): "payments.example.org",
        }
        asked = request(namespace=namespace, signer_name=signer)
        by = pod(namespace=namespace, annotations={} if zone is None else {"zone": zone})
        if (namespace, signer, zone) in allowed:
            found = granted(asked, by=by)
            assert str(found.zone.trust_domain) == allowed[namespace, signer, zone]
            assert found.spiffe_id.trust_domain == found.zone.trust_domain
        else:
            assert refused(asked, by=by) == ("NotAllowedInNamespace", False)

    def test_a_foreign_zone_by_hand(self):
        """A hand-written volume for a zone that the namespace may not have gets nothing."""
        with pytest.raises(IssuanceError, match=rf"'{PAYMENTS}' is not one of namespace 'shop'"):
            granted(request(signer_name=PAYMENTS))


class TestRequest:
    @pytest.mark.parametrize("kind", KeyType)
    @pytest.mark.parametrize(
        ("namespace", "allowed"),
        [
            ("shop", {KeyType.ECDSA_P256, KeyType.ECDSA_P384}),
            ("both", {KeyType.ECDSA_P256}),
            ("all", set(KeyType)),
        ],
    )
    def test_key_types(self, kind, namespace, allowed):
        """A key of a type that the namespace's rule does not list has the documented reason."""
        asked = request(namespace=namespace, key_type=kind)
        by = pod(namespace=namespace)
        if kind in allowed:
            assert granted(asked, by=by)
        else:
            assert refused(asked, by=by) == ("UnsupportedKeyType", False)

    def test_annotations_for_the_signer(self):
        """We know none, so any is refused with the documented reason."""
        asked = request(annotations={"example.org/dns": "bank.example"})
        assert refused(asked, by=pod()) == ("InvalidUnverifiedUserAnnotations", False)


class TestLifetime:
    @pytest.mark.parametrize(
        ("hours", "requested", "chosen"),
        [
            pytest.param(24, 24, None, id="default"),
            pytest.param(24, 91 * 24, None, id="default-under-a-longer-request"),
            pytest.param(2, 2, None, id="shorter-request"),
            pytest.param(6, 24, "6h", id="chosen"),
            pytest.param(24, 24, "7d", id="chosen-longer-than-the-request"),
            pytest.param(7 * 24, 91 * 24, "7d", id="chosen-maximum"),
            pytest.param(24, 91 * 24, "8d", id="longer-than-the-rule-allows-now"),
            pytest.param(24, 91 * 24, "nonsense", id="unreadable"),
            pytest.param(1, 1, "1h", id="shortest"),
        ],
    )
    def test_the_shortest_counts(self, hours, requested, chosen):
        """Rule, pod and request each set a limit, and a rule that was narrowed ends no pod."""
        asked = request(requested_lifetime=timedelta(hours=requested))
        by = pod(annotations={} if chosen is None else {"lifetime": chosen})
        assert granted(asked, by=by).lifetime == hours * HOUR

    def test_too_short(self):
        """Less than the API's shortest lifetime cannot be had."""
        asked = request(requested_lifetime=HOUR - timedelta(seconds=1))
        assert refused(asked, by=pod()) == ("LifetimeTooShort", False)

    @given(st.integers(3600, 7862400), st.one_of(st.none(), st.integers(1, 91 * 24)), st.booleans())
    def test_bounds(self, requested, chosen, is_pay):
        """Whatever is asked for, it lies within the API's bounds, the request's and the rule's."""
        namespace, signer = ("pay", PAYMENTS) if is_pay else ("shop", SIGNER)
        limit = timedelta(seconds=requested)
        found = granted(
            request(namespace=namespace, signer_name=signer, requested_lifetime=limit),
            by=pod(
                namespace=namespace,
                annotations={} if chosen is None else {"lifetime": f"{chosen}h"},
            ),
        )
        assert HOUR <= found.lifetime <= limit
        assert found.lifetime <= CONFIG.rule_for(namespace).lifetime.maximum


class TestEarlyRefresh:
    @pytest.mark.parametrize(
        ("phase", "services", "is_early"),
        [
            ("Pending", [], True),
            ("Pending", [service()], False),
            ("Running", [], False),
            ("Running", [service()], False),
            ("Pending", [service(selector={"app": "other"})], True),
        ],
    )
    def test_a_young_pod_without_services(self, phase, services, is_early):
        """A pod that has not started yet and has no Service asks again as soon as it may."""
        assert granted(by=pod(phase=phase), services=services).refreshes_early is is_early
