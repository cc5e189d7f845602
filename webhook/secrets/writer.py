# SPDX-License-Identifier: Apache-2.0
"""Writes Secrets without the right to read any, and never over somebody else's.

The account may `create` and `update`, and no more. A Secret that we wrote since we started is known
by UID and resourceVersion, and replaced by compare-and-swap. Of one that is there already (we were
restarted, another replica wrote it, or it is not ours) nothing is known, and nothing may be read.
What the API server *accepts* proves whose it is, by two updates that are only tried (dry run):

    owner = our pod          accepted  ->  the stored owner is our pod, if a policy compares owners
    owner = a made-up UID    refused   ->  a policy compares owners

The policy is the ValidatingAdmissionPolicy of our manifests, which holds this account to one owner
for ever. The accepted try tells UID and resourceVersion, and the real update names both: it changes
that very object, or nothing.

Rules:
    1. Without the policy in force, nothing that exists is overwritten: fail closed.
    2. What is tried has no content: keys are sent once.
    3. The type of a Secret cannot be changed at the API server: one of another type is refused
       whatever the policy says.
    4. A Secret of another owner is left alone, and told of. Nothing is ever deleted: the garbage
       collector does that with the pod.
"""

from __future__ import annotations

import copy
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from webhook.api import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from webhook.api.resources import SECRETS
from webhook.exceptions import WebhookError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhook.api import Api

__all__ = ("ForeignSecretError", "SecretWriter", "Version")

_REFUSALS = (ForbiddenError, InvalidError)


class ForeignSecretError(WebhookError):
    """A Secret of this name exists, and it is not proved to be the pod's."""


class Version(NamedTuple):
    """One state of one Secret."""

    uid: str
    resource_version: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Version:
        """The version of an object that the API server returned."""
        return cls(body["metadata"]["uid"], body["metadata"]["resourceVersion"])


class SecretWriter:
    """Writes Secrets of pods.

    Args:
        api: The API server, as the secret issuer's account.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    async def write(self, secret: Mapping[str, Any], known: Version | None) -> Version:
        """Create the Secret, or replace what this pod has.

        Args:
            secret: The Secret, with its pod as only owner.
            known: The version that we wrote last; None: we do not know.

        Raises:
            ForeignSecretError: The name is taken, and it is not proved to be the pod's.
            ConflictError: It changed in between.
            ApiError: The API server did not take it.
        """
        if known is not None:
            try:
                return await self._replace(secret, known)
            except (ConflictError, NotFoundError, *_REFUSALS):
                pass  # It was deleted, is another's now, or another replica was here.
        try:
            return Version.of(await self._api.create(SECRETS, secret))
        except AlreadyExistsError:
            return await self._replace(secret, await self._prove(secret))

    async def _replace(self, secret: Mapping[str, Any], version: Version) -> Version:
        body = _with_metadata(secret, uid=version.uid, resourceVersion=version.resource_version)
        return Version.of(await self._api.replace(SECRETS, body))

    async def _prove(self, secret: Mapping[str, Any]) -> Version:
        """Prove that what is there is the pod's own; see above."""
        name = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
        try:
            found = await self._api.replace(SECRETS, _without_content(secret), dry_run=True)
        except _REFUSALS as err:
            raise ForeignSecretError(f"Secret {name} exists and has another owner") from err
        try:
            await self._api.replace(SECRETS, _of_a_stranger(secret), dry_run=True)
        except _REFUSALS:
            return Version.of(found)
        raise ForeignSecretError(
            f"Secret {name} exists, and without our ValidatingAdmissionPolicy in force its owner"
            " cannot be proved"
        )


def _with_metadata(secret: Mapping[str, Any], **fields: str) -> dict[str, Any]:
    return {**secret, "metadata": {**secret["metadata"], **fields}}


def _without_content(secret: Mapping[str, Any]) -> dict[str, Any]:
    return {**secret, "data": {}}


def _of_a_stranger(secret: Mapping[str, Any]) -> dict[str, Any]:
    body = copy.deepcopy(_without_content(secret))
    body["metadata"]["ownerReferences"][0]["uid"] = str(uuid.uuid4())
    return body
