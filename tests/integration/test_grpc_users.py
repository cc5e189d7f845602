# SPDX-License-Identifier: Apache-2.0
"""End users of gRPC calls: who gets in, and what the others are told."""

from __future__ import annotations

import grpc
import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from kubetls_sdk import TrustBundle, TrustBundleSet
from kubetls_sdk.exceptions import ConfigurationError, PolicyError
from kubetls_sdk.server.authorizer import AnyVerified
from kubetls_sdk.server.grpc import authorize, end_user, server
from kubetls_sdk.users import JwtSvids, Users, UserSettings
from tests.integration.grpc_users import (
    ALICE,
    OPTIONAL,
    RULES,
    SIGNER,
    AsyncUserOrders,
    UserOrders,
    bearer,
    policies,
    serve_users,
    settings,
)
from tests.integration.grpc_world import ARITIES, KINDS, World, code_of, invoke, path, serve
from tests.tokens import AUDIENCE, Signer, base64url

UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "permission denied")


@pytest.fixture
def world():
    return World()


@pytest.fixture
def users():
    with Users(settings()) as opened:
        yield opened


def challenge(channel, metadata=None):
    """Status and challenge of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path("unary_unary"))(b"a", timeout=10, metadata=metadata)
    trailing = dict(caught.value.trailing_metadata())
    return caught.value.code(), trailing.get("www-authenticate")


class TestUser:
    @pytest.mark.parametrize("registration", ["generic", "registered"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_method_knows_its_user(self, world, users, kind, registration):
        """Methods of all arities, however registered, get the user whom the policy was asked of."""
        with serve_users(world, kind, users=users, registration=registration) as serving:
            channel = serving.channel()
            for arity in ARITIES:
                got = invoke(channel, arity, b"a", metadata=bearer(SIGNER.token()))
                assert got == [ALICE + b" a"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_token(self, world, users, kind):
        """Without a token nothing is read: unknown methods get the same answer as known ones."""
        with serve_users(world, kind, users=users) as serving:
            channel = serving.channel()
            for arity in ARITIES:
                assert code_of(channel, arity, b"a") == UNAUTHENTICATED
                assert code_of(channel, arity, b"malformed") == UNAUTHENTICATED
                got = code_of(channel, arity, b"a", method=path("unknown"))
                assert got == UNAUTHENTICATED
            assert challenge(channel) == (grpc.StatusCode.UNAUTHENTICATED, "Bearer")
            assert serving.orders.seen == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_bad_token(self, world, users, kind):
        """A token that proves nothing is refused on all arities, also where none is needed."""
        expired = bearer(SIGNER.token(exp=1))
        for text in (RULES, OPTIONAL):
            with serve_users(world, kind, users=users, policy=policies(text)) as serving:
                channel = serving.channel()
                for arity in ARITIES:
                    assert code_of(channel, arity, b"a", metadata=expired) == UNAUTHENTICATED
                assert challenge(channel, expired) == (
                    grpc.StatusCode.UNAUTHENTICATED,
                    'Bearer error="invalid_token"',
                )
                assert serving.orders.seen == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_other_user(self, world, users, kind):
        """A user whom no rule allows is denied, as is what no rule allows to anybody."""
        bob = bearer(SIGNER.token(sub="bob"))
        with serve_users(world, kind, users=users) as serving:
            channel = serving.channel()
            for arity in ARITIES:
                assert code_of(channel, arity, b"a", metadata=bob) == DENIED
            for metadata in (None, bob):
                got = code_of(channel, "unary_unary", b"a", method="/a.B/C", metadata=metadata)
                assert got == DENIED

    @pytest.mark.parametrize("kind", KINDS)
    def test_optional(self, world, users, kind):
        """A rule that says so lets calls without a token in; the user is None."""
        with serve_users(world, kind, users=users, policy=policies(OPTIONAL)) as serving:
            for arity in ARITIES:
                assert invoke(serving.channel(), arity, b"a") == [b"nobody a"]

    def test_any_verified(self, world, users):
        """An authorizer that knows no users leaves the demand for one in force."""
        with serve_users(world, users=users, policy=AnyVerified()) as serving:
            channel = serving.channel()
            assert code_of(channel, "unary_unary", b"a") == UNAUTHENTICATED
            assert invoke(channel, "unary_unary", b"a", metadata=bearer(SIGNER.token()))

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_open_methods(self, world, users, kind):
        """A method that is open to every workload needs no user, but takes no bad token either."""
        opened = [path("unary_unary")]
        with serve_users(world, kind, users=users, open_methods=opened) as serving:
            channel = serving.channel()
            assert invoke(channel, "unary_unary", b"a") == [b"nobody a"]
            bad = bearer(SIGNER.token(exp=1))
            assert code_of(channel, "unary_unary", b"a", metadata=bad) == UNAUTHENTICATED

    def test_untrusted_peer(self, world, users):
        """A good token does not replace a good certificate, and draws no challenge."""
        with serve_users(world, users=users) as serving:
            forged = serving.channel(world.partner.issue_for("example.org", "/ns/shop/sa/web"))
            got = challenge(forged, bearer(SIGNER.token()))
            assert got == (grpc.StatusCode.UNAUTHENTICATED, None)

    def test_path_that_is_not_canonical(self, world, users):
        """Another spelling of a path stays refused with any token."""
        with serve_users(world, users=users) as serving:
            for token in (SIGNER.token(), SIGNER.token(exp=1)):
                got = code_of(
                    serving.channel(), "unary_unary", b"a",
                    method="/shop.Orders//unary_unary", metadata=bearer(token),
                )  # fmt: skip
                assert got == DENIED

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_bound_token(self, world, users, kind):
        """A token that is bound to the peer's certificate works there and nowhere else."""
        web, thief = (world.ca.issue("/ns/shop/sa/web") for _ in range(2))
        digest = base64url(web.chain[0].fingerprint(SHA256())).decode()
        metadata = bearer(SIGNER.token(cnf={"x5t#S256": digest}))
        with serve_users(world, kind, users=users) as serving:
            assert invoke(serving.channel(web), "unary_unary", b"a", metadata=metadata)
            got = code_of(serving.channel(thief), "unary_unary", b"a", metadata=metadata)
            assert got == UNAUTHENTICATED

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_jwt_svid(self, world, kind):
        """A JWT-SVID is verified by the bundle of its own trust domain, and no other one."""
        with_keys = TrustBundle(
            world.ca.trust_domain,
            world.ca.bundle.authorities,
            jwt_authorities={"k1": SIGNER.jwk(use="jwt-svid")},
        )
        world.source.replace(bundles=TrustBundleSet([with_keys, world.partner.bundle]))
        batch = "spiffe://example.org/ns/shop/sa/batch"
        policy = policies(RULES.replace("'alice'", f"'{batch}'"))
        chosen = UserSettings(jwt_svids=JwtSvids(audiences=AUDIENCE))
        with serve_users(world, kind, users=chosen, policy=policy) as serving:
            channel = serving.channel()
            claims = {"sub": batch, "iss": None}
            good, forged = (
                bearer(signer.token({"typ": "JWT"}, **claims))
                for signer in (SIGNER, Signer("ES256", number=1))
            )
            [answer] = invoke(channel, "unary_unary", b"a", metadata=good)
            assert answer == f"spiffe://example.org|{batch} a".encode()
            assert code_of(channel, "unary_unary", b"a", metadata=forged) == UNAUTHENTICATED


