# SPDX-License-Identifier: Apache-2.0
"""Text, Mermaid, SVG and JSON: all that matters is in them, and nothing breaks out of them."""

import itertools
import json
import re
from xml.etree import ElementTree

import pytest

from tests.webhook.zones.platforms import (
    NOW,
    ROOTS,
    partner,
    partner_bundle,
    platform,
    pod,
    zone_bundle,
    zone_partner,
)
from webhook.zones.cluster_state import ClusterState, EquippedPod, PublishedBundle
from webhook.zones.document import to_json
from webhook.zones.mermaid import escaped, to_mermaid
from webhook.zones.picture import Picture
from webhook.zones.svg import to_svg
from webhook.zones.svg_layout import Layout
from webhook.zones.text import to_text

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</text><script>x()</script>"; click g1 "javascript:x()"\x1b[31m\u202e\n]]>&amp;'
MANY = tuple(f"zone-{number}" for number in range(12))
WRITERS = [to_text, to_mermaid, to_svg, to_json]


def picture(*pods, namespaces=("shop", "tools"), **settings):
    """A picture of a cluster in which all bundles are published."""
    bodies = [*map(zone_bundle, ROOTS), partner_bundle()]
    bundles = tuple(map(PublishedBundle.parse, bodies))
    state = ClusterState(namespaces, tuple(map(EquippedPod.parse, pods)), bundles)
    return Picture.of(platform(**settings), state, now=NOW)


def parsed(text):
    """The tree of a picture that we wrote."""
    return ElementTree.fromstring(text)  # noqa: S314 - it is our own


def offline(**settings):
    return Picture.of(platform(**settings), now=NOW)


def many():
    rules = [{"names": [f"{zone}-*"], "zones": [zone]} for zone in MANY] + [{"names": ["*"]}]
    partners = [partner(namespaces=["shop", "zone-3-*"])]
    return offline(zones=MANY, rules=rules, partners=partners)


class TestText:
    def test_who_cannot_reach_whom(self):
        """Each zone says whom it cannot reach."""
        lines = to_text(offline()).split("Who can reach whom")[1].splitlines()
        start = lines.index("  pci")
        assert lines[start + 1 : start + 3] == [
            "    can reach     pci (its own zone)",
            "    CANNOT reach  main, lab, acme",
        ]

    def test_one_zone(self):
        """A zone that nobody is kept from says nothing of whom it cannot reach."""
        assert "CANNOT" not in to_text(
            offline(zones=["main"], rules=[{"names": ["*"]}], partners=[])
        )

    def test_offline_says_nothing_of_a_cluster(self):
        """Without a cluster there is nothing that was found."""
        assert "Found" not in to_text(offline())

    def test_what_pods_have(self):
        """The namespaces with their pods, by zone and by whom they trust beside it."""
        text = to_text(picture(pod("shop", "a", trusts=["acme.example"]), pod("shop", "b")))
        assert "     shop: 2 pods, 2 in main; also trust acme.example (1)" in text
        assert "     tools: no injected pods" in text

    def test_only_printable(self):
        """No control character and no change of direction reaches the terminal."""
        text = to_text(picture(pod(HOSTILE, HOSTILE, zone=HOSTILE, trusts=[HOSTILE])))
        assert all(each.isprintable() or each == "\n" for each in text)
        assert "script" in text


class TestMermaid:
    def test_nodes_and_edges(self):
        """A zone is a box with its namespaces; trust is dashed, a choice of zones a line."""
        text = to_mermaid(offline())
        assert text.startswith("flowchart LR\n")
        box = '  subgraph z1["zone pci (pci.example.org)"]\n    g2["payments, card-#42;"]:::names\n'
        assert f"{box}  end\n" in text
        assert 'z0 -->|"identity, if chosen"| g3' in text
        assert 'g4 -.->|"may trust in shop"| p0' in text
        assert "can connect" not in text

    def test_zones_that_can_connect(self):
        """They are joined, and no others are."""
        both = [zone_partner("pci", ["shop"]), zone_partner("main", ["payments"])]
        text = to_mermaid(offline(partners=both))
        assert [line.strip() for line in text.splitlines() if "can connect" in line] == [
            'z0 <==>|"can connect"| z1'
        ]

    def test_only_what_reads_as_one_label(self):
        """Whatever a name contains, quotes stay balanced and no line is added."""
        assert re.fullmatch(r"(?:[A-Za-z0-9 .,/()-]|#\d+;)*", escaped(HOSTILE))
        lines = to_mermaid(picture(pod(HOSTILE, HOSTILE, zone=HOSTILE))).splitlines()
        assert len(lines) == len(to_mermaid(picture()).splitlines())
        assert all(line.count('"') % 2 == 0 for line in lines)


