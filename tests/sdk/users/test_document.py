# SPDX-License-Identifier: Apache-2.0
"""The users file: what it can say, and where it is wrong."""

from __future__ import annotations

import pytest

from kubetls_sdk.exceptions import ConfigurationError, PolicyError
from kubetls_sdk.spiffe_id import TrustDomain
from kubetls_sdk.users import (
    CertificateBound,
    InlineKeys,
    Issuer,
    JwtSvids,
    KeyFile,
    KeyUrl,
    UserSettings,
    parse_settings,
    read_settings,
)
from tests.tokens import Signer

FULL = """\
version: 1
token: {header: X-User-Token, maxBytes: 4096}
issuers:
  - issuer: https://login.example.com/
    audiences: [https://orders.example.com, orders]
    algorithms: [RS256, ES256]
    types: [JWT, absent]
    requiredClaims: client_id
    leewaySeconds: 5
    certificateBound: off
    keys:
      url: https://login.example.com/jwks.json
      caBundle: roots.pem
      ttlSeconds: 30
      maxStaleSeconds: 90
  - issuer: https://partner.example/
    audiences: orders
    keys: {file: keys/partner.json}
jwtSvids:
  audiences: spiffe://example.org/ns/shop/sa/orders
  trustDomains: [example.org, spiffe://partner.example]
  certificateBound: required
"""
KEYS = "keys: {file: k.json}"


def one_issuer(more="", keys=KEYS, audiences="audiences: orders"):
    lines = [f"issuers:\n  - issuer: https://a.test/\n    {keys}", audiences, more]
    return "version: 1\n" + "\n    ".join(each for each in lines if each) + "\n"


class TestParseSettings:
    def test_everything(self):
        """Each field has its setting; paths are relative to the file."""
        found = parse_settings(FULL, file="/etc/kubetls/users.yaml")
        login, partner = found.issuers
        assert (found.header, found.max_token_bytes) == ("x-user-token", 4096)
        assert login.audiences == ("https://orders.example.com", "orders")
        assert login.algorithms == ("RS256", "ES256")
        assert login.types == ("jwt", "absent")
        assert login.required_claims == ("client_id",)
        assert login.leeway_seconds == 5
        assert login.certificate_bound is CertificateBound.OFF
        assert login.keys == KeyUrl(
            url="https://login.example.com/jwks.json",
            ca_bundle="/etc/kubetls/roots.pem",
            ttl_seconds=30,
            min_ttl_seconds=30,
            max_stale_seconds=90,
        )
        assert partner.keys == KeyFile(path="/etc/kubetls/keys/partner.json")
        assert found.jwt_svids.trust_domains == (
            TrustDomain("example.org"),
            TrustDomain("partner.example"),
        )
        assert found.jwt_svids.certificate_bound is CertificateBound.REQUIRED

    def test_defaults(self):
        """Access tokens only, from Authorization, bound where they say so."""
        found = parse_settings(one_issuer(), file="users.yaml")
        assert (found.header, found.jwt_svids) == ("authorization", None)
        assert found.issuers[0].types == ("at+jwt",)
        assert found.issuers[0].certificate_bound is CertificateBound.IF_PRESENT

    def test_inline_keys(self):
        """Keys may stand in the file as a JWK Set."""
        keys = f"keys: {{inline: '{Signer('ES256').jwks()}'}}"
        found = parse_settings(one_issuer(keys=keys), file="users.yaml")
        assert len(found.issuers[0].keys.last().keys) == 1

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            pytest.param("", 1, "empty", id="empty"),
            pytest.param("issuers: []", 1, "version", id="no version"),
            pytest.param("version: 2", 1, "version 1", id="unknown version"),
            pytest.param("version: 1", 1, "at least one issuer", id="nobody"),
            pytest.param("version: 1\nissuers: []", 2, "at least one", id="no issuers"),
            pytest.param("version: 1\nuser: x", 2, "unknown field 'user'", id="unknown field"),
            pytest.param("version: 1\n---\nversion: 1", None, "one YAML document", id="two"),
            pytest.param("version: [", None, "YAML", id="not YAML"),
            pytest.param(one_issuer("jwksUri: x"), 6, "unknown field", id="Istio's field"),
            pytest.param(one_issuer(audiences=""), 3, "audiences", id="no audience"),
            pytest.param(one_issuer(audiences="audiences: []"), 5, "at least one", id="empty aud"),
            pytest.param(one_issuer("algorithms: HS256"), 3, "HS256", id="HMAC"),
            pytest.param(one_issuer("algorithms: none"), 3, "none", id="alg none"),
            pytest.param(one_issuer("algorithms: [RS256, RS256]"), 6, "once", id="alg twice"),
            pytest.param(one_issuer("leewaySeconds: 301"), 3, "300", id="leeway too long"),
            pytest.param(one_issuer("leewaySeconds: -1"), 6, "number", id="leeway negative"),
            pytest.param(one_issuer("leewaySeconds: 1e1"), 6, "number", id="leeway 1e1"),
            pytest.param(one_issuer("certificateBound: yes"), 6, "required", id="bound yes"),
            pytest.param(one_issuer("types: ~"), 6, "value", id="types null"),
            pytest.param(one_issuer(keys="keys: {}"), 4, "one of url", id="keys nowhere"),
            pytest.param(one_issuer(keys="description: x"), 4, "unknown", id="no keys"),
            pytest.param(
                one_issuer(keys="keys: {file: a, url: 'https://a.test/'}"), 4, "one of", id="both"
            ),
            pytest.param(
                one_issuer(keys="keys: {file: a, ttlSeconds: 5}"), 4, "url", id="file ttl"
            ),
            pytest.param(one_issuer(keys="keys: {inline: '{}'}"), 4, "'keys'", id="bad inline"),
            pytest.param(
                one_issuer(keys="keys: {inline: {keys: []}}"), 4, "text", id="inline YAML"
            ),
            pytest.param(
                one_issuer(keys="keys: {inline: '{\"keys\": []}', maxStaleSeconds: 1}"),
                4,
                "inline",
                id="inline stale",
            ),
            pytest.param(
                one_issuer(keys="keys: {url: 'http://a.test/'}"), 4, "https", id="plain http"
            ),
            pytest.param(
                one_issuer().replace("https://a.test/", "spiffe://a.test"), 3, "issuer", id="spiffe"
            ),
            pytest.param(
                one_issuer() + "  - {issuer: 'https://a.test/', audiences: x, keys: {file: k}}",
                1,
                "once",
                id="issuer twice",
            ),
            pytest.param(one_issuer() + "token: {header: cookie}", 1, "header", id="cookie"),
            pytest.param(one_issuer() + "token: {maxBytes: 99999999}", 1, "max", id="too long"),
            pytest.param(
                "version: 1\njwtSvids: {audiences: a, algorithms: EdDSA}", 2, "EdDSA", id="EdDSA"
            ),
            pytest.param(
                "version: 1\njwtSvids: {audiences: a, trustDomains: A}", 2, "trust", id="bad domain"
            ),
            pytest.param(
                "version: 1\njwtSvids: [{audiences: a}, {audiences: b}]", 2, "once", id="2"
            ),
        ],
    )
    def test_refused(self, text, line, message):
        """A mistake is an error that names the file, the line and what was expected."""
        with pytest.raises(PolicyError, match=message) as caught:
            parse_settings(text, file="users.yaml")
        assert caught.value.file == "users.yaml"
        assert line in (None, caught.value.line)


