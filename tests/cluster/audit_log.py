# SPDX-License-Identifier: Apache-2.0
"""What the API server's audit log says that our parts' accounts did, and what they may do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from cluster import Options
from tests.cluster.chart import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

PARTS = ("injector", "signer", "secret-issuer")
USERS = {f"system:serviceaccount:{SYSTEM}:kubetls-{part}": part for part in PARTS}
_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": list(USERS)}, {"level": "None"}],
}


class Right(NamedTuple):
    """One thing that an account does, or may do."""

    part: str
    verb: str
    resource: str
    name: str = ""


class AuditLog:
    """The log of one API server; give it `options`.

    Args:
        folder: Where it is written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "audit.log"
        policy = folder / "policy.json"
        policy.write_text(json.dumps(_POLICY))
        flags = [f"--audit-policy-file={policy}", f"--audit-log-path={self._path}"]
        self.options = Options(
            more={"kube-apiserver": [*flags, "--audit-log-mode=blocking-strict"]}
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self._path.read_text().splitlines():
            yield json.loads(line)

    def refused(self) -> list[str]:
        """What was forbidden to our accounts; what they only tried (dry run) is left out."""
        return [
            f"{each['user']['username']}: {each['verb']} {each['requestURI']}"
            for each in self
            if each.get("responseStatus", {}).get("code") == 403
            and "dryRun" not in each["requestURI"]
        ]

    def done(self) -> set[tuple[str, str, str, str]]:
        """Part, verb, resource and name of all that was done."""
        return {
            (USERS[each["user"]["username"]], each["verb"], _resource(ref), ref.get("name", ""))
            for each in self
            if (ref := each.get("objectRef"))
        }


def granted(roles: Iterable[Mapping[str, Any]]) -> set[Right]:
    """All that the roles of our parts grant; signer names are no requests."""
    return {
        Right(part, verb, f"{resource}.{group}" if group else resource, name)
        for role in roles
        for part in (_part(role["metadata"]["name"]),)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if resource != "signers"
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
        if part
    }


def is_used(right: Right, done: set[tuple[str, str, str, str]]) -> bool:
    """Whether somebody did what the right is for."""
    return any(
        (right.part, right.verb, right.resource) == each[:3] and right.name in {"", each[3]}
        for each in done
    )


def _part(role: str) -> str:
    names = {f"kubetls-{part}": part for part in PARTS} | {"kubetls-secret-writer": "secret-issuer"}
    return names.get(role, "")


def _resource(reference: Mapping[str, Any]) -> str:
    plain = reference["resource"]
    if "subresource" in reference:
        plain += f"/{reference['subresource']}"
    return f"{plain}.{reference['apiGroup']}" if reference.get("apiGroup") else plain
