# SPDX-License-Identifier: Apache-2.0
"""The API server as a service account sees it."""

from __future__ import annotations

import json
import ssl
from http import HTTPStatus
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any

from cluster.api import Api, _error

if TYPE_CHECKING:
    from cluster import ControlPlane

_REVIEWS = "/apis/authorization.k8s.io/v1"


class Account(Api):
    """Requests with the token of a service account.

    Args:
        control_plane: The cluster.
        namespace: Of the account.
        name: Of the account.
        pod: The pod that the token is bound to; None: to none.
        audience: Of the token; None: the API server's own.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        namespace: str,
        name: str,
        *,
        pod: dict[str, Any] | None = None,
        audience: str | None = None,
    ) -> None:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        spec: dict[str, Any] = {"expirationSeconds": 3600}
        if pod is not None:
            bound = {key: pod["metadata"][key] for key in ("name", "uid")}
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", **bound}
        if audience is not None:
            spec["audiences"] = [audience]
        answer = control_plane.api.post(path, {"spec": spec})
        self._token = answer["status"]["token"]
        self._port = control_plane.port
        self._context = ssl.create_default_context(cadata=control_plane.authority_pem.decode())

    def status(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        """The status of a request's answer, whatever it is."""
        return self._exchange(method, path, json.dumps(body) if body else None)[0]

    def refusal(self, method: str, path: str, body: dict[str, Any] | None = None) -> str:
        """The message with which a request is forbidden; empty when it is not forbidden."""
        status, text = self._exchange(method, path, json.dumps(body) if body else None)
        error = _error(status, text)
        return str(error) if error.status == HTTPStatus.FORBIDDEN else ""

    def may(self, verb: str, resource: str, **attributes: str) -> bool:
        """Whether the API server's authorizer would allow something.

        Args:
            verb: Such as `get`.
            resource: `plural`, `plural/subresource`, with the group behind a dot.
            attributes: `name`, `namespace`.
        """
        plain, _, group = resource.partition(".")
        plural, _, subresource = plain.partition("/")
        wanted = {"verb": verb, "resource": plural, "group": group, "subresource": subresource}
        review = {"spec": {"resourceAttributes": {**wanted, **attributes}}}
        answer = self.post(f"{_REVIEWS}/selfsubjectaccessreviews", review)
        return bool(answer["status"].get("allowed"))

    def rules(self, namespace: str) -> list[str]:
        """All that the account may do to resources in a namespace, one rule an entry."""
        review = {"spec": {"namespace": namespace}}
        answer = self.post(f"{_REVIEWS}/selfsubjectrulesreviews", review)
        return sorted(
            json.dumps(each, sort_keys=True) for each in answer["status"]["resourceRules"]
        )

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        kind = "merge-patch+json" if method == "PATCH" else "json"
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json",
            "Content-Type": f"application/{kind}",
        }
        connection = HTTPSConnection("127.0.0.1", self._port, context=self._context, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
