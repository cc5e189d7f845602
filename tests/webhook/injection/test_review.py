# SPDX-License-Identifier: Apache-2.0
"""What is a review and what is not; how an answer looks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhook.injection.world import UID, patch_of, pod, review_body
from webhook.exceptions import ReviewError
from webhook.injection.review import MAX_BYTES, MAX_DEPTH, Answer, parse_review


def changed(**request):
    return review_body(pod(), **request)


class TestParse:
    def test_a_creation(self):
        """The parts of a question that decide are read; `generateName` pods have no name."""
        review = parse_review(review_body(pod(), namespace="shop"))
        assert (review.uid, review.namespace, review.operation) == (UID, "shop", "CREATE")
        assert (review.subresource, review.old_pod) == ("", {})
        assert review.pod == pod()

    def test_an_update_of_ephemeral_containers(self):
        """An update comes with what it replaces."""
        body = changed(operation="UPDATE", subResource="ephemeralcontainers", oldObject=pod())
        review = parse_review(body)
        assert review.subresource == "ephemeralcontainers"
        assert review.old_pod == pod()

    def test_unknown_fields(self):
        """A newer API server may send more."""
        document = json.loads(changed(later={"x": 1}))
        document["another"] = [1.5, None]
        assert parse_review(json.dumps(document).encode()).uid == UID

    def test_its_repr(self):
        """The pod, whose environment may hold secrets, is not in the repr."""
        review = parse_review(changed(object=pod({"name": "a", "env": [{"value": "hunter2"}]})))
        assert "hunter2" not in repr(review)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            pytest.param(b"", "expected JSON in UTF-8", id="empty"),
            pytest.param(b"{", "expected JSON in UTF-8", id="cut"),
            pytest.param(b"\xff{}", "expected JSON in UTF-8", id="not UTF-8"),
            pytest.param(
                changed().decode().encode("utf-16"), "expected JSON in UTF-8", id="UTF-16"
            ),
            pytest.param(b'{"a": NaN}', "expected JSON in UTF-8", id="NaN"),
            pytest.param(b"1" * 5000, "expected JSON in UTF-8", id="a long number"),
            pytest.param(b"[]", "expected a JSON object", id="list"),
            pytest.param(b"null", "expected a JSON object", id="null"),
            pytest.param(b"{}", "expected AdmissionReview of admission.k8s.io/v1", id="nothing"),
            pytest.param(
                changed().replace(b"k8s.io/v1", b"k8s.io/v1beta1"),
                "expected AdmissionReview of admission.k8s.io/v1",
                id="v1beta1",
            ),
            pytest.param(b'{"a": 1, "a": 1}', "expected each key of an object once", id="twice"),
            pytest.param(changed(uid=""), "expected a valid uid of the request", id="no uid"),
            pytest.param(changed(uid="x\ud800"), "expected a valid uid of the request", id="uid"),
            pytest.param(changed(uid=7), "expected uid to be a text", id="uid of a number"),
            pytest.param(
                changed(namespace="../x"), "expected a valid namespace of the request", id="path"
            ),
            pytest.param(
                changed(namespace="shop\n"), "expected a valid namespace of the request", id="line"
            ),
            pytest.param(
                changed(operation="PATCH"),
                "expected operation to be CREATE, UPDATE, DELETE or CONNECT",
                id="operation",
            ),
            pytest.param(
                changed(resource={"group": "apps", "version": "v1", "resource": "deployments"}),
                "expected a review of pods of v1",
                id="Deployment",
            ),
            pytest.param(changed(object=[]), "expected object to be an object", id="object"),
            pytest.param(changed(dryRun="yes"), "expected dryRun to be true or false", id="dryRun"),
        ],
    )
    def test_what_is_none(self, body, message):
        """Anything else is answered with 400 and one clause."""
        with pytest.raises(ReviewError) as refused:
            parse_review(body)
        assert (refused.value.status, str(refused.value)) == (400, message)

    def test_size(self):
        """More than 3 MiB is not even looked at."""
        with pytest.raises(ReviewError) as refused:
            parse_review(b" " * (MAX_BYTES + 1))
        assert refused.value.status == 413

    @pytest.mark.parametrize("depth", [MAX_DEPTH, 1000, 100_000, 299_000])
    def test_depth(self, depth):
        """Deep nesting is refused, however deep."""
        for opening, closing in (b"[", b"]"), (b'{"a":', b"}"):
            with pytest.raises(ReviewError, match="expected JSON") as refused:
                parse_review(b'{"a":' + opening * depth + b"1" + closing * depth + b"}")
            assert refused.value.status == 400

    @pytest.mark.parametrize("item", [b"{}", b"[]"])
    def test_a_crowd(self, item):
        """A million of empty objects would stall every other review: it is not even read."""
        with pytest.raises(ReviewError, match="expected fewer objects and lists"):
            parse_review(b'{"a":[' + (item + b",") * 300_000 + b"1]}")

    def test_an_annotation_of_brackets(self):
        """The longest annotation may be nothing but brackets."""
        made = pod(annotations={"example.com/a": "{" * 262_144})
        assert parse_review(review_body(made)).pod == made

    def test_depth_that_is_fine(self):
        """Up to the bound it is not depth that is complained about."""
        count = MAX_DEPTH - 1
        with pytest.raises(ReviewError, match="expected AdmissionReview"):
            parse_review(b'{"a":' + b"[" * count + b"]" * count + b"}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def status(body):
    """The HTTP status that a body leads to."""
    try:
        parse_review(body)
    except ReviewError as err:
        return err.status
    return 200


class TestHostileBytes:
    @given(st.binary(max_size=300))
    def test_any_bytes(self, body):
        """No bytes lead to anything but a refusal of the sender."""
        with pytest.raises(ReviewError) as refused:
            parse_review(body)
        assert 400 <= refused.value.status < 500

    @given(st.data())
    def test_a_review_with_a_hole(self, data):
        """A review with any bytes in the middle is read or refused, nothing else."""
        body = changed()
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, len(body)))
        hole = data.draw(st.binary(max_size=20))
        assert status(body[:start] + hole + body[end:]) in (200, 400, 413)

    @given(
        st.sampled_from(["uid", "resource", "namespace", "operation", "object", "subResource"]),
        json_values,
    )
    def test_any_value_of_a_field(self, name, value):
        """A field of any JSON type is read or refused."""
        assert status(changed(**{name: value})) in (200, 400)


class TestAnswer:
    def answered(self, answer):
        document = json.loads(answer.to_json(UID))
        assert document.pop("apiVersion") == "admission.k8s.io/v1"
        assert document.pop("kind") == "AdmissionReview"
        assert list(document) == ["response"]
        assert document["response"].pop("uid") == UID
        return document["response"]

    def test_left_alone(self):
        """Without operations there is neither patch nor patchType."""
        assert self.answered(Answer()) == {"allowed": True}

    def test_patched(self):
        """Operations come as base64 of JSON."""
        operations = [{"op": "add", "path": "/x", "value": "é"}]
        response = self.answered(Answer(patch=operations, warnings=("w",), audit={"mode": "m"}))
        assert patch_of(response) == operations
        del response["patch"]
        assert response == {
            "allowed": True,
            "patchType": "JSONPatch",
            "warnings": ["w"],
            "auditAnnotations": {"mode": "m"},
        }

    def test_refused(self):
        """A refusal is 403 with the message, and no patch."""
        assert self.answered(Answer(message="no \ud800", patch=[{}])) == {
            "allowed": False,
            "status": {"code": 403, "reason": "Forbidden", "message": "no \ud800"},
        }
