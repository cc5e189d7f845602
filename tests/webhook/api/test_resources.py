# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from webhook.api import InvalidError, resources
from webhook.api.resources import CLUSTER_TRUST_BUNDLES, EVENTS, NAMESPACES, PODS, Resource


class TestPath:
    @pytest.mark.parametrize(
        ("expected", "resource", "name", "namespace", "subresource"),
        [
            pytest.param("/api/v1/namespaces/shop/pods/web", PODS, "web", "shop", None, id="core"),
            pytest.param("/api/v1/namespaces/shop", NAMESPACES, "shop", None, None, id="cluster"),
            pytest.param(
                "/apis/events.k8s.io/v1/namespaces/shop/events/e",
                EVENTS,
                "e",
                "shop",
                None,
                id="group",
            ),
            pytest.param(
                "/apis/certificates.k8s.io/v1/clustertrustbundles/a.example:workload:b.example",
                CLUSTER_TRUST_BUNDLES,
                "a.example:workload:b.example",
                None,
                None,
                id="colons",
            ),
            pytest.param(
                "/api/v1/namespaces/shop/pods/web/status", PODS, "web", "shop", "status", id="sub"
            ),
            pytest.param(
                "/api/v1/namespaces/shop/pods/a%3Fb%23c%20d", PODS, "a?b#c d", "shop", None, id="?"
            ),
        ],
    )
    def test_an_object_has_one_path(self, expected, resource, name, namespace, subresource):
        """The path is the API's, and no name can leave its segment."""
        assert expected == resource.path(name, namespace=namespace, subresource=subresource)

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "%2e%2e", "a%2Fb", None, 7])
    def test_what_is_no_name_is_refused(self, name):
        """A delete of "" would be one of the whole collection, one of ".." of the namespace."""
        with pytest.raises(InvalidError):
            PODS.path(name, namespace="shop")

    @pytest.mark.parametrize("namespace", ["", "..", "a/b"])
    def test_what_is_no_namespace_is_refused(self, namespace):
        """An empty namespace would be the path of all."""
        with pytest.raises(InvalidError):
            PODS.path("web", namespace=namespace)

    def test_a_namespaced_object_needs_its_namespace(self):
        """Nothing is looked for in a namespace that nobody named."""
        with pytest.raises(InvalidError):
            PODS.path("web", namespace=None)

    def test_a_cluster_scoped_object_has_no_namespace(self):
        """A namespace that would be ignored is refused."""
        with pytest.raises(InvalidError):
            NAMESPACES.path("shop", namespace="shop")


class TestConstants:
    def test_each_constant_is_listed_and_different(self):
        """The module's names are its resources, none of them twice."""
        found = [getattr(resources, name) for name in resources.__all__ if name != "Resource"]
        assert all(isinstance(resource, Resource) for resource in found)
        assert len(set(found)) == len(found)
