# SPDX-License-Identifier: Apache-2.0
"""Requests as they are read from PodCertificateRequests."""

import base64
from datetime import timedelta

import pytest

from tests.webhook.issuance.samples import SIGNER, UID, key, pod_request, stub
from tests.webhook.issuance.test_csr import proof_of, spki
from webhook.config import KeyType
from webhook.exceptions import IssuanceError
from webhook.issuance.request import IssuanceRequest, from_pod_certificate_request


def encoded(content):
    return base64.b64encode(content).decode()


def older(private, **spec):
    """A request as a kubelet of 1.35 writes it to v1beta1."""
    found = pod_request(
        pkixPublicKey=encoded(spki(private)),
        proofOfPossession=encoded(proof_of(private, UID.encode())),
        **spec,
    )
    del found["spec"]["stubPKCS10Request"]
    return found


class TestFromPodCertificateRequest:
    def test_v1(self):
        """Every field comes from where the API server has verified it."""
        assert from_pod_certificate_request(pod_request()) == IssuanceRequest(
            namespace="shop",
            pod_name="web-0",
            pod_uid=UID,
            service_account="web",
            node_name="node-1",
            signer_name=SIGNER,
            public_key=key().public_key(),
            key_type=KeyType.ECDSA_P256,
            requested_lifetime=timedelta(hours=24),
            annotations={},
        )

    @pytest.mark.parametrize("kind", KeyType)
    def test_key_types(self, kind):
        """The type is the key's, in either form of request."""
        plain = from_pod_certificate_request(pod_request(der=stub(key(kind))))
        beta = from_pod_certificate_request(older(key(kind)))
        assert plain.key_type is beta.key_type is kind
        assert plain.public_key == beta.public_key == key(kind).public_key()

    def test_default_lifetime(self):
        """Without a maximum it is Kubernetes' default of a day."""
        found = from_pod_certificate_request(pod_request(maxExpirationSeconds=None))
        assert found.requested_lifetime == timedelta(days=1)

    def test_annotations(self):
        """What the author wrote to the signer is kept, to be refused."""
        found = from_pod_certificate_request(
            pod_request(unverifiedUserAnnotations={"example.org/admin": "yes"})
        )
        assert found.annotations == {"example.org/admin": "yes"}

    def test_a_request_of_1_35_in_v1(self):
        """A key that v1 does not show is no refusal: v1beta1 has it."""
        request = pod_request(stubPKCS10Request="")
        with pytest.raises(IssuanceError, match="v1beta1") as caught:
            from_pod_certificate_request(request)
        assert caught.value.is_retryable
        assert caught.value.reason == "OldNode"

    def test_repr(self):
        """The author's texts and the key are not in log lines."""
        request = pod_request(unverifiedUserAnnotations={"example.org/x": "secret-value"})
        shown = repr(from_pod_certificate_request(request))
        assert "secret-value" not in shown
        assert "public_key" not in shown

    @pytest.mark.parametrize(
        "field", ["podName", "podUID", "serviceAccountName", "nodeName", "signerName"]
    )
    def test_missing_fields(self, field):
        """A request without one of the verified fields is refused."""
        request = pod_request()
        del request["spec"][field]
        assert reason_of(request) == "InvalidRequest"

    @pytest.mark.parametrize(
        "spec",
        [
            pytest.param({"stubPKCS10Request": "not base64!"}, id="no-base64"),
            pytest.param({"stubPKCS10Request": "AAAA"}, id="no-der"),
            pytest.param({"stubPKCS10Request": 5}, id="number"),
            pytest.param({"maxExpirationSeconds": "3600"}, id="lifetime-text"),
            pytest.param({"maxExpirationSeconds": 10**20}, id="lifetime-huge"),
        ],
    )
    def test_malformed_fields(self, spec):
        """What the API server would never store is refused, without another error."""
        assert reason_of(pod_request(**spec)) == "InvalidRequest"

    @pytest.mark.parametrize("request_", [{}, {"metadata": {}}, {"metadata": None, "spec": None}])
    def test_other_objects(self, request_):
        """What is no request at all is refused."""
        assert reason_of(request_) == "InvalidRequest"

    def test_a_csr_with_names(self):
        """What the CSR says about its holder is never looked at: it is refused."""
        from tests.webhook.issuance.test_csr import CN

        assert reason_of(pod_request(der=stub(subject=[CN]))) == "NonEmptyRequest"


def reason_of(request):
    with pytest.raises(IssuanceError) as caught:
        from_pod_certificate_request(request)
    assert not caught.value.is_retryable
    return caught.value.reason