class TestMetadata:
    """Where the token is, and what is none."""

    @pytest.fixture(params=["threaded", "async"])
    def channel(self, request, world, users):
        with serve_users(world, request.param, users=users) as serving:
            yield serving.channel()

    @pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
    def test_scheme(self, channel, scheme):
        """The scheme has no case."""
        metadata = [("authorization", scheme + SIGNER.token().decode())]
        assert invoke(channel, "unary_unary", b"a", metadata=metadata) == [ALICE + b" a"]

    @pytest.mark.parametrize(
        "metadata",
        [
            pytest.param([("authorization", "Basic YTpi")], id="other scheme"),
            pytest.param([("authorization", SIGNER.token().decode())], id="no scheme"),
            pytest.param([("authorization-bin", b"Bearer " + SIGNER.token())], id="binary"),
            pytest.param([("x-authorization", "Bearer " + SIGNER.token().decode())], id="other"),
            pytest.param([("cookie", "authorization=" + SIGNER.token().decode())], id="cookie"),
        ],
    )
    def test_no_token(self, channel, metadata):
        """Anything else is no token."""
        assert challenge(channel, metadata) == (grpc.StatusCode.UNAUTHENTICATED, "Bearer")

    @pytest.mark.parametrize(
        "metadata",
        [
            pytest.param(bearer(SIGNER.token(), SIGNER.token()), id="two"),
            pytest.param([*bearer(SIGNER.token()), ("authorization", "Basic YQ==")], id="mixed"),
            pytest.param(
                [("authorization", ", ".join(f"Bearer {SIGNER.token().decode()}" for _ in "ab"))],
                id="joined",
            ),
            pytest.param([("authorization", "Bearer ")], id="empty"),
            pytest.param([("authorization", "Bearer")], id="bare"),
            pytest.param([("authorization", "Bearer " + "a" * 5000)], id="oversized"),
            pytest.param(bearer(Signer("ES256", number=1).token()), id="forged"),
            pytest.param(bearer(SIGNER.token(aud="https://other.test")), id="other audience"),
            pytest.param(bearer(SIGNER.token({"alg": "none"})), id="no signature"),
        ],
    )
    def test_bad_token(self, channel, metadata):
        """Several tokens, and what is not one of ours, are refused."""
        expected = (grpc.StatusCode.UNAUTHENTICATED, 'Bearer error="invalid_token"')
        assert challenge(channel, metadata) == expected

    def test_too_much_metadata(self, channel):
        """What gRPC itself refuses does not get as far as that."""
        metadata = [("authorization", "Bearer " + "a" * 100_000)]
        code, _ = code_of(channel, "unary_unary", b"a", metadata=metadata)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        good = bearer(SIGNER.token())
        assert invoke(channel, "unary_unary", b"a", metadata=good) == [ALICE + b" a"]

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_own_field(self, world, kind):
        """Settings may name another field, which then is the only one."""
        with serve_users(world, kind, users=settings(header="x-user-token")) as serving:
            channel, token = serving.channel(), SIGNER.token().decode()
            metadata = [("x-user-token", token)]
            assert invoke(channel, "unary_unary", b"a", metadata=metadata) == [ALICE + b" a"]
            got = challenge(channel, bearer(SIGNER.token()))
            assert got == (grpc.StatusCode.UNAUTHENTICATED, "Bearer")


