# SPDX-License-Identifier: Apache-2.0
"""Who calls, as an application sees it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.server.caller import ANONYMOUS, SCOPE_KEY, Caller, caller
from tests.sdk.server.scopes import World


@pytest.fixture(scope="module")
def world():
    return World()


class TestCaller:
    def test_identity(self, world):
        """A caller has the identity of its peer, and its Kubernetes names."""
        found = world.connection().caller
        assert str(found) == "spiffe://example.org/ns/shop/sa/web"
        assert str(found.trust_domain) == "example.org"
        assert (found.namespace, found.service_account) == ("shop", "web")
        assert not found.is_anonymous

    @pytest.mark.parametrize("path", ["/web", "/ns/shop", "/ns/shop/sa/web/x", "/a/b/c/d"])
    def test_other_paths(self, world, path):
        """An identity of another form has no Kubernetes names."""
        found = world.connection(world.ca.issue(path)).caller
        assert (found.namespace, found.service_account) == (None, None)

    def test_anonymous(self):
        """Anonymous is a value without an identity."""
        assert ANONYMOUS.is_anonymous
        assert ANONYMOUS.spiffe_id is ANONYMOUS.trust_domain is ANONYMOUS.namespace is None
        assert ANONYMOUS.service_account is None
        assert str(ANONYMOUS) == "anonymous"
        assert Caller.of(None) is ANONYMOUS

    def test_frozen(self):
        """Nobody turns a caller into another."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            ANONYMOUS.spiffe_id = "spiffe://example.org/admin"


class TestAccess:
    def test_scope_and_request(self, world):
        """A scope works, and whatever has one."""
        found = world.connection().caller
        scope = {SCOPE_KEY: found}
        assert caller(scope) is caller(SimpleNamespace(scope=scope)) is found

    @pytest.mark.parametrize(
        "request_",
        [{}, {SCOPE_KEY: "spiffe://example.org/admin"}, SimpleNamespace(), None, "x"],
        ids=repr,
    )
    def test_without_a_caller(self, request_):
        """Whatever no middleware has seen is an error, never an anonymous caller."""
        with pytest.raises(ConfigurationError, match="KubeTLSMiddleware"):
            caller(request_)
