# SPDX-License-Identifier: Apache-2.0
"""Policies from files, followed live.

    with PolicyFile("policy.yaml", trust_domain=TrustDomain("example.org")) as policies:
        policies.current.decide(caller, "GET", "/orders/42")

A path is a file, or a directory (a mounted ConfigMap) whose `*.yaml` and `*.yml` files add up.

Rules:
    1. `current` is a plain attribute: one request reads it once and decides by one set.
    2. A file that cannot be used keeps the last good policies: one log line, a metric, `error`.
    3. A file or directory that is gone denies everything until it is back: its deny rules are
       unknown. At the start it is an error.
    4. A change is read twice, and used when both reads agree, so that a file that is being written
       is not used half: a missing half may be the deny rules.
    5. A process that forks starts its own: in the child everything is denied.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kubetls_sdk import metrics
from kubetls_sdk._breather import Breather
from kubetls_sdk._follower import Follower
from kubetls_sdk._forks import disown_in_children
from kubetls_sdk._lifetime import Lifetime
from kubetls_sdk._policy_text import are_same, attempt_texts, fingerprint_of, read_texts
from kubetls_sdk.authz.policy_set import PolicySet
from kubetls_sdk.exceptions import ConfigurationError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from kubetls_sdk.authz.model import Rule
    from kubetls_sdk.spiffe_id import TrustDomain

__all__ = ("PolicyFile", "read_policies")

_log = logging.getLogger(__name__)
_SETTLE_SECONDS = 0.05


class PolicyFile(Lifetime):
    """Policy files, and the policy set that they say; a `with` context manager.

    Args:
        paths: Files or directories; all of them have to exist at the start.
        trust_domain: Our own, which `namespace` and `serviceAccount` speak of.
        poll_seconds: Look at least this often, for mounts that send no notifications.
        check: Looks at policies before they are in force; the `PolicyError` that it raises keeps
            the last good ones.

    Attributes:
        current: The policy set in force; denies everything before the start and after a loss.
        generation: Counts the sets that were put in force.
        error: Why the last look changed nothing, None when it was fine.

    Raises:
        ConfigurationError: No path, or `poll_seconds` out of range.
    """

    current = PolicySet.deny_all()  # What holds until the start.

    def __init__(
        self,
        *paths: str | os.PathLike[str],
        trust_domain: TrustDomain,
        poll_seconds: float = 10.0,
        check: Callable[[PolicySet], None] | None = None,
    ) -> None:
        if not paths or poll_seconds <= 0:
            raise ConfigurationError("expected at least one policy file and poll_seconds > 0")
        self.paths = tuple(Path(os.path.abspath(path)) for path in paths)
        self.generation = 0
        self.error: str | None = None
        self._trust_domain = trust_domain
        self._check = check
        self._fingerprint: bytes | None = None
        self._callbacks: dict[object, Callable[[PolicySet], None]] = {}
        self._retired: list[Rule] = []
        self._follower = Follower("kubetls-policy", self._look_again, poll_seconds=poll_seconds)
        self._loading = threading.Lock()

    def start(self) -> Self:
        """Load the policies and begin to follow the files; `with` does this.

        Raises:
            PolicyError: A file is missing, unreadable or not a valid policy.
            ConfigurationError: It was started before.
        """
        if not self._follower.is_new:
            raise ConfigurationError("expected a new PolicyFile, got one that was started before")
        texts = read_texts(self.paths)
        self._put(self._parse(texts), fingerprint_of(texts))
        disown_in_children(self)
        places = (path if path.is_dir() else path.parent for path in self.paths)
        self._follower.start(list(dict.fromkeys(map(str, places))))
        return self

    def subscribe(self, callback: Callable[[PolicySet], None]) -> Callable[[], None]:
        """Call `callback`, in the watcher's thread, with each later set; the result ends that."""
        key = object()
        self._callbacks = {**self._callbacks, key: callback}

        def remove() -> None:
            self._callbacks = {k: v for k, v in self._callbacks.items() if k is not key}

        return remove

    def reload(self) -> PolicySet:
        """Look at the files now and return what is in force after that; raises nothing."""
        with self._loading:
            self._look()
            return self.current

    def close(self) -> None:
        """End the thread; what is in force stays. May be called twice."""
        self._follower.close()

    def __repr__(self) -> str:
        names = ", ".join(map(str, self.paths))
        return f"<PolicyFile {names}: generation {self.generation}>"

    def _look_again(self) -> None:
        with self._loading:
            if not self._follower.stop.is_set():
                self._look()

    def _look(self) -> None:
        self._let_go()
        try:
            texts = self._settled()
        except PolicyError as err:
            if isinstance(err.__cause__, FileNotFoundError):
                self._lose(str(err))
            else:
                self._refuse(str(err))
            return
        fingerprint = fingerprint_of(texts)
        if fingerprint == self._fingerprint:
            metrics.increment(metrics.POLICY_RELOADS, result="unchanged")
            self._recover()
            return
        try:
            policies = self._parse(texts)
        except PolicyError as err:
            self._refuse(str(err))
            return
        self._put(policies, fingerprint)

    def _settled(self) -> Mapping[str, str]:
        """Read until two reads agree, when what is there is not what is in force."""
        texts = attempt_texts(self.paths)
        if not isinstance(texts, PolicyError) and fingerprint_of(texts) == self._fingerprint:
            return texts
        for _ in range(20):
            self._follower.stop.wait(_SETTLE_SECONDS)
            again = attempt_texts(self.paths)
            if are_same(texts, again):
                break
            texts = again
        else:
            raise PolicyError("expected policy files that are at rest, got changes all the time")
        if isinstance(texts, PolicyError):
            raise texts
        return texts

    def _parse(self, texts: Mapping[str, str]) -> PolicySet:
        for path in self.paths:
            if not any(Path(name).is_relative_to(path) for name in texts):
                _log.warning("no policy files in %s: nothing there allows anything", path)
        policies = PolicySet.parse(texts, trust_domain=self._trust_domain, pause=Breather())
        if self._check is not None:
            self._check(policies)
        return policies

    def _put(self, policies: PolicySet, fingerprint: bytes | None) -> None:
        self._fingerprint = fingerprint
        self._retired = [rule for policy in self.current.policies for rule in policy.rules]
        self.current = policies
        self.generation += 1
        if fingerprint is not None:
            self.error = None
            metrics.increment(metrics.POLICY_RELOADS, result="changed")
            metrics.set_gauge(metrics.POLICY_LOADED, time.time())
            rules = sum(len(policy.rules) for policy in policies.policies)
            plural = "" if rules == 1 else "s"
            _log.info("policy generation %d in force: %d rule%s", self.generation, rules, plural)
        for callback in tuple(self._callbacks.values()):
            try:
                callback(policies)
            except Exception:  # noqa: BLE001 - a subscriber is foreign code
                _log.exception("a subscriber failed on policy generation %d", self.generation)

    def _let_go(self) -> None:
        """Free the rules before the last ones step by step: thousands at once hold everybody up.

        By now the servers have let go of them too, which remember what they asked last.
        """
        pause = Breather()
        while self._retired:
            self._retired.pop()
            pause()

    def _refuse(self, error: str) -> None:
        metrics.increment(metrics.POLICY_RELOADS, result="failed")
        if error != self.error:
            _log.error("policy not reloaded, generation %d stays: %s", self.generation, error)
        self.error = error

    def _lose(self, error: str) -> None:
        metrics.increment(metrics.POLICY_RELOADS, result="failed")
        if error != self.error:
            _log.error("policy is gone, everything is denied: %s", error)
        self.error = error
        if self._fingerprint is not None:
            self._put(PolicySet.deny_all(), None)

    def _recover(self) -> None:
        if self.error is not None:
            _log.info("policy files are as in generation %d again", self.generation)
        self.error = None

    def _disown(self) -> None:
        """In a forked child: the thread is not here, and nobody would see a new deny rule."""
        self._loading = threading.Lock()
        self._follower.disown()
        self._callbacks = {}
        self.current = PolicySet.deny_all()
        self.error = "the policy belongs to the process before the fork: make one here"


def read_policies(*paths: str | os.PathLike[str], trust_domain: TrustDomain) -> PolicySet:
    """Load policies once, without following the files.

    Raises:
        PolicyError: A file is missing, unreadable or not a valid policy.
    """
    texts = read_texts(tuple(Path(path) for path in paths))
    return PolicySet.parse(texts, trust_domain=trust_domain)
