# SPDX-License-Identifier: Apache-2.0
"""The requests to our signers: an informer for each signer name, and what is kept of a request.

Rules:
    1. Only requests for the signer names of the configuration in force are looked at; other
       signers' requests are never received.
    2. The whole object is kept while it is pending, and a few fields of it afterwards.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from webhook.api import Informer
from webhook.api.informer_group import InformerGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self

    from webhook.api import Api, Resource

__all__ = ("Key", "PendingRequest", "RequestWatch")

_log = logging.getLogger(__name__)

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped requests) and name."""


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request, or what is left of it once it is settled.

    Attributes:
        key: Namespace and name.
        uid: Of the request.
        resource_version: Of the object below.
        created: Unix time.
        subject_uid: Of the pod that it names; empty when it names none.
        is_settled: It has its answer: there is nothing to do.
        not_after: Unix time at which the certificate expires; None without one.
        body: The object as the API server sent it; None once it is settled.
    """

    key: Key
    uid: str
    resource_version: str
    created: float
    subject_uid: str
    is_settled: bool
    not_after: float | None
    body: Mapping[str, Any] | None

    @classmethod
    def of_pod(cls, request: Mapping[str, Any]) -> Self:
        """Take a PodCertificateRequest; any condition settles it, as the API has no other ones."""
        status = request.get("status") or {}
        is_settled = bool(status.get("conditions"))
        return cls._of(request, request["spec"]["podUID"], status.get("notAfter"), is_settled)

    @classmethod
    def _of(
        cls, request: Mapping[str, Any], subject: str, not_after: str | None, is_settled: bool
    ) -> Self:
        metadata = request["metadata"]
        return cls(
            key=(metadata.get("namespace") or "", metadata["name"]),
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            created=unix_time(metadata["creationTimestamp"]),
            subject_uid=subject,
            is_settled=is_settled,
            not_after=unix_time(not_after) if not_after else None,
            body=None if is_settled else request,
        )

    @classmethod
    def of_signing(cls, request: Mapping[str, Any], *, is_ours: bool) -> Self:
        """Take a CertificateSigningRequest.

        A certificate, `Denied` or `Failed` settles it; `Approved` does too when another one signs.
        """
        status = request.get("status") or {}
        types = {condition.get("type") for condition in status.get("conditions") or ()}
        ends = {"Denied", "Failed"} if is_ours else {"Denied", "Failed", "Approved"}
        is_settled = bool(status.get("certificate")) or bool(types & ends)
        return cls._of(request, "", None, is_settled)


class RequestWatch(InformerGroup[str, T]):
    """All requests of one kind to our signers, as they are now."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        parse: Callable[[Mapping[str, Any]], T | None],
        changed: Callable[[T | None, T | None], None],
    ) -> None:
        """Prepare the watch.

        Args:
            api: Where from.
            resource: The kind.
            parse: What is kept of an object; None: nothing.
            changed: Called with before and after at each change.
        """
        super().__init__(self._watch)
        self._api = api
        self._parse = parse
        self._changed = changed
        self.resource = resource

    async def follow(self, keys: Iterable[str]) -> frozenset[str]:
        """Look at the requests to these signers, and at no others any more."""
        gone = await super().follow(keys)
        for name in gone:
            _log.info("%s for %s are left alone from now on", self.resource.plural, name)
        return gone

    def get(self, key: Key) -> T | None:
        """The request, if it is there."""
        found = (informer.get(*key) for informer in self.informers())
        return next((request for request in found if request is not None), None)

    def __iter__(self) -> Iterator[T]:
        for informer in self.informers():
            yield from informer.values()

    def _watch(self, name: str) -> Informer[T]:
        selector = f"spec.signerName={name}"
        informer = Informer(self._api, self.resource, self._parse, field_selector=selector)
        informer.subscribe(self._changed)
        return informer


def unix_time(text: str) -> float:
    """Read the API server's time."""
    return datetime.fromisoformat(text).timestamp()
