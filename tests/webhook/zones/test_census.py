# SPDX-License-Identifier: Apache-2.0
"""What the injected pods of a cluster have, held against the configuration."""

from tests.webhook.zones.platforms import platform, pod
from webhook.zones.census import census
from webhook.zones.cluster_state import ClusterState, EquippedPod


def counted(*pods, namespaces=(), config=None):
    """The census, by namespace."""
    parsed = tuple(each for each in map(EquippedPod.parse, pods) if each)
    state = ClusterState(namespaces, parsed, ())
    return {each.name: each for each in census(config or platform(), state)}


class TestNamespaces:
    def test_the_rule_that_decides(self):
        """Each namespace is with the first rule that names it."""
        found = counted(namespaces=("kube-system", "card-eu", "lab-1", "shop"))
        assert {name: each.group for name, each in found.items()} == {
            "card-eu": 2,
            "kube-system": 1,
            "lab-1": 3,
            "shop": 4,
        }

    def test_no_rule(self):
        """A namespace that no rule names has none."""
        config = platform(rules=[{"names": ["shop"]}], partners=())
        assert counted(namespaces=("tools",), config=config)["tools"].group is None


class TestPods:
    def test_zone_by_signer(self):
        """The zone is the one whose signer the volume asks, whatever annotations say."""
        found = counted(pod("shop", "a", zone="pci", said={"zone": "main"}))["shop"]
        assert found.zones == {"pci": 1}
        assert found.misplaced == ["a"]

    def test_zone_of_secret_mode(self):
        """Without a signer in the pod, the zone is that of annotation and rule."""
        first = pod("lab-1", "a", zone=None)
        second = pod("lab-1", "b", zone=None, said={"zone": "main"})
        assert counted(first, second)["lab-1"].zones == {"lab": 1, "main": 1}

    def test_bundles(self):
        """Bundles in the volume beside the zone's own are counted; those not allowed are named."""
        fine = pod("shop", "a", trusts=["acme.example"])
        other = pod("tools", "b", trusts=["acme.example"])
        found = counted(fine, other)
        assert found["shop"].trusts == {"acme.example": 1}
        assert found["shop"].excessive == []
        assert found["tools"].excessive == ["b"]

    def test_unknown_signer(self):
        """A signer that no zone has is no zone."""
        found = counted(pod("shop", "a", zone="example.org/foreign"))["shop"]
        assert found.zones == {"": 1}
        assert found.misplaced == ["a"]

    def test_secret_mode_without_a_right(self):
        """A pod of the Secret mode that may have nothing today is in no zone."""
        config = platform(rules=[{"names": ["shop"]}], partners=())
        assert counted(pod("tools", "a", zone=None), config=config)["tools"].misplaced == ["a"]

    def test_not_counted(self):
        """Pods that ended, and those that are not injected."""
        plain = pod("shop", "c")
        plain["metadata"]["annotations"] = {}
        assert counted(pod("shop", "a", phase="Succeeded"), plain) == {}
