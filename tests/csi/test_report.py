# SPDX-License-Identifier: Apache-2.0
"""That no test of csi-sanity is left out in silence."""

from __future__ import annotations

import json

import pytest

from tests.csi.report import Outcome, Skip, differences, read_outcomes

STAGE = Skip("Stage", "There is nothing to stage.", is_ours=False)


def outcome(name: str, state: str = "passed") -> Outcome:
    return Outcome(name, state, "")


class TestDifferences:
    def test_none(self) -> None:
        """What is named is skipped, what is not runs."""
        assert differences([outcome("Publish"), outcome("Stage", "skipped")], [STAGE]) == []

    @pytest.mark.parametrize(
        ("outcomes", "told"),
        [
            pytest.param(
                [outcome("Stage", "skipped"), outcome("Publish", "skipped")],
                "'Publish' is skipped and not named: ",
                id="skipped-unnamed",
            ),
            pytest.param(
                [outcome("Stage", "skipped"), outcome("Publish", "pending")],
                "'Publish' is skipped and not named: ",
                id="pending-unnamed",
            ),
            pytest.param([outcome("Publish")], "no test is named 'Stage'", id="gone"),
            pytest.param([outcome("Stage")], "'Stage' has run, though 'Stage' says no", id="runs"),
        ],
    )
    def test_told(self, outcomes: list[Outcome], told: str) -> None:
        """Whatever differs is told."""
        assert differences(outcomes, [STAGE]) == [told]


class TestReadOutcomes:
    def test_tests_alone(self, tmp_path) -> None:
        """Tests have the names of their groups; what is done around them is left out."""
        it = {
            "ContainerHierarchyTexts": ["Node", "Publish"],
            "LeafNodeType": "It",
            "LeafNodeText": "works",
            "State": "failed",
            "Failure": {"Message": "no"},
        }
        around = {**it, "ContainerHierarchyTexts": None, "LeafNodeType": "BeforeSuite"}
        path = tmp_path / "report.json"
        path.write_text(json.dumps([{"SpecReports": [around, it]}]))
        assert read_outcomes(path) == [Outcome("Node Publish works", "failed", "no")]
