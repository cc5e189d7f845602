# SPDX-License-Identifier: Apache-2.0
"""The DNS names that Services vouch for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhook.issuance.samples import pod, service
from webhook.api.objects import Service
from webhook.issuance.service_names import MAX_NAME_BYTES, ServiceIndex, dns_names, vouched_names

STATEFUL = {"hostname": "web-0", "subdomain": "web"}
LONG = "a" * 63


def names(*services, of=None, cluster_domain="cluster.local", short_names=False):
    return dns_names(
        of or pod(),
        ServiceIndex(services),
        cluster_domain=cluster_domain,
        short_names=short_names,
    )


class TestSelection:
    def test_a_service_that_selects_the_pod(self):
        """It vouches for its name within the cluster, and with the cluster's domain."""
        assert names(service()) == ("web.shop.svc", "web.shop.svc.cluster.local")

    def test_without_services(self):
        """Nobody vouches: there is no name."""
        assert names() == ()

    def test_several(self):
        """All names are listed, sorted and each once."""
        assert names(service("web"), service("api"), service("web")) == (
            "api.shop.svc",
            "api.shop.svc.cluster.local",
            "web.shop.svc",
            "web.shop.svc.cluster.local",
        )

    @pytest.mark.parametrize(
        ("selector", "labels", "is_selected"),
        [
            ({"app": "web"}, {"app": "web"}, True),
            ({"app": "web"}, {"app": "web", "tier": "front"}, True),
            ({"app": "web", "tier": "front"}, {"app": "web", "tier": "front"}, True),
            ({"app": "web", "tier": "front"}, {"app": "web"}, False),
            ({"app": "web", "tier": "front"}, {"tier": "front"}, False),
            ({"app": "web"}, {"app": "Web"}, False),
            ({"app": "web"}, {"App": "web"}, False),
            ({"app": "web"}, {"app": "web2"}, False),
            ({"app": "web"}, {"app": ""}, False),
            ({"app": ""}, {"app": ""}, True),
            ({"app": ""}, {}, False),
            ({"app": "web"}, {}, False),
            ({}, {"app": "web"}, False),
            ({}, {}, False),
            ({"*": "*"}, {"app": "web"}, False),
            ({"app": "*"}, {"app": "web"}, False),
        ],
    )
    def test_labels(self, selector, labels, is_selected):
        """All pairs of a selector must be labels, exactly; an empty selector selects nobody."""
        found = names(service(selector=selector), of=pod(labels=labels))
        assert bool(found) is is_selected

    def test_another_namespace(self):
        """A Service of another namespace vouches for nobody here."""
        assert names(service(namespace="bank")) == ()

    @pytest.mark.parametrize(
        ("spec", "count"),
        [
            ({"type": "ClusterIP"}, 2),
            ({"type": "NodePort"}, 2),
            ({"type": "LoadBalancer"}, 2),
            ({"type": "ExternalName", "externalName": "bank.example"}, 0),
            ({"clusterIP": "None"}, 2),
            ({"selector": None}, 0),
            ({"externalIPs": ["192.0.2.1"]}, 2),
        ],
    )
    def test_types(self, spec, count):
        """Every Service with a selector does, but for an alias of a name outside."""
        assert len(names(service(**spec))) == count


class TestForms:
    def test_another_cluster_domain(self):
        """The cluster's own domain is the configured one."""
        found = names(service(), cluster_domain="k8s.example.org")
        assert found == ("web.shop.svc", "web.shop.svc.k8s.example.org")

    def test_short_names(self):
        """Only where the platform wants them, and they mean nothing outside."""
        selecting = service(namespace="payments")
        mine = pod(namespace="payments")
        assert "web.payments" not in names(selecting, of=mine)
        assert "web.payments" in names(selecting, of=mine, short_names=True)

    @pytest.mark.parametrize("namespace", ["com", "shop", "local", "svc", "uk", "10", "internal"])
    def test_short_names_that_mean_something_outside(self, namespace):
        """Service `google` in namespace `com` never becomes `google.com`."""
        found = names(
            service("google", namespace=namespace), of=pod(namespace=namespace), short_names=True
        )
        assert found == (f"google.{namespace}.svc", f"google.{namespace}.svc.cluster.local")

    def test_a_pod_of_a_stateful_set(self):
        """Under a headless Service that selects it, the pod has a name of its own."""
        found = names(service(clusterIP="None"), of=pod(spec=STATEFUL))
        assert found == (
            "web-0.web.shop.svc",
            "web-0.web.shop.svc.cluster.local",
            "web.shop.svc",
            "web.shop.svc.cluster.local",
        )

    @pytest.mark.parametrize(
        ("selecting", "spec"),
        [
            pytest.param(service(clusterIP="10.0.0.7"), STATEFUL, id="not-headless"),
            pytest.param(
                service(clusterIP="None"), {"hostname": "web-0", "subdomain": "api"}, id="another"
            ),
            pytest.param(service(clusterIP="None"), {"hostname": "web-0"}, id="no-subdomain"),
            pytest.param(service(clusterIP="None"), {"subdomain": "web"}, id="no-hostname"),
            pytest.param(
                service(clusterIP="None"), {"hostname": "*", "subdomain": "web"}, id="wildcard"
            ),
            pytest.param(
                service(clusterIP="None"), {"hostname": "a.b", "subdomain": "web"}, id="two-labels"
            ),
        ],
    )
    def test_pods_without_a_name_of_their_own(self, selecting, spec):
        """Nothing but host name and subdomain of such a Service gives a pod its own name."""
        assert names(selecting, of=pod(spec=spec)) == ("web.shop.svc", "web.shop.svc.cluster.local")

    def test_a_subdomain_of_a_service_that_does_not_select(self):
        """A pod that names a headless Service gets nothing where that does not select it."""
        other = service(clusterIP="None", selector={"app": "other"})
        assert names(other, of=pod(spec=STATEFUL)) == ()

    def test_short_names_of_pods(self):
        """A pod's own name has no short form: in some namespace it would be a Service's."""
        found = names(
            service(namespace="payments", clusterIP="None"),
            of=pod(namespace="payments", spec=STATEFUL),
            short_names=True,
        )
        assert "web-0.web.payments" not in found

    @pytest.mark.parametrize("name", ["*", "a.b", "A", "", "-a", "a-", "a" * 64, "a\n", "ä"])
    def test_names_that_are_no_labels(self, name):
        """What the API server would never store is no part of a name, wildcards least of all."""
        assert names(service(name)) == ()

    def test_no_wildcards(self):
        """No name has a star, whatever there is."""
        every = [service(f"s{number}", clusterIP="None") for number in range(20)]
        assert not any("*" in name for name in names(*every, of=pod(spec=STATEFUL)))


