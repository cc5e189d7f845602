# SPDX-License-Identifier: Apache-2.0
"""Each verb of the Kubernetes API as a request: method, path, query and body, nothing sent.

Rules:
    1. A request about Secrets is quiet: what is answered about it is not repeated in errors.
    2. Its `repr` has no body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from webhook.api.errors import InvalidError
from webhook.api.resources import SECRETS, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "Request",
    "apply_request",
    "create_request",
    "delete_request",
    "get_request",
    "list_request",
    "patch_request",
    "replace_request",
    "selection",
    "watch_request",
)

_DRY_RUN: Final = {"dryRun": "All"}


class Request(NamedTuple):
    """One request, before it has an address and credentials.

    Attributes:
        what: Names it in errors, such as `GET pods shop/web-0`.
    """

    method: str
    path: str
    what: str
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"
    is_quiet: bool = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.what}>"


def selection(field_selector: str | None, label_selector: str | None) -> dict[str, str]:
    """The query of a list or watch."""
    wanted = {"fieldSelector": field_selector, "labelSelector": label_selector}
    return {key: value for key, value in wanted.items() if value}


def get_request(resource: Resource, name: str, namespace: str | None) -> Request:
    """Read one object."""
    return _on_object("GET", resource, name, namespace)


def list_request(resource: Resource, namespace: str | None, query: Mapping[str, str]) -> Request:
    """Read many objects."""
    return _on_collection("GET", resource, namespace, what="list", query=query)


def watch_request(resource: Resource, namespace: str | None, query: Mapping[str, str]) -> Request:
    """Follow changes."""
    return _on_collection("GET", resource, namespace, what="watch", query=query)


def create_request(
    resource: Resource,
    body: Mapping[str, Any],
    namespace: str | None,
    *,
    subresource: str | None = None,
    dry_run: bool = False,
) -> Request:
    """Create an object, or a subresource of the object that the body names."""
    namespace = namespace or _metadata(body).get("namespace")
    query = _DRY_RUN if dry_run else None
    if subresource is None:
        request = _on_collection("POST", resource, namespace, what="POST", query=query)
        return request._replace(body=_typed(resource, body))
    request = _on_object("POST", resource, _name(body), namespace, subresource=subresource)
    return request._replace(query=query, body=body)


def replace_request(
    resource: Resource,
    body: Mapping[str, Any],
    *,
    subresource: str | None = None,
    dry_run: bool = False,
) -> Request:
    """Replace an object, or its subresource."""
    namespace = _metadata(body).get("namespace")
    request = _on_object("PUT", resource, _name(body), namespace, subresource=subresource)
    query = _DRY_RUN if dry_run else None
    return request._replace(query=query, body=_typed(resource, body))


def patch_request(
    resource: Resource, body: Mapping[str, Any], *, subresource: str | None = None
) -> Request:
    """Merge into an object (JSON merge patch, RFC 7386)."""
    namespace = _metadata(body).get("namespace")
    request = _on_object("PATCH", resource, _name(body), namespace, subresource=subresource)
    return request._replace(body=body, content_type="application/merge-patch+json")


def apply_request(
    resource: Resource,
    body: Mapping[str, Any],
    *,
    field_manager: str,
    force: bool = False,
    dry_run: bool = False,
) -> Request:
    """Make an object have these fields (server-side apply)."""
    query = {"fieldManager": field_manager, "force": "true" if force else "false"}
    request = _on_object("PATCH", resource, _name(body), _metadata(body).get("namespace"))
    return request._replace(
        query=query | (_DRY_RUN if dry_run else {}),
        body=_typed(resource, body),
        content_type="application/apply-patch+yaml",
    )


def delete_request(
    resource: Resource,
    name: str,
    namespace: str | None,
    *,
    uid: str | None = None,
    resource_version: str | None = None,
) -> Request:
    """Delete an object if it is the one that is meant; dependents go in the background."""
    wanted = {"uid": uid, "resourceVersion": resource_version}
    preconditions = {key: value for key, value in wanted.items() if value is not None}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    body = {**options, **({"preconditions": preconditions} if preconditions else {})}
    return _on_object("DELETE", resource, name, namespace)._replace(body=body)


def _on_object(
    method: str,
    resource: Resource,
    name: str,
    namespace: str | None,
    *,
    subresource: str | None = None,
) -> Request:
    path = resource.path(name, namespace=namespace, subresource=subresource)
    plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
    target = f"{namespace}/{name}" if namespace else name
    return Request(method, path, f"{method} {plural} {target}", is_quiet=_is_quiet(resource))


def _on_collection(
    method: str,
    resource: Resource,
    namespace: str | None,
    *,
    what: str,
    query: Mapping[str, str] | None,
) -> Request:
    path = resource.collection(namespace)
    told = f"{what} {resource.plural}" + (f" in {namespace}" if namespace else "")
    return Request(method, path, told, query=query, is_quiet=_is_quiet(resource))


def _is_quiet(resource: Resource) -> bool:
    return (resource.group, resource.plural) == (SECRETS.group, SECRETS.plural)


def _typed(resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}


def _metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InvalidError("expected an object with metadata")
    return metadata


def _name(body: Mapping[str, Any]) -> str:
    name = _metadata(body).get("name")
    if not isinstance(name, str):
        raise InvalidError("expected metadata.name in the object")
    return name
