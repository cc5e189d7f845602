# SPDX-License-Identifier: Apache-2.0
"""The secret issuer's view of an API server: its rights, the type rule, and our policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhook.api.errors import ForbiddenError, InvalidError
from webhook.api.resources import SECRETS

if TYPE_CHECKING:
    from tests.webhook.api_double import ApiDouble


class GuardedApi:
    """Refuses what RBAC, the API server or the policy of our manifests refuses to this account.

    Args:
        api: The double with the objects.
        has_policy: Whether the ValidatingAdmissionPolicy is in force.
    """

    def __init__(self, api: ApiDouble, *, has_policy=True) -> None:
        self._api = api
        self.has_policy = has_policy
        self.tried = []

    def __getattr__(self, name):
        return getattr(self._api, name)

    async def get(self, resource, name, *, namespace=None):
        self._forbid(resource)
        return await self._api.get(resource, name, namespace=namespace)

    async def list(self, resource, **selection):
        self._forbid(resource)
        return await self._api.list(resource, **selection)

    async def delete(self, resource, name, **options):
        self._forbid(resource)
        return await self._api.delete(resource, name, **options)

    async def create(self, resource, body, **options):
        self._check(resource, body)
        return await self._api.create(resource, body, **options)

    async def replace(self, resource, body, *, dry_run=False, **options):
        if resource is SECRETS:
            self.tried.append((dry_run, dict(body["data"])))
            metadata = body["metadata"]
            old = self._api.find(SECRETS, metadata["name"], metadata["namespace"])
            if old is not None and old["type"] != body["type"]:
                raise InvalidError("type is immutable")
            if old is not None:
                self._check(resource, old)
                self._check_owner(old, body)
        result = await self._api.replace(resource, body, dry_run=dry_run, **options)
        if dry_run and resource is SECRETS:  # As the real one: it shows what would be stored.
            kept = {field: old["metadata"][field] for field in ("uid", "resourceVersion")}
            result["metadata"] |= kept
        return result

    def _forbid(self, resource):
        if resource is SECRETS:
            raise ForbiddenError("only create and update of Secrets")

    def _check(self, resource, body):
        owners = body["metadata"].get("ownerReferences") or []
        is_ours = len(owners) == 1 and owners[0]["kind"] == "Pod"
        if resource is SECRETS and self.has_policy and not is_ours:
            raise ForbiddenError("one owner, its pod")

    def _check_owner(self, old, new):
        owners = [each["metadata"]["ownerReferences"][0]["uid"] for each in (old, new)]
        if self.has_policy and owners[0] != owners[1]:
            raise ForbiddenError("one owner for ever")
