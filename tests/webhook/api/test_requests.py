# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from webhook.api import InvalidError
from webhook.api.requests import (
    apply_request,
    create_request,
    delete_request,
    patch_request,
    replace_request,
)
from webhook.api.resources import POD_CERTIFICATE_REQUESTS, PODS, SECRETS

WEB = {"metadata": {"name": "web", "namespace": "shop"}}


class TestCreate:
    def test_what_a_body_leaves_out_is_filled_in(self):
        """ApiVersion and kind are the resource's."""
        request = create_request(PODS, WEB, None)
        assert request[:2] == ("POST", "/api/v1/namespaces/shop/pods")
        assert request.body == {"apiVersion": "v1", "kind": "Pod", **WEB}

    def test_a_subresource_keeps_its_own_type(self):
        """A TokenRequest is no ServiceAccount."""
        token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", **WEB}
        request = create_request(PODS, token, None, subresource="token")
        assert request.path.endswith("/web/token")
        assert request.body == token


class TestReplace:
    def test_the_status_is_a_path_of_its_own(self):
        """One PUT to `/status` is all that a signer sends."""
        request = replace_request(POD_CERTIFICATE_REQUESTS, WEB, subresource="status")
        path = "/apis/certificates.k8s.io/v1/namespaces/shop/podcertificaterequests/web/status"
        assert ("PUT", path) == request[:2]

    @pytest.mark.parametrize("body", [{}, {"metadata": {}}, {"metadata": []}, {"metadata": "x"}])
    def test_an_object_without_a_name_is_refused(self, body):
        """Nothing is sent to a path that was not meant."""
        with pytest.raises(InvalidError):
            replace_request(PODS, body)


class TestPatch:
    def test_it_is_a_merge_patch(self):
        """Strategic merge would join lists by rules of each type."""
        assert patch_request(PODS, WEB).content_type == "application/merge-patch+json"


class TestApply:
    @pytest.mark.parametrize(("force", "written"), [(True, "true"), (False, "false")])
    def test_force_is_said(self, force, written):
        """The manager and whether it takes fields from others stand in the query."""
        request = apply_request(PODS, WEB, field_manager="us", force=force)
        assert request.query == {"fieldManager": "us", "force": written}


class TestDelete:
    def test_preconditions_are_sent(self):
        """Only the object that was meant is deleted, never its successor of the same name."""
        request = delete_request(PODS, "web", "shop", uid="u", resource_version="7")
        assert request.body["preconditions"] == {"uid": "u", "resourceVersion": "7"}


class TestRequest:
    def test_its_repr_has_no_body(self):
        """Bodies of Secrets must not reach a traceback."""
        secret = {"metadata": {"name": "k", "namespace": "shop"}, "data": {"tls.key": "c2VjcmV0"}}
        assert "c2VjcmV0" not in repr(replace_request(SECRETS, secret))

    def test_one_about_secrets_is_quiet(self):
        """What the API server says about a Secret may quote it."""
        assert delete_request(SECRETS, "k", "shop").is_quiet
