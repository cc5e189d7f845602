# SPDX-License-Identifier: Apache-2.0
"""An API server in memory, with the methods of `webhook.api.Api`.

    api = ApiDouble()
    api.put(PODS, {"metadata": {"namespace": "shop", "name": "web-0"}, "spec": {}})
    api.fail("replace", ConflictError("lost"), times=1)
    api.calls          # [("replace", PODS, "shop/web-0"), ...]

It keeps what the tests of controllers depend on: resource versions that grow, compare-and-swap,
names that are taken, watches that see each change once (also by labels and simple fields),
`status` as a subresource of its own, a deep copy at every border. It checks no schema, no rights,
no admission: for these there is the real one, in `tests/cluster`.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import uuid
from collections import deque
from datetime import UTC, datetime

from webhook.api.client import ObjectList
from webhook.api.errors import AlreadyExistsError, ConflictError, GoneError, NotFoundError
from webhook.api.watching import BOOKMARK, WatchEvent


class ApiDouble:
    """Objects by kind, namespace and name.

    Attributes:
        calls: (method, resource, "namespace/name" or "") of each call, in order.
        served: What `serves` says yes to; None: everything.
        server_version: What `version` says.
        delay: Awaited before each answer, where a test sets one.
        clock_ahead: Seconds by which our clock is ahead of the server's.
    """

    def __init__(self, *, served=None, server_version=(1, 37)):
        self.calls = []
        self.served = served
        self.server_version = server_version
        self.delay = None
        self.clock_ahead = 0.0
        self._objects = {}
        self._versions = itertools.count(1)
        self._version = 0
        self._log = []
        self._oldest = 0
        self._watches = set()
        self._failures = {}
        self._names = itertools.count(1)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.disconnect()

    # What tests do to it.

    def put(self, resource, body):
        """Store an object without a request, as another client would; return it as stored."""
        body = copy.deepcopy(dict(body))
        old = self._objects.get(_key(resource, body))
        return self._store(resource, body, old)

    def remove(self, resource, name, namespace=None):
        """Delete an object without a request."""
        self._drop(resource, self._objects[resource, namespace or "", name])

    def find(self, resource, name, namespace=None):
        """A copy of an object as stored, or None."""
        return copy.deepcopy(self._objects.get((resource, namespace or "", name)))

    def all(self, resource):
        """Copies of all objects of a kind."""
        return [copy.deepcopy(body) for key, body in self._objects.items() if key[0] == resource]

    def fail(self, method, error, *, times=1, resource=None):
        """Let the next calls of a method raise; `times=None`: all, until `heal`."""
        count = itertools.repeat(error) if times is None else itertools.repeat(error, times)
        self._failures.setdefault((method, resource), deque()).append(count)

    def heal(self):
        """Let nothing fail any more."""
        self._failures.clear()

    def disconnect(self):
        """End all watches, as a restarted API server does."""
        for watch in self._watches:
            watch.put_nowait(None)

    def bookmark(self):
        """Send all watches a bookmark, as the API server does each minute."""
        for watch in self._watches:
            watch.put_nowait((self._version, BOOKMARK, None, None))

    def forget(self):
        """Compact the history: a watch from an older version gets 410."""
        self._oldest = self._version
        self._log.clear()

    @property
    def watch_count(self):
        """How many watches are open."""
        return len(self._watches)

    def calls_of(self, method, resource=None):
        """The calls of one method, in order."""
        return [call for call in self.calls if call[0] == method and resource in (None, call[1])]

    # The methods of Api.

    def anonymous(self, *, connections=128):
        return self

    def with_token(self, token):
        assert token
        return self

    async def get(self, resource, name, *, namespace=None):
        await self._call("get", resource, namespace, name)
        return copy.deepcopy(self._existing(resource, namespace, name))

    async def list(self, resource, *, namespace=None, field_selector=None, label_selector=None):
        await self._call("list", resource, namespace)
        matches = _selection(resource, namespace, field_selector, label_selector)
        items = [copy.deepcopy(body) for key, body in self._objects.items() if matches(key, body)]
        return ObjectList(items, str(self._version))

    async def pages(self, resource, *, size=500, **selection):
        whole = await self.list(resource, **selection)
        step = size or max(len(whole.items), 1)
        for start in range(0, max(len(whole.items), 1), step):
            yield ObjectList(whole.items[start : start + step], whole.resource_version)

    async def create(self, resource, body, *, namespace=None, subresource=None, dry_run=False):
        body = copy.deepcopy(dict(body))
        metadata = body.setdefault("metadata", {})
        if resource.namespaced and (namespace or metadata.get("namespace")):
            metadata["namespace"] = namespace or metadata["namespace"]
        if "generateName" in metadata and not metadata.get("name"):
            metadata["name"] = f"{metadata['generateName']}{next(self._names):05}"
        metadata.setdefault("name", f"unnamed-{next(self._names)}")
        await self._call("create", resource, metadata.get("namespace"), metadata["name"])
        if _key(resource, body) in self._objects:
            raise AlreadyExistsError(f"{resource.plural} {metadata['name']} exists")
        return body if dry_run or subresource else self._store(resource, body, None)

    async def replace(self, resource, body, *, subresource=None, dry_run=False):
        body = copy.deepcopy(dict(body))
        metadata = body["metadata"]
        await self._call("replace", resource, metadata.get("namespace"), metadata["name"])
        old = self._existing(resource, metadata.get("namespace"), metadata["name"])
        _compare(metadata, old)
        body = _with_subresource(resource, body, old, subresource)
        return body if dry_run else self._store(resource, body, old)

    async def patch(self, resource, body, *, subresource=None):
        metadata = body["metadata"]
        await self._call("patch", resource, metadata.get("namespace"), metadata["name"])
        old = self._existing(resource, metadata.get("namespace"), metadata["name"])
        _compare(metadata, old)
        merged = _with_subresource(resource, _merged(old, body), old, subresource)
        return self._store(resource, merged, old)

    async def apply(self, resource, body, *, field_manager, force=False, dry_run=False):
        assert field_manager
        metadata = body["metadata"]
        await self._call("apply", resource, metadata.get("namespace"), metadata["name"])
        old = self._objects.get(_key(resource, body))
        merged = _merged(old or {}, body)
        return merged if dry_run else self._store(resource, merged, old)

    async def delete(self, resource, name, *, namespace=None, uid=None, resource_version=None):
        await self._call("delete", resource, namespace, name)
        old = self._existing(resource, namespace, name)
        wanted = {"uid": uid, "resourceVersion": resource_version}
        _compare({key: value for key, value in wanted.items() if value is not None}, old)
        self._drop(resource, old)

    async def watch(
        self,
        resource,
        *,
        resource_version,
        namespace=None,
        field_selector=None,
        label_selector=None,
    ):
        await self._call("watch", resource, namespace)
        start = int(resource_version or 0)
        if start < self._oldest:
            raise GoneError("too old resource version")
        matches = _selection(resource, namespace, field_selector, label_selector)
        queue = asyncio.Queue()
        for entry in self._log:
            if entry[0] > start:
                queue.put_nowait(entry)
        self._watches.add(queue)
        try:
            yield WatchEvent(BOOKMARK, {"metadata": {"resourceVersion": resource_version}})
            while (entry := await queue.get()) is not None:
                event = _seen(entry, matches)
                if event is not None:
                    yield event
        finally:
            self._watches.discard(queue)

    async def serves(self, resource):
        await self._call("serves", resource)
        return self.served is None or resource in self.served

    async def version(self):
        await self._call("version", None)
        return self.server_version

    async def _call(self, method, resource, namespace=None, name=None):
        self.calls.append((method, resource, "/".join(filter(None, (namespace, name)))))
        await (self.delay() if self.delay else asyncio.sleep(0))
        for key in ((method, resource), (method, None)):
            planned = self._failures.get(key)
            while planned:
                for error in planned[0]:
                    raise error
                planned.popleft()

    def _existing(self, resource, namespace, name):
        found = self._objects.get((resource, namespace or "", name))
        if found is None:
            raise NotFoundError(f"{resource.plural} {name} not found", reason="NotFound")
        return found

    def _store(self, resource, body, old):
        metadata = body.setdefault("metadata", {})
        before = (old or {}).get("metadata") or {}
        body.setdefault("apiVersion", resource.api_version)
        body.setdefault("kind", resource.kind)
        metadata["uid"] = before.get("uid") or metadata.get("uid") or str(uuid.uuid4())
        metadata["creationTimestamp"] = (
            before.get("creationTimestamp")
            or metadata.get("creationTimestamp")
            or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        self._version = next(self._versions)
        metadata["resourceVersion"] = str(self._version)
        self._objects[_key(resource, body)] = body
        self._publish(resource, body, old)
        return copy.deepcopy(body)

    def _drop(self, resource, old):
        del self._objects[_key(resource, old)]
        self._version = next(self._versions)
        last = copy.deepcopy(old)
        last["metadata"]["resourceVersion"] = str(self._version)
        self._publish(resource, None, last)

    def _publish(self, resource, new, old):
        entry = (self._version, resource, copy.deepcopy(new), copy.deepcopy(old))
        self._log.append(entry)
        for watch in self._watches:
            watch.put_nowait(entry)


def _seen(entry, matches):
    """What a watch with a selector sees of a change: leaving the selection is a deletion."""
    version, resource, new, old = entry
    if resource == BOOKMARK:
        return WatchEvent(BOOKMARK, {"metadata": {"resourceVersion": str(version)}})
    is_in = new is not None and matches(_key(resource, new), new)
    was_in = old is not None and matches(_key(resource, old), old)
    if not is_in and not was_in:
        return None
    body = copy.deepcopy(new if is_in else old)
    body["metadata"]["resourceVersion"] = str(version)
    return WatchEvent("DELETED" if not is_in else "MODIFIED" if was_in else "ADDED", body)


def _key(resource, body):
    metadata = body["metadata"]
    return resource, metadata.get("namespace") or "", metadata["name"]


def _compare(metadata, old):
    for field in ("uid", "resourceVersion"):
        wanted = metadata.get(field)
        if wanted and wanted != old["metadata"][field]:
            raise ConflictError(f"{metadata.get('name')}: {field} is another", reason="Conflict")


def _with_subresource(resource, body, old, subresource):
    """A write to the object leaves its status, a write to the status (or approval) all else."""
    del resource
    if subresource is None:
        if "status" in old:
            body["status"] = copy.deepcopy(old["status"])
        return body
    return copy.deepcopy(old) | ({"status": body["status"]} if "status" in body else {})


def _merged(old, new):
    """JSON merge patch."""
    if not isinstance(new, dict) or not isinstance(old, dict):
        return copy.deepcopy(new)
    result = copy.deepcopy(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key, {}), value)
    return result


def _selection(resource, namespace, field_selector, label_selector):
    fields = [term.split("=", 1) for term in (field_selector or "").split(",") if term]
    labels = [term for term in (label_selector or "").split(",") if term]

    def matches(key, body):
        if key[0] != resource or (namespace and key[1] != namespace):
            return False
        of_object = body["metadata"].get("labels") or {}
        return all(_field(body, path) == value for path, value in fields) and all(
            _has(of_object, term) for term in labels
        )

    return matches


def _field(body, path):
    for part in path.split("."):
        body = (body or {}).get(part)
    return body or ""


def _has(labels, term):
    if "!=" in term:
        key, value = term.split("!=", 1)
        return labels.get(key) != value
    if "=" in term:
        key, value = term.split("=", 1)
        return labels.get(key) == value.lstrip("=")
    return term.lstrip("!") not in labels if term.startswith("!") else term in labels
