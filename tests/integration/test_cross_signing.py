# SPDX-License-Identifier: Apache-2.0
"""Attacks on a cross-signed partner, over real handshakes and by our own path validator.

Each case is judged twice: by OpenSSL with our rules, in a TLS handshake with a server of ours, and
by `verify_svid`. Both must say the same. A third judge is a plain OpenSSL server that trusts our
root and knows no trust domains: for it the name constraints are all there is.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kubetls_sdk.bundle import TrustBundle, TrustBundleSet
from kubetls_sdk.context import server_context
from kubetls_sdk.exceptions import PeerVerificationError
from kubetls_sdk.federation.signing import (
    PartnerAuthority,
    PartnerConstraints,
    SigningAuthority,
    cross_sign,
)
from kubetls_sdk.source import StaticSource
from kubetls_sdk.testing import DevelopmentCA
from kubetls_sdk.testing.authority import Authority, IssuedChain
from kubetls_sdk.testing.draft import Draft, key_usage, subject
from kubetls_sdk.testing.keys import new_key
from kubetls_sdk.verification import verify_svid
from tests.handshaking import Handshake, stock_client
from tests.integration.origin import stock_server_context

OURS = DevelopmentCA("example.org")
THEIRS = DevelopmentCA("partner.example")
PARTNER_ID = "spiffe://partner.example/ns/shop/sa/orders"


def cross(ca=THEIRS, *, issuer=OURS, now=None, ttl=timedelta(days=90), **constraints):
    """The partner's CA, signed by ours; subjects are left alone unless a test says otherwise."""
    text = ca.authority.public_bytes(Encoding.PEM)
    wanted = {"subjects": None, **constraints}
    return cross_sign(
        PartnerAuthority.parse(text, trust_domain=ca.trust_domain, now=OURS.now),
        issuer=SigningAuthority(issuer.root.certificate, issuer.root.private_key),
        own=issuer.trust_domain,
        constraints=PartnerConstraints(trust_domain=ca.trust_domain, **wanted),
        now=now or OURS.now,
        ttl=ttl,
    )


def unconstrained():
    """What a careless cross-signing would be: the control of the tests."""
    draft = Draft(
        THEIRS.authority.subject,
        THEIRS.root.private_key,
        OURS.now - timedelta(hours=1),
        OURS.now + timedelta(days=1),
    ).with_authority_profile("spiffe://partner.example", None)
    return OURS.root.sign(draft.having(OURS.root.key_identifier(), critical=False)).leaf


def leaf(
    uri=PARTNER_ID, *, names=(), common_name="orders", under=THEIRS.root, extra=(), is_bare=False
):
    """A leaf that the partner signs, with whatever names it likes."""
    key = new_key("p256")
    name = x509.Name([]) if is_bare else subject(common_name)
    draft = Draft(name, key, OURS.now - timedelta(minutes=1), OURS.now + timedelta(hours=1))
    draft = draft.with_leaf_profile(uri, ()).having(under.key_identifier(), critical=False)
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *names])
    chain = under.sign(draft.having(san, critical=is_bare))
    return IssuedChain((*chain.certificates, *extra), key)


def source(*partner_authorities, ours=None, domain=THEIRS.trust_domain):
    """A server of ours with our bundle and the partner's as it was accepted."""
    bundles = [OURS.bundle if ours is None else ours]
    if partner_authorities:
        bundles.append(TrustBundle(domain, partner_authorities))
    return StaticSource(OURS.issue("/server"), TrustBundleSet(bundles))


def verdict(chain, server):
    """Whether both judges accept a chain, and the anchor; they have to agree."""
    done = Handshake.run(stock_client(chain), server_context(server))
    peer = offline(chain, server)
    if peer is None:
        assert isinstance(done.server_error, PeerVerificationError)
        return None
    assert done.server_error is None
    assert done.server.verified_peer.spiffe_id == peer.spiffe_id
    assert done.server.verified_peer.anchor_der == peer.anchor_der
    return peer


def offline(chain, server):
    """The judgement of our own path validator."""
    try:
        return verify_svid(chain.certificates, bundles=server.snapshot.bundles, now=OURS.now)
    except PeerVerificationError:
        return None


def is_accepted_by_others(chain, roots):
    """The judgement of a plain OpenSSL server that trusts some roots."""
    context = stock_server_context(OURS.issue("/plain"), roots=roots)
    return Handshake.run(stock_client(chain), context).server_error is None


