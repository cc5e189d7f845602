# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema for editors agrees with the parser about fields, words and shapes."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
import yaml

from kubetls_sdk.authz.operation import OPERATION_FIELDS
from kubetls_sdk.authz.schema import policy_schema
from kubetls_sdk.authz.selector import IDENTITY_FIELDS
from kubetls_sdk.exceptions import PolicyError
from tests.sdk.authz.policies import parse, rules

jsonschema = pytest.importorskip("jsonschema")

WHO = "from: {namespace: shop}"
BOTH = [
    "- {name: r, from: {namespace: shop}, to: {paths: /a}}",
    "- {name: r, description: d, from: {namespace: [a, b], serviceAccount: c}, to: {methods: GET}}",
    "- {name: r, from: {spiffeId: 'spiffe://example.org/a/*'}, to: {methods: [GET, PUT]}}",
    "- {name: r, from: [{anonymous: true}, {trustDomain: p.example}], to: {websocket: true}}",
    "- {name: r, from: {trustDomain: '*', notTrustDomain: p.example}, to: {paths: /**}}",
    f"- {{name: r, {WHO}, to: {{grpc: a.B/C, ports: [80, 443], hosts: a.example}}}}",
    f"- {{name: r, {WHO}, to: {{actions: read, resources: order}}, when: [user.a present]}}",
    f"- {{name: r, {WHO}, to: {{paths: /a, notPaths: /b, notMethods: PUT}}, when: user.a == 1}}",
]
NEITHER = [
    "- {name: r}",
    f"- {{name: r, {WHO}}}",
    "- {from: {namespace: shop}, to: {paths: /a}}",
    f"- {{name: 'a b', {WHO}, to: {{paths: /a}}}}",
    f"- {{name: r, {WHO}, to: {{path: /a}}}}",
    f"- {{name: r, {WHO}, to: []}}",
    f"- {{name: r, {WHO}, to: {{paths: []}}}}",
    f"- {{name: r, {WHO}, to: {{paths: ''}}}}",
    f"- {{name: r, {WHO}, to: {{websocket: false}}}}",
    f"- {{name: r, {WHO}, to: {{ports: 70000}}}}",
    f"- {{name: r, {WHO}, to: {{paths: /a}}, if: user.a present}}",
    f"- {{name: r, {WHO}, to: {{paths: /a}}, when: []}}",
    f"- {{name: r, {WHO}, to: {{paths: {{a: b}}}}}}",
    "- {name: r, from: {anonymous: 'yes'}, to: {paths: /a}}",
    "- {name: r, from: {Namespace: shop}, to: {paths: /a}}",
    "- {name: r, from: shop, to: {paths: /a}}",
]
FILES = ["version: 2", "policies: []", "version: 1\npolicy: []", "version: 1\npolicies: {}"]


def is_valid(text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(policy_schema()).is_valid(yaml.safe_load(text)))


def is_parsed(text: str) -> bool:
    try:
        parse(text)
    except PolicyError:
        return False
    return True


class TestPolicySchema:
    def test_is_a_schema(self):
        """Of the draft that it names."""
        jsonschema.Draft202012Validator.check_schema(policy_schema())

    def test_is_shipped(self):
        """The file in the package is the one that the command prints."""
        shipped = files("kubetls_sdk.authz").joinpath("policy.schema.json").read_text("utf-8")
        assert json.loads(shipped) == policy_schema()

    def test_knows_the_fields_of_the_parser(self):
        """Neither more nor less."""
        rule = policy_schema()["$defs"]["rule"]["properties"]
        assert set(rule) == {"name", "description", "from", "to", "when", "user"}
        assert set(rule["from"]["anyOf"][0]["properties"]) == IDENTITY_FIELDS
        assert set(rule["to"]["anyOf"][0]["properties"]) == OPERATION_FIELDS

    @pytest.mark.parametrize("allow", BOTH)
    def test_accepts_what_is_parsed(self, allow):
        """No red underline in a valid policy."""
        text = rules(allow=allow)
        assert is_parsed(text)
        assert is_valid(text)

    @pytest.mark.parametrize("text", [rules(allow=allow) for allow in NEITHER] + FILES)
    def test_refuses_what_is_not_parsed(self, text):
        """Unknown fields, missing ones, wrong words and shapes."""
        assert not is_parsed(text)
        assert not is_valid(text)

    def test_deny_rules_need_only_a_name(self):
        """Everyone and everything, when nothing is said."""
        text = rules(deny="- {name: d}")
        assert is_parsed(text)
        assert is_valid(text)
