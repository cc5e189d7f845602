# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.exceptions import ConfigurationError
from kubetls_sdk.spiffe_id import TrustDomain
from tests.webhook.trust.world import START
from webhook.trust.root_certificate import new_root, root_key_type

DOMAIN = TrustDomain.parse("example.org")


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


class TestNewRoot:
    @pytest.mark.parametrize("key_type", ["p256", "p384"])
    def test_it_is_an_authority_and_nothing_else(self, key_type):
        """Every usage bit, criticality and identifier is the profile's."""
        root = new_root(DOMAIN, "0badcafe", now=START, key_type=key_type).anchor
        constraints = extension(root, x509.BasicConstraints)
        usage = extension(root, x509.KeyUsage)
        assert constraints.critical
        assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
        assert usage.critical
        assert (usage.value.key_cert_sign, usage.value.crl_sign) == (True, True)
        assert not usage.value.digital_signature
        own = extension(root, x509.SubjectKeyIdentifier).value.digest
        assert extension(root, x509.AuthorityKeyIdentifier).value.key_identifier == own
        assert isinstance(root.public_key(), ec.EllipticCurvePublicKey)
        assert root_key_type(root) == key_type

    def test_it_names_its_trust_domain_and_no_workload(self):
        """An authority's SPIFFE ID has no path."""
        root = new_root(DOMAIN, "0badcafe", now=START).anchor
        names = extension(root, x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == ["spiffe://example.org"]

    def test_two_of_one_domain_share_nothing(self):
        """Subjects and key identifiers differ, so that no verifier mistakes one for the other."""
        one = new_root(DOMAIN, "00000001", now=START).anchor
        other = new_root(DOMAIN, "00000002", now=START).anchor
        assert one.subject != other.subject
        assert (
            extension(one, x509.SubjectKeyIdentifier).value
            != extension(other, x509.SubjectKeyIdentifier).value
        )

    def test_a_long_trust_domain_is_cut_and_the_id_kept(self):
        """A common name has at most 64 characters, and still tells two roots apart."""
        domain = TrustDomain.parse(".".join(["a" * 60] * 4))
        name = new_root(domain, "0badcafe", now=START).anchor.subject
        (text,) = (each.value for each in name)
        assert len(text) == 64
        assert text.endswith(" root 0badcafe")

    def test_it_is_valid_a_little_before_it_is_made(self):
        """A node whose clock is slow does not refuse it."""
        root = new_root(DOMAIN, "0badcafe", now=START, validity=timedelta(days=365)).anchor
        assert root.not_valid_before_utc == START - timedelta(minutes=5)
        assert root.not_valid_after_utc == START + timedelta(days=365)

    def test_openssl_takes_it_strictly(self, tmp_path):
        """`-x509_strict` finds nothing."""
        file = tmp_path / "root.pem"
        file.write_bytes(new_root(DOMAIN, "0badcafe", now=START).anchor.public_bytes(Encoding.PEM))
        command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-no_check_time"]
        done = subprocess.run([*command, "-CAfile", file, file], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_it_has_no_name_constraints(self):
        """Rustls and `cryptography` refuse all leaves under a root with the URI kind."""
        root = new_root(DOMAIN, "0badcafe", now=START).anchor
        with pytest.raises(x509.ExtensionNotFound):
            extension(root, x509.NameConstraints)

    @pytest.mark.parametrize(
        "terms",
        [
            pytest.param({"validity": timedelta(days=364)}, id="under a year"),
            pytest.param({"validity": timedelta(days=3660)}, id="over ten years"),
            pytest.param({"key_type": "rsa1024"}, id="another key"),
        ],
    )
    def test_other_terms_are_refused(self, terms):
        """One to ten years, P-256 or P-384."""
        with pytest.raises(ConfigurationError):
            new_root(DOMAIN, "0badcafe", now=START, **terms)