def root_pem(ca):
    return ca.authority.public_bytes(Encoding.PEM)


class TestAnchor:
    def test_partner_is_accepted(self):
        """The partner's leaves end in the certificate that we signed, as the partner's anchor."""
        anchor = cross()
        peer = verdict(leaf(), source(anchor))
        assert str(peer.spiffe_id) == PARTNER_ID
        assert peer.anchor_der == anchor.public_bytes(Encoding.DER)

    def test_presented_too(self):
        """It does not matter whether the partner presents it as well, or what else it presents."""
        anchor = cross()
        for extra in ([anchor], [anchor, OURS.authority], [THEIRS.authority, anchor]):
            peer = verdict(leaf(extra=extra), source(anchor))
            assert peer.anchor_der == anchor.public_bytes(Encoding.DER)

    def test_beside_the_partners_root(self):
        """While the partner's own root is still in its bundle, either of the two is the anchor."""
        assert verdict(leaf(extra=[cross()]), source(THEIRS.authority)) is not None

    def test_expired(self):
        """It is an anchor with an end."""
        old = cross(now=OURS.now - timedelta(hours=2), ttl=timedelta(hours=1))
        assert verdict(leaf(), source(old)) is None

    def test_removed(self):
        """Without it in the partner's bundle the partner is out, whoever signed it."""
        assert verdict(leaf(extra=[cross()]), source()) is None
        other = DevelopmentCA("partner.example").authority
        assert verdict(leaf(extra=[cross()]), source(other)) is None


class TestLongWay:
    """A path that goes on from the partner's CA to our root proves nothing."""

    @pytest.mark.parametrize("length", [1, 2])
    def test_partner_leaf_at_our_root(self, length):
        """A partner's leaf that reaches our root is refused: the partner's bundle decides."""
        chain = leaf(extra=[cross(), OURS.authority][:length])
        assert verdict(chain, source()) is None

    def test_our_name_by_the_long_way(self):
        """A leaf with a name of ours, under the partner's CA, up to our root: refused."""
        chain = leaf("spiffe://example.org/ns/shop/sa/admin", extra=[cross()])
        assert verdict(chain, source()) is None
        assert verdict(chain, source(cross())) is None
        assert verdict(chain, source(THEIRS.authority)) is None

    def test_control(self):
        """Without constraints that attack succeeds: it is they that stop it."""
        chain = leaf("spiffe://example.org/ns/shop/sa/admin", extra=[unconstrained()])
        assert verdict(chain, source()) is not None

    def test_control_with_the_partner(self):
        """An unconstrained anchor in the partner's own bundle mints no names of ours."""
        chain = leaf("spiffe://example.org/ns/shop/sa/admin")
        assert verdict(chain, source(unconstrained())) is None

    def test_intermediate_named_like_our_root(self):
        """A CA of the partner's that is named like ours hides nothing and reaches nothing."""
        draft = Draft(
            OURS.authority.subject,
            new_key("p256"),
            OURS.now - timedelta(hours=1),
            OURS.now + timedelta(hours=1),
        ).with_authority_profile("spiffe://example.org", None)
        signed = THEIRS.root.sign(draft.having(THEIRS.root.key_identifier(), critical=False))
        twin = Authority(signed.leaf, draft.key, above=(cross(path_length=1),))
        chain = leaf("spiffe://example.org/admin", under=twin)
        assert verdict(chain, source(cross(path_length=1))) is None
        ours = leaf(under=OURS.root, uri="spiffe://example.org/a")
        assert verdict(ours, source(cross())) is not None


OUTSIDE = [
    pytest.param({"names": [x509.DNSName("orders.shop.svc")]}, id="DNS name of our services"),
    pytest.param({"names": [x509.DNSName("google.com")]}, id="DNS name of others"),
    pytest.param({"names": [x509.DNSName("*.partner.example")]}, id="wildcard"),
    pytest.param({"names": [x509.IPAddress(ipaddress.ip_address("10.0.0.1"))]}, id="IPv4"),
    pytest.param({"names": [x509.IPAddress(ipaddress.ip_address("::1"))]}, id="IPv6"),
    pytest.param({"names": [x509.RFC822Name("root@example.org")]}, id="e-mail"),
    pytest.param({"names": [x509.RFC822Name("a@partner.example")]}, id="the partner's e-mail"),
    pytest.param({"common_name": "orders.shop.svc"}, id="host as common name"),
    pytest.param({"uri": "spiffe://example.org/ns/shop/sa/admin"}, id="SPIFFE ID of ours"),
    pytest.param({"uri": "spiffe://a.partner.example/x"}, id="SPIFFE ID below"),
    pytest.param({"uri": "spiffe://other.example/x"}, id="SPIFFE ID of another partner"),
]


