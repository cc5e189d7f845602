# SPDX-License-Identifier: Apache-2.0
"""A policy set: the only thing that decides.

Rules:
    1. Deny overrides allow; nothing matching is a deny; no policy is a deny.
    2. A set never changes: a reload makes another one, so one request sees one set.
    3. Shadow policies never change the answer; where they would, the decision says so.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from kubetls_sdk.authz.coverage import check_reachable
from kubetls_sdk.authz.decision import Decision, Kind
from kubetls_sdk.authz.details import ACTION, NO_DETAILS, Details, RequestDetails
from kubetls_sdk.authz.index import Index
from kubetls_sdk.authz.model import Mode, Policy
from kubetls_sdk.authz.request import Request
from kubetls_sdk.exceptions import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kubetls_sdk.authz.branch import Branch
    from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain

__all__ = ("PolicySet", "candidates")

_MAX_NEEDED = 16

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
        pause: Called again and again, so that a background load lets other threads run.

    Attributes:
        policies: As given.

    Raises:
        PolicyError: Two policies have one name.
    """

    __slots__ = ("_enforced", "_shadow", "_tables", "policies")

    def __init__(
        self, policies: Iterable[Policy], *, pause: Callable[[], None] = lambda: None
    ) -> None:
        self.policies = tuple(policies)
        _check_names(self.policies)
        enforced = [policy for policy in self.policies if policy.mode is Mode.ENFORCE]
        self._enforced = Index(enforced, pause)
        has_shadow = len(enforced) < len(self.policies)
        self._shadow = Index(self.policies, pause) if has_shadow else None
        self._tables = {} if has_shadow else self._enforced.tables

    @classmethod
    def parse(
        cls,
        texts: Mapping[str, str],
        *,
        trust_domain: TrustDomain,
        pause: Callable[[], None] = lambda: None,
    ) -> PolicySet:
        """Parse policy files.

        Args:
            texts: Name of each file (for errors) to its YAML text; several files add up.
            trust_domain: Our own trust domain, which `namespace` and `serviceAccount` speak of.
            pause: Called again and again, so that a background load lets other threads run.

        Raises:
            PolicyError: A text is not a valid policy; `.file`, `.line` and `.rule` say where.
        """
        from kubetls_sdk.authz.document import parse_document

        policies: list[Policy] = []
        for file, text in texts.items():
            policies += parse_document(text, file=file, trust_domain=trust_domain, pause=pause)
        made = cls(policies, pause=pause)
        check_reachable(made.policies, pause)
        return made

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
        try:  # The short way: a caller that was seen, one trie, one unconditional rule.
            table = self._tables[caller.trust_domain.name][caller.path][method]  # type: ignore[union-attr]
            for segment in path.split("/"):
                table = table.get(segment) or table["*"]
            decision: Decision = table[None]
        except (KeyError, AttributeError):
            return self._decide(caller, method, path, details)
        return decision

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
        rest = RequestDetails(
            host=details.host,
            port=details.port,
            source=details.source,
            headers=details.headers,
            user=user,
            resource=attributes,
            now=details.now,
            forwarded=details.forwarded,
        )
        return self.decide(caller, ACTION, f"{resource}/{action}", rest)

    def _decide(
        self, caller: SpiffeId | None, method: str, path: str, details: Details
    ) -> Decision:
        decision = _judge(self._enforced, caller, method, path, details)
        if self._shadow is None:
            return decision
        shadow = _judge(self._shadow, caller, method, path, details)
        if shadow.allowed is decision.allowed:
            return decision
        return dataclasses.replace(decision, shadow=shadow)


def candidates(index: Index, caller: SpiffeId | None, method: str, path: str) -> list[Branch]:
    """The branches that fit caller, method and path: denies first, then by name."""
    segments = path.split("/")
    found: list[Branch] = []
    for trie in index.tries(caller, method):
        trie.find(segments, found)
    if len(found) > 1:
        found.sort(key=_order)
    return found


def _judge(
    index: Index, caller: SpiffeId | None, method: str, path: str, details: Details
) -> Decision:
    found = candidates(index, caller, method, path)
    if found and not found[0].conditions:
        return found[0].decision
    request = Request(caller, method, path, details)
    for branch in found:
        if branch.is_met(request):
            return branch.decision
    missed = [branch for branch in found if not branch.is_deny]
    if missed:
        return _unmet(missed, request)
    if index.is_empty:
        return _NO_POLICY
    names = any(group.has_allow for group in index.groups(caller))
    return _NO_OPERATION if names else _NO_CALLER


def _check_names(policies: Iterable[Policy]) -> None:
    seen: dict[str, Policy] = {}
    for policy in policies:
        if policy.name in seen:
            first = seen[policy.name]
            raise PolicyError(
                f"expected each policy name once, got {policy.name!r} again "
                f"(first in {first.file}:{first.line})",
                file=policy.file or None,
                line=policy.line or None,
            )
        seen[policy.name] = policy


def _order(branch: Branch) -> tuple[int, str, str]:
    return branch.order


def _unmet(missed: list[Branch], request: Request) -> Decision:
    unmet = [branch.unmet(request) for branch in missed[:_MAX_NEEDED]]
    needs_user = request.details.user is None and any(
        all(condition.needs_user for condition in conditions) for conditions in unmet
    )
    names = ", ".join(repr(branch.decision.rule) for branch in missed[:_MAX_NEEDED])
    return Decision(
        allowed=False,
        kind=Kind.USER_REQUIRED if needs_user else Kind.CONDITION_UNMET,
        reason=f"conditions do not hold of allow rule {names}",
        needed=tuple(" and ".join(each.text for each in conditions) for conditions in unmet),
    )
