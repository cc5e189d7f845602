# SPDX-License-Identifier: Apache-2.0
"""The five checks in the audit log, for each way that a request can go."""

from __future__ import annotations

import io
import json
import logging

import pytest

from kubetls_sdk import audit
from kubetls_sdk.server.asgi import KubeTLSMiddleware
from kubetls_sdk.server.authorizer import AnyCaller
from kubetls_sdk.users import Issuer, Users, UserSettings
from tests.sdk.server.scopes import Recorder, World, call, http_scope
from tests.sdk.server.test_users import POLICY, SIGNER, Keys, with_token
from tests.tokens import AUDIENCE, ISSUER

PASSED, FAILED, NOT_ASKED, NOT_REACHED = "passed", "failed", "not-asked", "not-reached"


@pytest.fixture
def world():
    return World()


@pytest.fixture
def users():
    issuer = Issuer(name=ISSUER, audiences=AUDIENCE, keys=Keys())
    with Users(UserSettings(issuers=(issuer,))) as opened:
        yield opened


@pytest.fixture
def line_of():
    def line_of(scope, **options):
        written = io.StringIO()
        audit.enable(logging.StreamHandler(written))
        try:
            call(KubeTLSMiddleware(Recorder(), **{"policy": POLICY, **options}), scope)
        finally:
            audit.disable()
        return json.loads(written.getvalue().splitlines()[0])

    return line_of


def results(line):
    return tuple(line["checks"].values())


class TestWithUsers:
    @pytest.mark.parametrize(
        ("expected", "path", "tokens"),
        [
            pytest.param(
                (PASSED, PASSED, PASSED, PASSED, PASSED),
                "/users/alice",
                (SIGNER.token(),),
                id="own resource",
            ),
            pytest.param(
                (PASSED, PASSED, PASSED, PASSED, FAILED),
                "/users/bob",
                (SIGNER.token(),),
                id="somebody else's resource",
            ),
            pytest.param(
                (PASSED, PASSED, PASSED, PASSED, NOT_ASKED),
                "/orders/42",
                (SIGNER.token(),),
                id="any user",
            ),
            pytest.param(
                (PASSED, PASSED, FAILED, PASSED, NOT_REACHED),
                "/admin",
                (SIGNER.token(),),
                id="no service may",
            ),
            pytest.param(
                (PASSED, PASSED, PASSED, FAILED, NOT_REACHED), "/orders/42", (), id="no token"
            ),
            pytest.param(
                (PASSED, PASSED, NOT_REACHED, FAILED, NOT_REACHED),
                "/orders/42",
                (SIGNER.token(exp=1),),
                id="bad token",
            ),
            pytest.param(
                (PASSED, PASSED, PASSED, NOT_ASKED, NOT_ASKED), "/public", (), id="user optional"
            ),
        ],
    )
    def test_results(self, world, users, line_of, expected, path, tokens):
        """Encryption, service authentication and authorization, user, user and resource."""
        scope = with_token(http_scope(world.connection(), path=path), *tokens)
        assert results(line_of(scope, users=users)) == expected

    def test_evidence(self, world, users, line_of):
        """The evidence is in the record: TLS version, identity, generation, rule and user."""
        scope = with_token(http_scope(world.connection(), path="/users/alice"), SIGNER.token())
        scope["extensions"]["tls"] = {"tls_version": 0x0304}
        line = line_of(scope, users=users)
        assert line["tls"] == "TLSv1.3"
        assert line["spiffe_id"] == "spiffe://example.org/ns/shop/sa/web"
        assert (line["generation"], line["rule"]) == (1, "owner-reads")
        assert line["user"] == {"issuer": ISSUER, "subject": "alice"}

    def test_refused_user(self, world, users, line_of):
        """A refused token names no user: nobody was proven."""
        scope = with_token(http_scope(world.connection()), SIGNER.token(aud="x", sub="mallory"))
        line = line_of(scope, users=users)
        assert (line["decision"], line["user"]) == ("deny", None)
        assert "mallory" not in json.dumps(line)

    def test_long_subject(self, world, users, line_of):
        """A long subject is cut, and an odd one escaped."""
        scope = with_token(http_scope(world.connection()), SIGNER.token(sub='"' + "é" * 1500))
        line = line_of(scope, users=users)
        assert line["user"]["subject"] == '"' + "é" * 1023 + "..."


class TestWithoutUsers:
    def test_allowed(self, world, line_of):
        """Where no users are authenticated nobody asks for them."""
        line = line_of(http_scope(world.connection()))
        assert results(line) == (PASSED, PASSED, PASSED, NOT_ASKED, NOT_ASKED)
        assert line["user"] is None

    def test_denied(self, world, line_of):
        """A denied service is a failed authorization."""
        line = line_of(http_scope(world.connection(), path="/admin"))
        assert results(line) == (PASSED, PASSED, FAILED, NOT_ASKED, NOT_REACHED)

    def test_anonymous(self, world, line_of):
        """An anonymous caller who is let in was not asked who it is."""
        line = line_of(http_scope(world.connection(None)), policy=AnyCaller(), optional=True)
        assert results(line) == (PASSED, NOT_ASKED, PASSED, NOT_ASKED, NOT_ASKED)

    def test_removed_root(self, world, line_of):
        """A peer whose proof does not hold any more has failed at that."""
        connection = world.connection()
        world.distrust()
        line = line_of(http_scope(connection))
        assert results(line) == (PASSED, FAILED, NOT_REACHED, NOT_REACHED, NOT_REACHED)

    def test_malformed(self, world, line_of):
        """A request that is not canonical reaches no policy."""
        line = line_of(http_scope(world.connection(), path="/a/../b"))
        assert results(line) == (PASSED, PASSED, NOT_REACHED, NOT_REACHED, NOT_REACHED)