class TestNames:
    @pytest.mark.parametrize("what", OUTSIDE)
    def test_outside(self, what):
        """Without names given, a leaf has the partner's SPIFFE ID and no other name."""
        chain = leaf(**what, extra=[cross()])
        assert verdict(chain, source(cross())) is None
        assert not is_accepted_by_others(chain, root_pem(OURS))

    @pytest.mark.parametrize("what", OUTSIDE[:-3])
    def test_control(self, what):
        """Each of them is accepted where the partner's own root is the anchor: no false alarm."""
        chain = leaf(**what, extra=[unconstrained()])
        assert verdict(chain, source(THEIRS.authority)) is not None
        assert is_accepted_by_others(chain, root_pem(OURS))

    def test_inside_for_others(self):
        """A plain verifier that trusts our root accepts the partner's names, and only those."""
        assert is_accepted_by_others(leaf(extra=[cross()]), root_pem(OURS))

    @pytest.mark.parametrize(
        ("name", "is_allowed"),
        [
            ("api.partner.example", True),
            ("eu.api.partner.example", True),
            ("API.partner.example", True),
            ("partner.example", False),
            ("xapi.partner.example", False),
            ("api.partner.example.evil.example", False),
            ("orders.shop.svc", False),
        ],
    )
    def test_dns_names_given(self, name, is_allowed):
        """DNS names that are given permit themselves and what is below."""
        anchor = cross(dns_names=("api.partner.example",))
        chain = leaf(names=[x509.DNSName(name)], extra=[anchor])
        assert (verdict(chain, source(anchor)) is not None) is is_allowed
        assert is_accepted_by_others(chain, root_pem(OURS)) is is_allowed

    @pytest.mark.parametrize(
        ("subjects", "name", "is_allowed"),
        [
            pytest.param((), None, True, id="none, and none"),
            pytest.param((), "CN=orders", False, id="none, and one"),
            pytest.param(("O=Partner",), "CN=orders,O=Partner", True, id="below"),
            pytest.param(("O=Partner",), "CN=orders,O=Other", False, id="beside"),
            pytest.param(("O=Partner",), "O=Partner,CN=orders", False, id="the wrong way round"),
            pytest.param(("O=Partner",), None, True, id="none below"),
        ],
    )
    def test_subjects(self, subjects, name, is_allowed):
        """Subjects are excluded unless they are given."""
        anchor = cross(subjects=tuple(map(x509.Name.from_rfc4514_string, subjects)))
        key = new_key("p256")
        held = x509.Name([]) if name is None else x509.Name.from_rfc4514_string(name)
        draft = Draft(held, key, OURS.now - timedelta(minutes=1), OURS.now + timedelta(hours=1))
        draft = draft.with_leaf_profile(PARTNER_ID, ())
        signed = THEIRS.root.sign(draft.having(THEIRS.root.key_identifier(), critical=False))
        chain = IssuedChain((*signed.certificates, anchor), key)
        assert (verdict(chain, source(anchor)) is not None) is is_allowed
        assert is_accepted_by_others(chain, root_pem(OURS)) is is_allowed

    def test_directory_name_as_alternative(self):
        """A directory name in the alternatives counts as one."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:admin")])
        anchor = cross(subjects=())
        chain = leaf(names=[x509.DirectoryName(name)], is_bare=True, extra=[anchor])
        assert verdict(chain, source(anchor)) is None
        assert not is_accepted_by_others(chain, root_pem(OURS))
        assert verdict(leaf(is_bare=True), source(anchor)) is not None


class TestPath:
    def test_intermediates(self):
        """As many CAs below the partner's as were allowed, and no more."""
        middle = THEIRS.intermediate()
        for allowed in (0, 1):
            anchor = cross(path_length=allowed)
            peer = verdict(leaf(under=middle, extra=[anchor]), source(anchor))
            assert (peer is not None) is bool(allowed)

    def test_wider_intermediate(self):
        """A CA below cannot widen what the one above allows."""
        wide = THEIRS.intermediate(
            constraints=x509.NameConstraints([x509.DNSName("shop.svc")], None)
        )
        anchor = cross(path_length=1)
        chain = leaf(under=wide, names=[x509.DNSName("orders.shop.svc")], extra=[anchor])
        assert verdict(chain, source(anchor)) is None
        assert not is_accepted_by_others(chain, root_pem(OURS))

    def test_self_issued_intermediate(self):
        """A CA that has the name of its issuer is not bound itself, but its leaves are."""
        draft = Draft(
            THEIRS.authority.subject,
            new_key("p256"),
            OURS.now - timedelta(hours=1),
            OURS.now + timedelta(hours=1),
        ).with_authority_profile("spiffe://partner.example", None)
        signed = THEIRS.root.sign(draft.having(THEIRS.root.key_identifier(), critical=False))
        twin = Authority(signed.leaf, draft.key)
        anchor = cross()
        for names in ([x509.DNSName("orders.shop.svc")], [x509.RFC822Name("a@b.example")]):
            chain = leaf(under=twin, names=names, extra=[anchor])
            assert verdict(chain, source(anchor)) is None
            assert not is_accepted_by_others(chain, root_pem(OURS))

    def test_other_purposes(self):
        """What the partner signs for code or mail is none of our root's business."""
        anchor = cross()
        purposes = anchor.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert x509.ExtendedKeyUsageOID.CODE_SIGNING not in set(purposes)

    def test_partner_ca_as_leaf(self):
        """The CA itself authenticates nobody."""
        chain = IssuedChain((cross(),), THEIRS.root.private_key)
        assert verdict(chain, source(cross())) is None

    def test_other_partner(self):
        """One partner's certificate of ours says nothing about another partner."""
        second = DevelopmentCA("second.example")
        chain = leaf("spiffe://second.example/a", extra=[cross(), cross(second)])
        bundles = TrustBundleSet(
            [
                OURS.bundle,
                TrustBundle(THEIRS.trust_domain, (cross(),)),
                TrustBundle(second.trust_domain, (cross(second),)),
            ]
        )
        server = StaticSource(OURS.issue("/server"), bundles)
        assert verdict(chain, server) is None
        honest = IssuedChain(*_parts(second.issue("/a")))
        assert verdict(honest, server) is not None

    def test_missing_key_usage(self):
        """The bits of a CA are there: no verifier has to guess."""
        usage = cross().extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage == key_usage(key_cert_sign=True, crl_sign=True)


