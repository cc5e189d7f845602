# SPDX-License-Identifier: Apache-2.0
"""The chart's schema of values says the same as the code that reads the configuration."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from webhook import config_document, partner_document
from webhook.config import KeyType, Mode, PlatformConfig
from webhook.names import INJECTOR, SERVING_SECRET

MANIFESTS = Path(__file__).parents[3] / "webhook/manifests"
SCHEMA = json.loads((MANIFESTS / "chart/values.schema.json").read_text())
VALUES = yaml.safe_load((MANIFESTS / "chart/values.yaml").read_text())
PLATFORM = SCHEMA["properties"]["platform"]["properties"]
ZONE, PARTNER, RULE = (
    PLATFORM[name]["items"]["properties"] for name in ("zones", "partners", "namespaces")
)


class TestSchema:
    def test_is_one(self):
        """It is a valid JSON schema."""
        jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def test_defaults_fit(self):
        """The chart's own values pass, and each of them is in the schema."""
        jsonschema.validate(VALUES, SCHEMA)
        assert VALUES.keys() == SCHEMA["properties"].keys() - {"global"}

    @pytest.mark.parametrize(
        ("properties", "fields"),
        [
            pytest.param(PLATFORM, config_document._TOP - {"version"}, id="platform"),
            pytest.param(ZONE, config_document._ZONE, id="zone"),
            pytest.param(PARTNER, partner_document.PARTNER_FIELDS, id="partner"),
            pytest.param(
                PARTNER["endpoint"]["properties"], partner_document.ENDPOINT_FIELDS, id="endpoint"
            ),
            pytest.param(
                PARTNER["refresh"]["properties"], partner_document.REFRESH_FIELDS, id="refresh"
            ),
            pytest.param(RULE, config_document._RULE, id="rule"),
            pytest.param(RULE["lifetime"]["properties"], config_document._LIFETIME, id="lifetime"),
        ],
    )
    def test_fields(self, properties, fields):
        """The schema has the fields that the configuration has, and no others."""
        assert properties.keys() == fields

    @pytest.mark.parametrize(
        ("field", "words"), [("modes", Mode), ("keyTypes", KeyType)], ids=["modes", "key types"]
    )
    def test_words(self, field, words):
        """Where one of several words is expected, they are the code's."""
        assert set(RULE[field]["items"]["enum"]) == {each.value for each in words}

    @pytest.mark.parametrize("word", RULE["inject"]["enum"])
    def test_inject(self, word):
        """What the schema allows for `inject`, the configuration takes."""
        rule = {"names": ["*"], "inject": word}
        zones = [{"name": "default", "trustDomain": "example.org"}]
        text = yaml.safe_dump({"version": 1, "zones": zones, "namespaces": [rule]})
        assert PlatformConfig.parse(text).rules


class TestKustomize:
    def test_names_are_the_codes(self):
        """The rendered objects have the names that the signer's leader looks for."""
        objects = list(yaml.safe_load_all((MANIFESTS / "kustomize/base/kubetls.yaml").read_text()))
        by_kind = {each["kind"]: each for each in objects if each}
        registration = by_kind["MutatingWebhookConfiguration"]
        assert registration["metadata"]["name"] == INJECTOR
        assert registration["webhooks"][0]["clientConfig"]["service"]["name"] == INJECTOR
        assert SERVING_SECRET in json.dumps(objects)


class TestOneLine:
    @pytest.mark.parametrize(
        "values",
        [
            {"trustDomain": "a.b\nversion: 2"},
            {"platform": {"clusterDomain": "a.b\nversion: 2"}},
            {"secretIssuer": {"namespaces": ["shop\n  labels: {}"]}},
            {"injector": {"excludedNamespaces": ["*"]}},
            {"priorityClassName": "a\nhostNetwork: true"},
        ],
        ids=lambda values: next(iter(values)),
    )
    def test_a_name_is_a_name(self, values):
        """What templates write as it is cannot be more than the one value."""
        with pytest.raises(jsonschema.ValidationError, match="does not match"):
            jsonschema.validate(values, SCHEMA)
