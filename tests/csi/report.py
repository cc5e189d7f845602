# SPDX-License-Identifier: Apache-2.0
"""What csi-sanity ran, and which of its tests we said that it would not run.

Rules:
    1. A test that is skipped and not named, is a failure; so is a name for which there is no test,
       and one whose test ran.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NOT_RUN = {"skipped", "pending"}


@dataclass(frozen=True, slots=True)
class Skip:
    """Tests that are not run.

    Attributes:
        tests: A regular expression that is found in their names.
        reason: Why.
        is_ours: Whether csi-sanity would run them, was it not told otherwise.
    """

    tests: str
    reason: str
    is_ours: bool

    def is_of(self, name: str) -> bool:
        """Whether a test is one of them."""
        return re.search(self.tests, name) is not None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A test of csi-sanity.

    Attributes:
        name: With the names of the groups that it is in.
        state: `passed`, `failed`, `skipped`, `pending`, `panicked`, ...
        message: What it says, for example why it failed.
    """

    name: str
    state: str
    message: str

    @property
    def has_run(self) -> bool:
        """Whether it was run at all."""
        return self.state not in _NOT_RUN


def read_skips(path: Path) -> list[Skip]:
    """The skips of a file."""
    entries = tomllib.loads(path.read_text())["skip"]
    return [Skip(each["tests"], each["reason"], each.get("ours", False)) for each in entries]


def read_outcomes(path: Path) -> list[Outcome]:
    """All tests in a report of Ginkgo, without what is done before and after them."""
    specs = json.loads(path.read_text())[0]["SpecReports"]
    return [
        Outcome(
            " ".join([*(each["ContainerHierarchyTexts"] or ()), each["LeafNodeText"]]),
            each["State"],
            each.get("Failure", {}).get("Message", ""),
        )
        for each in specs
        if each["LeafNodeType"] == "It"
    ]


def differences(outcomes: Iterable[Outcome], skips: Iterable[Skip]) -> list[str]:
    """What is otherwise than the skips say, a sentence each."""
    found, named = list(outcomes), list(skips)
    unnamed = [
        f"{each.name!r} is skipped and not named: {each.message}"
        for each in found
        if not each.has_run and not any(skip.is_of(each.name) for skip in named)
    ]
    return unnamed + [text for skip in named for text in _outdated(skip, found)]


def _outdated(skip: Skip, outcomes: list[Outcome]) -> list[str]:
    tests = [each for each in outcomes if skip.is_of(each.name)]
    if not tests:
        return [f"no test is named {skip.tests!r}"]
    return [
        f"{each.name!r} has run, though {skip.tests!r} says no" for each in tests if each.has_run
    ]