class TestChoice:
    def test_file(self, world, tmp_path):
        """A users file is read, and its keys are followed until the server ends."""
        (tmp_path / "keys.json").write_text(SIGNER.jwks())
        file = tmp_path / "users.yaml"
        file.write_text(
            f"version: 1\nissuers:\n  - issuer: https://login.example.com/\n"
            f"    audiences: {AUDIENCE}\n    keys: {{file: keys.json}}\n"
        )
        with serve_users(world, users=file) as serving:
            metadata = bearer(SIGNER.token())
            assert invoke(serving.channel(), "unary_unary", b"a", metadata=metadata)

    def test_missing_file(self, world, tmp_path):
        """A users file that is not there ends the start."""
        with pytest.raises(ConfigurationError, match="missing"):
            server(policy=policies(), source=world.source, users=tmp_path / "missing.yaml")

    def test_unclear_policy(self, world, users):
        """A rule about users of an issuer that vouches for nobody here is a mistake."""
        text = RULES.replace("user.sub == 'alice'", "user.iss == 'https://other.test/'")
        with pytest.raises(PolicyError, match="other"):
            server(policy=policies(text), source=world.source, users=users)

    @pytest.mark.parametrize("kind", ["threaded", "async"])
    def test_without_users(self, world, kind):
        """Without users a token means nothing, and asking for the user is an error."""
        asked = []

        class Asking(UserOrders if kind == "threaded" else AsyncUserOrders):
            def who(self, context):
                with pytest.raises(ConfigurationError, match="users"):
                    end_user(context)
                asked.append(True)
                return b"somebody"

        with serve(world, kind, orders=Asking()) as serving:
            metadata = [("authorization", "Bearer rubbish")]
            assert invoke(serving.channel(), "unary_unary", b"a", metadata=metadata)
        assert asked == [True]


class TestAuthorize:
    @pytest.mark.parametrize("kind", KINDS)
    def test_own_resource(self, world, users, kind):
        """The application asks the policy about its own resources, for the user of the call."""

        class Owned(UserOrders if kind != "async" else AsyncUserOrders):
            def who(self, context):
                answers = [
                    authorize(context, "cancel", "order", owner=owner).allowed
                    for owner in ("alice", "bob")
                ]
                return repr(answers).encode()

        with serve_users(world, kind, users=users, orders=Owned()) as serving:
            metadata = bearer(SIGNER.token())
            [answer] = invoke(serving.channel(), "unary_unary", b"a", metadata=metadata)
            assert answer == b"[True, False] a"

    def test_other_authorizer(self, world):
        """An authorizer that is not policy files cannot be asked."""

        class Owned(UserOrders):
            def who(self, context):
                with pytest.raises(ConfigurationError, match="policy files"):
                    authorize(context, "cancel", "order")
                return b"no"

        with serve(world, orders=Owned()) as serving:
            assert invoke(serving.channel(), "unary_unary", b"a") == [b"no a"]

    def test_no_call_of_ours(self):
        """A context that nothing of ours has admitted is refused."""
        with pytest.raises(ConfigurationError, match="AuthInterceptor"):
            authorize(object(), "cancel", "order")
