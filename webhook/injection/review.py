# SPDX-License-Identifier: Apache-2.0
"""The API server's question about one pod: bytes to `Review`, and an answer to bytes.

Rules:
    1. Whoever reaches the port may ask: size, depth and types are bounded before anything is
       looked at, and what is wrong is one clause, without a word of the content.
    2. Unknown fields are ignored: the API server may be newer than we are.
    3. An object that has one key twice is refused: two readers would see two pods.

Spec: admission.k8s.io/v1 AdmissionReview.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from webhook.exceptions import ReviewError
from webhook.injection.shape import flag_in, mapping_in, text_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("MAX_BYTES", "MAX_DEPTH", "Answer", "Review", "parse_review")

MAX_BYTES: Final = 3 * 1024 * 1024
MAX_DEPTH: Final = 64
_MAX_BRACKETS: Final = 300_000
"""More than annotations may have (256 KiB), and few enough to read without a stall."""
_VERSION: Final = "admission.k8s.io/v1"
_KIND: Final = "AdmissionReview"
_UID = re.compile(r"[A-Za-z0-9-]{1,128}", re.ASCII)
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_OPERATIONS: Final = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})
_PODS: Final = ("", "v1", "pods")


@dataclass(frozen=True, slots=True)
class Review:
    """A question about a pod.

    Attributes:
        uid: Of this question, not of the pod; the answer repeats it.
        namespace: Of the pod; the object itself need not say it.
        operation: `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
        subresource: Empty for the pod itself.
        pod: The object as it came; empty when the operation has none.
        old_pod: What an update replaces; empty otherwise.
    """

    uid: str
    namespace: str
    operation: str
    subresource: str
    pod: Mapping[str, Any] = field(repr=False)
    old_pod: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server is told.

    Attributes:
        message: Why the pod is refused; None: it is allowed.
        patch: JSON Patch operations; none leaves the pod as it came.
        warnings: Shown to whoever made the pod, each at most 120 characters.
        audit: For the API server's audit log.
    """

    message: str | None = None
    patch: Sequence[Mapping[str, Any]] = ()
    warnings: tuple[str, ...] = ()
    audit: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, uid: str) -> bytes:
        """Write the AdmissionReview that answers the question of a UID."""
        response: dict[str, Any] = {"uid": uid, "allowed": self.message is None}
        if self.message is not None:
            status = {"code": 403, "reason": "Forbidden", "message": self.message}
            response["status"] = status
        elif self.patch:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(_compact(self.patch)).decode("ascii")
        if self.warnings:
            response["warnings"] = self.warnings
        if self.audit:
            response["auditAnnotations"] = self.audit
        return _compact({"apiVersion": _VERSION, "kind": _KIND, "response": response})


def parse_review(body: bytes) -> Review:
    """Read the body of a request.

    Raises:
        ReviewError: Not an AdmissionReview v1 about a pod, or out of bounds; `.status` is 4xx.
    """
    if len(body) > MAX_BYTES:
        raise ReviewError(f"expected at most {MAX_BYTES} bytes", status=413)
    document = _document(body)
    if document.get("apiVersion") != _VERSION or document.get("kind") != _KIND:
        raise ReviewError(f"expected {_KIND} of {_VERSION}")
    request = mapping_in(document, "request")
    _check_resource(mapping_in(request, "resource"))
    flag_in(request, "dryRun")
    return Review(
        uid=_matching(request, "uid", _UID),
        namespace=_matching(request, "namespace", _NAMESPACE),
        operation=_operation(request),
        subresource=text_in(request, "subResource"),
        pod=mapping_in(request, "object"),
        old_pod=mapping_in(request, "oldObject"),
    )


def _document(body: bytes) -> dict[str, Any]:
    if body.count(b"{") + body.count(b"[") > _MAX_BRACKETS:
        raise ReviewError("expected fewer objects and lists in the JSON")
    try:
        document = _decoder.decode(body.decode("utf-8"))
    except ReviewError:
        raise
    except (ValueError, RecursionError):
        raise ReviewError("expected JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise ReviewError("expected a JSON object")
    _check_depth(document)
    return document


def _check_depth(document: dict[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if type(each) is dict else each)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise ReviewError(f"expected JSON of at most {MAX_DEPTH} levels")


def _check_resource(resource: dict[str, Any]) -> None:
    if tuple(text_in(resource, name) for name in ("group", "version", "resource")) != _PODS:
        raise ReviewError("expected a review of pods of v1")


def _operation(request: dict[str, Any]) -> str:
    found = text_in(request, "operation")
    if found not in _OPERATIONS:
        raise ReviewError("expected operation to be CREATE, UPDATE, DELETE or CONNECT")
    return found


def _matching(request: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    found = text_in(request, name)
    if not pattern.fullmatch(found):
        raise ReviewError(f"expected a valid {name} of the request")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ReviewError("expected each key of an object once")
    return made


def _refuse_constant(_: str) -> NoReturn:
    raise ReviewError("expected JSON in UTF-8")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
