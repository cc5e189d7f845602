# SPDX-License-Identifier: Apache-2.0
"""The whole path: a partner's bundle from a file, its workload over TLS, and the policy's decision.

A partner matches no rule that does not name its trust domain, however much its paths are like ours.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from kubetls_sdk.authz import PolicySet
from kubetls_sdk.federation import FederatedSource
from kubetls_sdk.federation.signing import PartnerRoots
from kubetls_sdk.svid import X509Svid
from tests.integration.serving import World, read_to_end, serve
from tests.waiting import until

POLICY = """
version: 1
policies:
  - name: orders
    allow:
      - {name: account, from: {namespace: shop, serviceAccount: web}, to: {paths: /account}}
      - {name: negative, from: {namespace: "*", notNamespace: admin}, to: {paths: /negative}}
      - {name: namespace, from: {namespace: shop}, to: {paths: /namespace}}
      - name: partner
        from: {trustDomain: partner.example, namespace: shop}
        to: {paths: /partner}
      - name: acme
        from: {spiffeId: "spiffe://partners.example.org/acme/**"}
        to: {paths: /acme}
"""
OURS, THEIRS = ("/account", "/negative", "/namespace"), ("/partner",)


@pytest.fixture
def world(tmp_path):
    made = World()
    roots = PartnerRoots(tmp_path / "partners", made.ca.trust_domain)
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = request.sign(key, SHA256()).public_bytes(Encoding.PEM)
    leaf = roots.issue("acme", "/web", csr, now=made.ca.now, ttl=timedelta(hours=1))
    made.acme = X509Svid((leaf,), key)
    made.roots = roots
    (tmp_path / "partner.pem").write_bytes(made.partner.bundle.to_pem())
    file = tmp_path / "federation.yaml"
    file.write_text(
        "version: 1\npartners:\n- {trustDomain: partner.example, bundle: partner.pem}\n"
        f"- {{trustDomain: partners.example.org, bundle: {roots.bundle_file}}}\n"
    )
    made.file = file
    made.source.replace(bundles=type(made.source.snapshot.bundles)([made.ca.bundle]))
    with FederatedSource(made.source, file=file) as federated:
        made.source = federated
        yield made


@pytest.fixture
def statuses(world):
    policy = PolicySet.parse({"policy.yaml": POLICY}, trust_domain=world.ca.trust_domain)
    with serve(world, policy=policy) as serving:

        def ask(svid, *paths):
            found = []
            for path in paths:
                connection = serving.connect(world.client(svid))
                connection.sendall(
                    f"GET {path} HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n".encode()
                )
                found.append(int(read_to_end(connection).split(b" ", 2)[1]))
            return found

        yield ask


class TestPolicy:
    def test_our_workload(self, world, statuses):
        """Ours matches the rules that speak of our own domain, which is the default."""
        ours = world.ca.issue("/ns/shop/sa/web")
        assert statuses(ours, *OURS, *THEIRS) == [200, 200, 200, 403]

    def test_partner(self, world, statuses):
        """The partner's workload of the very same path matches only the rule that names it."""
        theirs = world.partner.issue("/ns/shop/sa/web")
        assert statuses(theirs, *OURS, *THEIRS) == [403, 403, 403, 200]

    def test_issued_by_us(self, world, statuses):
        """So does a partner's workload whose certificate is of ours."""
        assert statuses(world.acme, *OURS, *THEIRS, "/acme") == [403, 403, 403, 403, 200]

    def test_removed(self, world, statuses):
        """A partner that is removed does not get as far as the policy any more."""
        assert statuses(world.acme, "/acme") == [200]
        world.roots.revoke("acme")
        until(lambda: not len(world.source.snapshot.bundles[world.roots.trust_domain]))
        with pytest.raises((OSError, IndexError)):
            statuses(world.acme, "/acme")
        assert statuses(world.partner.issue("/ns/shop/sa/web"), "/partner") == [200]