class TestSvg:
    @pytest.mark.parametrize(
        "shown",
        [
            pytest.param(offline(zones=("main",), rules=[{"names": ["*"]}], partners=()), id="1"),
            pytest.param(offline(), id="3"),
            pytest.param(many(), id="12"),
        ],
    )
    def test_self_contained(self, shown):
        """It is XML, has a size, and loads and runs nothing."""
        text = to_svg(shown)
        root = parsed(text)
        assert (float(root.get("width")), float(root.get("height"))) > (0.0, 0.0)
        tags = {each.tag.removeprefix(SVG) for each in root.iter()}
        assert tags <= {"svg", "title", "style", "rect", "text", "path", "g"}
        assert "url(" not in text
        assert "@import" not in text
        assert not [key for each in root.iter() for key in each.attrib if "href" in key]

    def test_hostile_names_are_texts(self):
        """They are shown, and are never elements or attributes of their own."""
        shown = picture(pod(HOSTILE, HOSTILE, zone=HOSTILE), namespaces=(HOSTILE,))
        root = parsed(to_svg(shown))
        assert root.find(f".//{SVG}script") is None
        assert "<script>" in "".join(root.itertext())

    def test_each_pair_has_a_mark(self):
        """The table says of each zone whether it reaches each other one and each partner."""
        root = parsed(to_svg(offline()))
        told = [each.text for each in root.iter(f"{SVG}title")]
        assert "main and pci: cannot: neither may have the other's bundle" in told
        assert len([each for each in told if " and " in each and ": " in each]) >= 3 * 4

    def test_stable(self):
        """The same configuration is the same picture."""
        assert to_svg(offline()) == to_svg(offline())


class TestLayout:
    @pytest.mark.parametrize("shown", [offline(), many()], ids=["3", "12"])
    def test_cards_do_not_overlap(self, shown):
        """In a column each card is below the one before it."""
        columns = ((0, 10), (100, 10), (200, 10))
        layout = Layout.of(shown.graph, columns, top=0, height=76)
        for x, _ in columns:
            stack = sorted((c for c in layout.cards.values() if c.x == x), key=lambda c: c.y)
            for upper, lower in itertools.pairwise(stack):
                assert upper.bottom < lower.y

    @pytest.mark.parametrize("shown", [offline(), many()], ids=["3", "12"])
    def test_lines_end_at_their_cards(self, shown):
        """Both ends are within the heights of the cards that they join."""
        layout = Layout.of(shown.graph, ((0, 10), (100, 10), (200, 10)), top=0, height=76)
        for line in layout.lines:
            for key, (_, y) in zip((line.group, line.other), layout.ends(line), strict=True):
                assert layout.cards[key].y < y < layout.cards[key].bottom


class TestJson:
    def test_document(self):
        """Zones with their reach, groups with what pods have, and the findings."""
        document = json.loads(to_json(picture(pod("shop", "a", trusts=["acme.example"]))))
        assert document["zones"][1]["reach"]["main.example.org"] == "never"
        group = document["groups"][3]
        assert group["mayAskFor"][0]["partner"] == "acme"
        assert group["namespaces"][0]["zones"] == {"main": 1}
        assert {each["verdict"] for each in document["findings"]} == {"ok"}
        assert document["cluster"] is True


class TestDesign:
    def test_what_has_no_effect(self):
        """A zone without namespaces, a rule that decides nothing, a partner of nobody."""
        rules = [{"names": ["*"], "zones": ["main"]}, {"names": ["x"], "zones": ["pci"]}]
        found = offline(zones=("main", "pci"), rules=rules, partners=[partner(namespaces=["x"])])
        assert [each.subject for each in found.findings] == ["zone pci", "rule 2"]
        found = offline(rules=[{"names": ["a"]}], partners=[partner(namespaces=["x"])])
        assert "partner acme" in [each.subject for each in found.findings]

    @pytest.mark.parametrize("write", WRITERS)
    def test_every_writer_ends_with_a_newline(self, write):
        """So that a terminal's prompt is on a line of its own."""
        assert write(offline()).endswith("\n")
