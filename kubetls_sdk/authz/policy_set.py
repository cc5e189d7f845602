# SPDX-License-Identifier: Apache-2.0
"""A policy set: the only thing that decides.

Rules:
    1. Deny overrides allow; nothing matching is a deny; no policy is a deny.
    2. A set never changes: a reload makes another one, so one request sees one set.
    3. Shadow policies never change the answer; where they would, the decision says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from kubetls_sdk.authz.branch import Branch
from kubetls_sdk.authz.condition import Condition
from kubetls_sdk.authz.decision import Decision, Kind
from kubetls_sdk.authz.details import ACTION, NO_DETAILS, Details
from kubetls_sdk.authz.index import Index
from kubetls_sdk.authz.model import Mode, Policy
from kubetls_sdk.authz.request import Request
from kubetls_sdk.exceptions import PolicyError
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

__all__ = ("PolicySet",)

_NO_POLICY = Decision(False, Kind.NO_POLICY, "there is no policy", needed=("a policy",))
_NO_CALLER = Decision(
    False, Kind.NO_RULE_FOR_CALLER, "no allow rule names the caller",
    needed=("an allow rule that names the caller",),
)  # fmt: skip
_NO_OPERATION = Decision(
    False, Kind.NO_RULE_FOR_OPERATION, "no allow rule of the caller covers this method and path",
    needed=("an allow rule of the caller for this method and path",),
)  # fmt: skip


class PolicySet:
    """Policies that are decided by together.

    Args:
        policies: Enforced and shadow ones; their names differ.

    Raises:
        PolicyError: Two policies have one name.
    """

    __slots__ = ("_enforced", "_shadow", "policies")

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = tuple(policies)
        seen: dict[str, Policy] = {}
        for policy in self.policies:
            if policy.name in seen:
                raise PolicyError(
                    f"expected each policy name once, got {policy.name!r} again (first in "
                    f"{seen[policy.name].file}:{seen[policy.name].line})",
                    file=policy.file or None,
                    line=policy.line or None,
                )
            seen[policy.name] = policy
        enforced = [policy for policy in self.policies if policy.mode is Mode.ENFORCE]
        self._enforced = Index(enforced)
        self._shadow = Index(self.policies) if len(enforced) < len(self.policies) else None

    @classmethod
    def parse(cls, texts: Mapping[str, str], *, trust_domain: TrustDomain) -> PolicySet:
        """Parse policy files.

        Args:
            texts: Name of each file (for errors) to its YAML text; several files add up.
            trust_domain: Our own trust domain, which `namespace` and `serviceAccount` speak of.

        Raises:
            PolicyError: A text is not a valid policy; `.file`, `.line` and `.rule` say where.
        """
        from kubetls_sdk.authz.document import parse_document

        return cls(
            policy
            for file, text in texts.items()
            for policy in parse_document(text, file=file, trust_domain=trust_domain)
        )

    @classmethod
    def deny_all(cls) -> PolicySet:
        """A set without policies, which denies everything."""
        return cls(())

    def decide(
        self, caller: SpiffeId | None, method: str, path: str, details: Details = NO_DETAILS
    ) -> Decision:
        """Decide about one request.

        Args:
            caller: The verified peer; None when it presented no certificate.
            method: The HTTP method, or `WEBSOCKET`, `GRPC` or `ACTION`.
            path: The decoded path that the application routes on. The caller of this function has
                refused requests that are not canonical (`kubetls_sdk.authz.canonical`).
            details: Read only when a rule asks for more.
        """
        decision = self._decide(self._enforced, caller, method, path, details)
        if self._shadow is None:
            return decision
        shadow = self._decide(self._shadow, caller, method, path, details)
        if shadow.allowed is decision.allowed:
            return decision
        return dataclasses.replace(decision, shadow=shadow)

    def authorize(
        self,
        user: Mapping[str, object] | None,
        action: str,
        resource: str,
        *,
        caller: SpiffeId | None,
        attributes: Mapping[str, object] | None = None,
        details: Details = NO_DETAILS,
    ) -> Decision:
        """Decide about an action of the application on one of its own resources.

        Args:
            user: The verified claims of the end user, None without one.
            action: What is done, as rules name it in `actions`.
            resource: The kind of resource, as rules name it in `resources`.
            caller: The verified peer; None when it presented no certificate.
            attributes: What rules may ask for as `resource.<name>`.
            details: The rest of the request at hand.
        """
        rest = ActionDetails(details, user, attributes)
        return self.decide(caller, ACTION, f"{resource}/{action}", rest)

    @staticmethod
    def _decide(
        index: Index, caller: SpiffeId | None, method: str, path: str, details: Details
    ) -> Decision:
        segments = path.split("/")
        found: list[Branch] = []
        for trie in index.tries(caller, method):
            trie.find(segments, found)
        if len(found) == 1 and not found[0].conditions:
            return found[0].decision
        return _judge(index, found, Request(caller, method, path, details))


class ActionDetails:
    """The details of a request, with the application's own user and resource."""

    __slots__ = ("_request", "resource", "user")

    def __init__(
        self,
        request: Details,
        user: Mapping[str, object] | None,
        resource: Mapping[str, object] | None,
    ) -> None:
        self._request = request
        self.user = user
        self.resource = resource

    def __getattr__(self, name: str) -> object:
        return getattr(self._request, name)


def _judge(index: Index, found: list[Branch], request: Request) -> Decision:
    missed: list[tuple[Branch, tuple[Condition, ...]]] = []
    for branch in sorted(found, key=_order):
        unmet = branch.unmet(request) if branch.conditions else ()
        if not unmet:
            return branch.decision
        if not branch.is_deny:
            missed.append((branch, unmet))
    if missed:
        return _unmet(missed, request)
    if index.is_empty:
        return _NO_POLICY
    names = any(group.has_allow for group in index.groups(request.caller))
    return _NO_OPERATION if names else _NO_CALLER


def _order(branch: Branch) -> tuple[bool, str, str]:
    return branch.order


def _unmet(missed: list[tuple[Branch, tuple[Condition, ...]]], request: Request) -> Decision:
    needs_user = request.details.user is None and any(
        all(condition.needs_user for condition in unmet) for _, unmet in missed
    )
    names = ", ".join(repr(branch.decision.rule) for branch, _ in missed[:3])
    return Decision(
        allowed=False,
        kind=Kind.USER_REQUIRED if needs_user else Kind.CONDITION_UNMET,
        reason=f"conditions do not hold of allow rule {names}",
        needed=tuple(
            " and ".join(condition.text for condition in unmet) for _, unmet in missed[:3]
        ),
    )