def _parts(svid):
    return tuple(svid.chain), svid.private_key


class TestOtherWayRound:
    """Our CA signed by the partner's, delivered as an intermediate with our leaves."""

    @pytest.fixture
    def ours_by_theirs(self):
        return cross(OURS, issuer=THEIRS)

    def test_others_accept_us(self, ours_by_theirs):
        """Whoever trusts the partner's root accepts our leaves through it."""
        svid = OURS.issue("/web")
        ours = IssuedChain((*svid.chain, ours_by_theirs), svid.private_key)
        assert is_accepted_by_others(ours, root_pem(THEIRS))
        assert not is_accepted_by_others(IssuedChain(*_parts(svid)), root_pem(THEIRS))

    def test_within_the_constraints(self, ours_by_theirs):
        """And nothing but our own names: our services' DNS names are ours alone."""
        svid = OURS.issue("/web", dns_names=["web.shop.svc"])
        ours = IssuedChain((*svid.chain, ours_by_theirs), svid.private_key)
        assert not is_accepted_by_others(ours, root_pem(THEIRS))

    def test_our_own_peers(self, ours_by_theirs):
        """Our own peers are not confused by it: they end at our root."""
        svid = OURS.issue("/web")
        chain = IssuedChain((*svid.chain, ours_by_theirs), svid.private_key)
        peer = verdict(chain, source(THEIRS.authority))
        assert peer.anchor_der == OURS.authority.public_bytes(Encoding.DER)

    def test_at_the_partner(self, ours_by_theirs):
        """A partner with KubeTLS puts it into the bundle of our trust domain; its root is not."""
        svid = OURS.issue("/web")
        chain = IssuedChain((*svid.chain, ours_by_theirs), svid.private_key)
        mine = StaticSource(THEIRS.issue("/server"), TrustBundleSet([THEIRS.bundle]))
        assert verdict(chain, mine) is None
        both = [THEIRS.bundle, TrustBundle(OURS.trust_domain, (ours_by_theirs,))]
        server = StaticSource(THEIRS.issue("/server"), TrustBundleSet(both))
        assert verdict(chain, server) is not None