class TestRoom:
    def test_a_name_that_is_too_long(self):
        """A name of more than 253 characters is no DNS name: the others stay."""
        domain = ".".join([LONG, LONG, "a" * 20])
        mine = pod(namespace=LONG)
        found = vouched_names(
            mine,
            ServiceIndex([service(LONG, namespace=LONG)]),
            cluster_domain=domain,
            short_names=False,
        )
        assert found.names == (f"{LONG}.{LONG}.svc",)
        assert found.left_out == 1

    def test_too_many(self):
        """More than there is room for is left out by the order of names, never failed."""
        every = [service(f"s{number:04}") for number in range(1000)]
        first = vouched_names(
            pod(), ServiceIndex(every), cluster_domain="cluster.local", short_names=False
        )
        again = vouched_names(
            pod(), ServiceIndex(reversed(every)), cluster_domain="cluster.local", short_names=False
        )
        assert first == again
        assert first.services == 1000
        assert len(first.names) + first.left_out == 2000
        assert MAX_NAME_BYTES - 100 < sum(map(len, first.names)) <= MAX_NAME_BYTES
        assert "s0000.shop.svc" in first.names
        assert "s0999.shop.svc" not in first.names

    def test_what_there_is_room_for(self):
        """A pod of 300 Services has all their names."""
        every = [service(f"s{number:04}") for number in range(300)]
        assert len(names(*every)) == 600


class TestServiceIndex:
    def test_changes(self):
        """What an informer tells is what selects: added, changed, deleted."""
        index, first = ServiceIndex(), service("a")
        index.apply(None, first)
        assert [each.name for each in index.selecting(pod())] == ["a"]
        moved = service("a", selector={"app": "other"})
        index.apply(first, moved)
        assert index.selecting(pod()) == []
        index.apply(moved, service("a"))
        index.apply(service("a"), None)
        assert index.selecting(pod()) == []

    def test_a_service_that_loses_its_selector(self):
        """It vouches for nobody from then on."""
        index = ServiceIndex([service()])
        index.apply(service(), service(selector={}))
        assert index.selecting(pod()) == []

    def test_a_service_that_becomes_an_alias(self):
        """It vouches for nobody from then on, whatever its selector says."""
        index = ServiceIndex([service()])
        index.apply(service(), service(type="ExternalName"))
        assert index.selecting(pod()) == []

    def test_events_twice(self):
        """An event that comes again changes nothing."""
        index = ServiceIndex([service()])
        index.apply(None, service())
        index.apply(service(), service())
        assert len(index.selecting(pod())) == 1
        index.apply(service(), None)
        index.apply(service(), None)
        assert index.selecting(pod()) == []

    def test_nothing_is_left_behind(self):
        """Services that went leave no memory behind."""
        index = ServiceIndex()
        for number in range(100):
            index.apply(None, service(f"s{number}", selector={"n": str(number)}))
        for number in range(100):
            index.apply(service(f"s{number}", selector={"n": str(number)}), None)
        assert index._buckets == {}

    labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)

    @given(
        mine=labels,
        changes=st.lists(
            st.tuples(st.sampled_from(["s", "t", "u"]), st.one_of(st.none(), labels)), max_size=12
        ),
    )
    def test_like_kubernetes(self, mine, changes):
        """After any changes, those select that do by Kubernetes' rule, and no others."""
        index, current = ServiceIndex(), {}
        for name, selector in changes:
            new = None if selector is None else service(name, selector=selector)
            index.apply(current.get(name), new)
            current[name] = new
        expected = sorted(
            name
            for name, each in current.items()
            if each is not None
            and each.selector
            and all(item in mine.items() for item in each.selector.items())
        )
        assert [each.name for each in index.selecting(pod(labels=mine))] == expected
        assert all(isinstance(each, Service) for each in index.selecting(pod(labels=mine)))
