# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.webhook.api.rude_server import listing, refusal
from webhook.api import Api, GoneError
from webhook.api.resources import NAMESPACES, POD_CERTIFICATE_REQUESTS, PODS

pytestmark = pytest.mark.anyio


class TestList:
    async def test_pages_are_joined(self, api, server):
        """All objects, and the version of the whole list."""
        server.answer(listing("a", token="t&1"), listing("b", token="t2"), listing("c"))
        found = await api.list(PODS, field_selector="spec.x=a,b!=c", label_selector="k in (a, b)")
        assert [item["metadata"]["name"] for item in found.items] == ["a", "b", "c"]
        assert found.resource_version == "4"
        assert [each.query.get("continue") for each in server.requests] == [None, "t&1", "t2"]
        assert {"spec.x=a,b!=c"} == {each.query["fieldSelector"] for each in server.requests}
        assert {"k in (a, b)"} == {each.query["labelSelector"] for each in server.requests}

    async def test_an_expired_page_begins_anew_without_pages(self, api, server):
        """Objects of two lists are never mixed, and the second attempt cannot expire."""
        server.answer(listing("a", token="t"), refusal(410, "Expired"), listing("b", "c"))
        found = await api.list(PODS)
        assert [item["metadata"]["name"] for item in found.items] == ["b", "c"]
        assert "limit" not in server.requests[-1].query

    async def test_a_list_that_expires_even_so_is_an_error(self, api, server):
        """It ends."""
        server.answer(refusal(410, "Expired"))
        with pytest.raises(GoneError):
            await api.list(PODS)

    async def test_null_items_are_none(self, api, server):
        """Go writes an empty list as null."""
        server.answer({"metadata": {"resourceVersion": "1"}, "items": None})
        assert (await api.list(PODS)).items == []


class TestPages:
    async def test_an_expired_page_is_the_caller_s(self, api, server):
        """Who has taken in pages must know that they begin anew."""
        server.answer(listing("a", token="t"), refusal(410, "Expired"))
        pages = api.pages(PODS, size=1)
        first = await anext(pages)
        with pytest.raises(GoneError):
            await anext(pages)
        assert (len(first.items), server.requests[0].query["limit"]) == (1, "1")


class TestServes:
    @pytest.mark.parametrize(
        ("expected", "answer"),
        [
            pytest.param(True, {"resources": [{"name": "podcertificaterequests"}]}, id="served"),
            pytest.param(False, {"resources": [{"name": "clustertrustbundles"}]}, id="others"),
            pytest.param(False, {"resources": None}, id="none"),
            pytest.param(False, refusal(404, "NotFound"), id="no such version"),
        ],
    )
    async def test_discovery_decides(self, api, server, expected, answer):
        """The kind in its version, not only the group."""
        server.answer(answer)
        assert await api.serves(POD_CERTIFICATE_REQUESTS) is expected
        assert server.requests[0].path == "/apis/certificates.k8s.io/v1"


class TestVersion:
    @pytest.mark.parametrize(
        ("expected", "major", "minor"),
        [((1, 37), "1", "37"), ((1, 29), "1", "29+"), ((0, 0), "", None)],
    )
    async def test_numbers_are_read(self, api, server, expected, major, minor):
        """Providers append signs of their own."""
        server.answer({"major": major, "minor": minor})
        assert await api.version() == expected


class TestDelete:
    async def test_the_namespace_of_a_namespace_is_none(self, api, server):
        """A cluster-scoped object is deleted by its name."""
        server.answer({"kind": "Status"})
        await api.delete(NAMESPACES, "shop", uid="u")
        request = server.requests[0]
        assert (request.method, request.path) == ("DELETE", "/api/v1/namespaces/shop")


class TestRepr:
    async def test_it_names_the_server_only(self, api, server):
        """No token, no certificate."""
        assert repr(api) == f"<{Api.__name__} <Transport {server.url}>>"