class TestReadSettings:
    def test_file(self, tmp_path):
        """A file is read, and its relative paths are those of its directory."""
        (tmp_path / "users.yaml").write_text(one_issuer())
        found = read_settings(tmp_path / "users.yaml")
        assert found.issuers[0].keys == KeyFile(path=str(tmp_path / "k.json"))

    @pytest.mark.parametrize("content", [None, b"\xff"], ids=["missing", "not UTF-8"])
    def test_unreadable(self, tmp_path, content):
        """What cannot be read is an error that names the file."""
        path = tmp_path / "users.yaml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"users\.yaml"):
            read_settings(path)


class TestSettings:
    KEYS = InlineKeys.parse('{"keys": []}')

    @pytest.mark.parametrize(
        "wrong",
        [
            {"audiences": ()},
            {"audiences": ("",)},
            {"audiences": ("a\n",)},
            {"audiences": (7,)},
            {"algorithms": ()},
            {"algorithms": ("HS256",)},
            {"types": ()},
            {"leeway_seconds": -1},
            {"leeway_seconds": float("nan")},
            {"name": ""},
            {"name": "spiffe://example.org"},
        ],
        ids=str,
    )
    def test_issuer(self, wrong):
        """An issuer without audience, with a weak algorithm or an odd name cannot be made."""
        good = {"name": "https://a.test/", "audiences": "a", "keys": self.KEYS}
        assert Issuer(**good).audiences == ("a",)
        with pytest.raises(ConfigurationError):
            Issuer(**(good | wrong))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"jwt_svids": None},
            {"header": "Authorization"},
            {"header": "cookie"},
            {"header": ""},
            {"max_token_bytes": 0},
            {"remembered": 0},
        ],
        ids=str,
    )
    def test_users(self, wrong):
        """Settings that make no sense cannot be made."""
        with pytest.raises(ConfigurationError):
            UserSettings(**({"jwt_svids": JwtSvids(audiences="a")} | wrong))
