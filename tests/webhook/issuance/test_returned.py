# SPDX-License-Identifier: Apache-2.0
"""Answers of external signers: what is accepted, and what is refused."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubetls_sdk.bundle import TrustBundle
from kubetls_sdk.spiffe_id import SpiffeId, TrustDomain
from kubetls_sdk.svid import X509Svid
from tests.webhook.issuance.samples import NOW, authority, development_ca, grant, key, subordinate
from webhook.exceptions import IssuanceError
from webhook.issuance.leaf import BOTH_ROLES, KEY_USAGE
from webhook.issuance.profile import issue, names_of
from webhook.issuance.returned import TOLERANCE, verify_returned

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
START = NOW.replace(microsecond=0)
URI = "spiffe://example.org/ns/shop/sa/web"


def bundle_of(by):
    return TrustBundle(TrustDomain("example.org"), (by.anchor,))


def usage(**bits):
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        " key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names.split()})


def leaf(
    by,
    *,
    private=None,
    subject=(("commonName", "web-0"),),
    not_before=START,
    not_after=START + DAY,
    drop=(),
    replace=(),
    add=(),
    digest=None,
):
    """A certificate as an external signer might make it: the right one, but for the arguments."""
    kinds = {
        x509.SubjectAlternativeName: (names_of(grant()), False),
        x509.KeyUsage: (KEY_USAGE, True),
        x509.ExtendedKeyUsage: (BOTH_ROLES, False),
        x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True),
    }
    kinds |= {type(value): (value, critical) for value, critical in replace}
    oids = {"commonName": NameOID.COMMON_NAME, "organizationName": NameOID.ORGANIZATION_NAME}
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oids[oid], text) for oid, text in subject]))
        .issuer_name(by.certificate.subject)
        .public_key((private or key()).public_key())
        .serial_number(4711)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    for value, critical in [pair for kind, pair in kinds.items() if kind not in drop] + list(add):
        builder = builder.add_extension(value, critical)
    return builder.sign(by.private_key, digest or by.digest)


def pem(*certificates):
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def names(*general):
    return (x509.SubjectAlternativeName(list(general)), False)


def accepted(text, by, **options):
    return verify_returned(text, options.pop("granted", grant()), bundle_of(by), NOW, **options)


def refusal(text, by, **options):
    with pytest.raises(IssuanceError) as caught:
        accepted(text, by, **options)
    assert caught.value.reason == "UnacceptableCertificate"
    assert not caught.value.is_retryable
    return str(caught.value)


@pytest.fixture(scope="module")
def by():
    return authority(development_ca())


class TestAccepted:
    def test_of_a_root(self, by):
        """What equals the request is accepted, with the times that the certificate says."""
        answer = leaf(by)
        found = accepted(pem(answer), by)
        assert found.certificate == answer
        assert found.chain_pem == pem(answer)
        assert found.serial == 4711
        assert (found.not_before, found.not_after) == (START, START + DAY)
        assert START + 0.4 * DAY <= found.begin_refresh_at <= START + 0.6 * DAY

    def test_it_is_an_svid(self, by):
        """What is handed on, with the key, is an SVID of the identity that was asked for."""
        below = subordinate(depth=2)
        found = accepted(pem(leaf(below), *below.certificates), below)
        chain = tuple(x509.load_pem_x509_certificates(found.chain_pem))
        assert X509Svid(chain, key()).spiffe_id == SpiffeId.parse(URI)

    def test_order_and_surplus(self):
        """However the way up is sent, it is handed on in order, without the root."""
        below, other = subordinate(depth=3), development_ca().issue()
        answer = leaf(below)
        sent = (answer, below.anchor, *reversed(below.certificates), other.leaf)
        found = accepted(pem(*sent), below)
        assert found.chain_pem == pem(answer, *below.certificates)

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({"subject": ()}, id="empty-subject"),
            pytest.param({"drop": [x509.BasicConstraints]}, id="no-constraints"),
            pytest.param({"not_before": START - timedelta(minutes=5)}, id="dated-back"),
            pytest.param(
                {"not_before": START - TOLERANCE, "not_after": START - TOLERANCE + DAY},
                id="shifted",
            ),
            pytest.param({"not_after": START + DAY + TOLERANCE}, id="longest"),
            pytest.param({"not_after": START + DAY - TOLERANCE}, id="shortest"),
            pytest.param(
                {
                    "replace": [
                        names(*reversed(list(names_of(grant())))),
                    ]
                },
                id="names-in-another-order",
            ),
            pytest.param({"replace": [(names_of(grant()), True)]}, id="critical-names"),
            pytest.param(
                {
                    "replace": [
                        (
                            x509.ExtendedKeyUsage(
                                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
                            ),
                            True,
                        )
                    ]
                },
                id="critical-roles",
            ),
            pytest.param(
                {
                    "add": [
                        (
                            x509.CRLDistributionPoints(
                                [
                                    x509.DistributionPoint(
                                        [x509.UniformResourceIdentifier("http://crl.example/")],
                                        None,
                                        None,
                                        None,
                                    )
                                ]
                            ),
                            False,
                        )
                    ]
                },
                id="revocation-list",
            ),
        ],
    )
    def test_what_signers_differ_in(self, by, options):
        """Signers may write the same thing in their own way."""
        assert accepted(pem(leaf(by, **options)), by)

    def test_ours(self, by):
        """What our own signer makes is accepted by the same rules."""
        found = issue(grant(), by, now=NOW)
        assert accepted(found.chain_pem, by).serial == found.serial

    def test_an_early_refresh(self, by):
        """A pod that waits for its Service asks again soon, whoever signs."""
        found = accepted(pem(leaf(by)), by, granted=grant(refreshes_early=True))
        assert found.begin_refresh_at == START + timedelta(minutes=10)


DNS = [x509.DNSName(name) for name in grant().dns_names]
IDENTITY = x509.UniformResourceIdentifier(URI)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param(
                {"private": ec.generate_private_key(ec.SECP256R1())}, "public key", id="another-key"
            ),
            pytest.param(
                {"replace": [names(x509.UniformResourceIdentifier(f"{URI}2"), *DNS)]},
                "SPIFFE ID",
                id="another-identity",
            ),
            pytest.param(
                {"replace": [names(IDENTITY, *DNS, x509.DNSName("bank.example"))]},
                "names",
                id="one-name-more",
            ),
            pytest.param({"replace": [names(IDENTITY, DNS[0])]}, "names", id="one-name-less"),
            pytest.param({"replace": [names(IDENTITY)]}, "names", id="no-dns-name"),
            pytest.param(
                {"replace": [names(IDENTITY, DNS[0], DNS[0])]}, "names", id="a-name-twice"
            ),
            pytest.param(
                {"replace": [names(IDENTITY, DNS[0], x509.DNSName("WEB.shop.svc.cluster.local"))]},
                "names",
                id="upper-case",
            ),
            pytest.param(
                {"replace": [names(IDENTITY, *DNS, x509.RFC822Name("root@example.org"))]},
                "names",
                id="mail",
            ),
            pytest.param(
                {"replace": [names(IDENTITY, IDENTITY, *DNS)]}, "exactly one URI", id="two-uris"
            ),
            pytest.param({"replace": [names(*DNS)]}, "exactly one URI", id="no-identity"),
            pytest.param(
                {"drop": [x509.SubjectAlternativeName]},
                "expected a subject alternative name",
                id="no-names",
            ),
            pytest.param({"drop": [x509.KeyUsage]}, "expected a KeyUsage", id="no-usage"),
            pytest.param({"drop": [x509.ExtendedKeyUsage]}, "lacks an extension", id="no-roles"),
            pytest.param(
                {"replace": [(KEY_USAGE, False)]},
                "KeyUsage to be critical",
                id="usage-not-critical",
            ),
            pytest.param(
                {"replace": [(usage(digital_signature=True, key_encipherment=True), True)]},
                "key usage",
                id="another-usage-too",
            ),
            pytest.param(
                {"replace": [(usage(digital_signature=True, key_cert_sign=True), True)]},
                "without keyCertSign",
                id="may-sign",
            ),
            pytest.param(
                {"replace": [(x509.BasicConstraints(ca=True, path_length=None), True)]},
                "got a CA",
                id="an-authority",
            ),
            pytest.param(
                {
                    "replace": [
                        (
                            x509.ExtendedKeyUsage(
                                [*BOTH_ROLES, ExtendedKeyUsageOID.CODE_SIGNING],
                            ),
                            False,
                        )
                    ]
                },
                "extended key usage",
                id="another-role-too",
            ),
            pytest.param(
                {
                    "replace": [
                        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)
                    ]
                },
                "serverAuth and clientAuth",
                id="any-role",
            ),
            pytest.param(
                {"replace": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]},
                "serverAuth and clientAuth",
                id="one-role",
            ),
            pytest.param({"subject": [("commonName", "admin")]}, "subject", id="another-subject"),
            pytest.param(
                {"subject": [("organizationName", "system:masters"), ("commonName", "web-0")]},
                "subject",
                id="an-organisation",
            ),
            pytest.param(
                {"not_after": START + DAY + TOLERANCE + SECOND},
                "expected a validity",
                id="too-long",
            ),
            pytest.param(
                {"not_after": START + DAY - TOLERANCE - SECOND},
                "expected a validity",
                id="too-short",
            ),
            pytest.param(
                {"not_before": START - DAY, "not_after": START - SECOND}, "expired", id="expired"
            ),
            pytest.param(
                {"not_before": START + 2 * SECOND, "not_after": START + DAY},
                "not valid before",
                id="of-the-future",
            ),
            pytest.param(
                {"not_before": START - 0.6 * DAY, "not_after": START + 0.4 * DAY},
                "more than half of its life gone",
                id="old",
            ),
            pytest.param(
                {
                    "add": [
                        (
                            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"),
                            True,
                        )
                    ]
                },
                "unknown critical extension",
                id="unknown-critical",
            ),
        ],
    )
    def test_other_than_asked_for(self, by, options, message):
        """Whatever differs from the request, be it more or less, is refused and named."""
        assert message in refusal(pem(leaf(by, **options)), by)

    def test_another_signer(self, by):
        """A signer that is not in the configured bundle proves nothing, with its root or not."""
        other = authority()
        for sent in ((leaf(other),), (leaf(other), other.anchor)):
            assert "does not verify under the configured bundle" in refusal(pem(*sent), by)

    def test_a_bundle_of_another_domain(self, by):
        """The configured bundle is of the identity's own trust domain."""
        bundle = TrustBundle(TrustDomain("other.example"), (by.anchor,))
        with pytest.raises(IssuanceError, match=r"no trust bundle of 'example\.org'"):
            verify_returned(pem(leaf(by)), grant(), bundle, NOW)

    def test_an_empty_bundle(self, by):
        """An empty bundle accepts nobody."""
        bundle = TrustBundle(TrustDomain("example.org"), ())
        with pytest.raises(IssuanceError, match="trusts nobody"):
            verify_returned(pem(leaf(by)), grant(), bundle, NOW)

    def test_an_authority_that_ends_before(self):
        """A certificate is as short as the way up to the root."""
        below = subordinate(ttl=timedelta(hours=3))
        assert "expected a validity" in refusal(pem(leaf(below), *below.certificates), below)

    def test_a_missing_intermediate(self):
        """A leaf without its way up is refused."""
        below = subordinate(depth=2)
        for sent in ((), below.certificates[1:], below.certificates[:1]):
            assert "does not verify" in refusal(pem(leaf(below), *sent), below)

    def test_the_leaf_is_first(self):
        """The first certificate is the answer; a right one behind it does not count."""
        below = subordinate()
        sent = (below.certificate, leaf(below))
        assert "does not verify" in refusal(pem(*sent), below)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param(b"", "1 to 10 PEM CERTIFICATE blocks", id="empty"),
            pytest.param(b"hello", "1 to 10 PEM CERTIFICATE blocks", id="no-pem"),
            pytest.param(
                b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "1 to 10 PEM CERTIFICATE blocks",
                id="a-key",
            ),
            pytest.param(
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "certificates in PEM",
                id="no-der",
            ),
            pytest.param(
                b"-----BEGIN CERTIFICATE-----\nAAAA\n", "certificates in PEM", id="cut-off"
            ),
            pytest.param(b" " * (100 * 1024 + 1), "at most 102400 bytes", id="too-large"),
            pytest.param(
                pem(*[development_ca().authority] * 11), "1 to 10 PEM CERTIFICATE", id="too-many"
            ),
        ],
    )
    def test_malformed(self, by, text, message):
        """What is no chain is refused, and not shown."""
        shown = refusal(text, by)
        assert message in shown
        assert "AAAA" not in shown

    def test_other_digests(self, by):
        """A certificate that is signed with a digest of another family is refused."""
        assert "expected SHA-2" in refusal(pem(leaf(by, digest=hashes.SHA3_256())), by)
