# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from webhook.api.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    error_of,
)


def status(code, reason="", message="", **more):
    return {"kind": "Status", "code": code, "reason": reason, "message": message, **more}


class TestErrorOf:
    @pytest.mark.parametrize(
        ("kind", "code", "reason"),
        [
            pytest.param(ForbiddenError, 403, "Forbidden", id="403"),
            pytest.param(NotFoundError, 404, "NotFound", id="404"),
            pytest.param(ConflictError, 409, "Conflict", id="409"),
            pytest.param(AlreadyExistsError, 409, "AlreadyExists", id="409 exists"),
            pytest.param(GoneError, 410, "Expired", id="410"),
            pytest.param(GoneError, 410, "Gone", id="410 gone"),
            pytest.param(InvalidError, 422, "Invalid", id="422"),
            pytest.param(ApiError, 400, "BadRequest", id="400"),
            pytest.param(ApiError, 500, "InternalError", id="500"),
        ],
    )
    def test_each_refusal_has_its_type(self, kind, code, reason):
        """Callers tell refusals apart by type, and find status and reason on them."""
        error = error_of(code, status(code, reason), what="get pods")
        assert (kind, code, reason) == (type(error), error.status, error.reason)

    @pytest.mark.parametrize("retryable", [429, 500, 502, 503, 504, 408])
    def test_trouble_of_the_server_may_pass(self, retryable):
        """The same request may succeed later."""
        assert error_of(retryable, b"", what="get pods").is_retryable

    @pytest.mark.parametrize("final", [400, 401, 403, 404, 405, 409, 410, 413, 422])
    def test_a_refusal_stays(self, final):
        """The same request would be refused again."""
        assert not error_of(final, b"", what="get pods").is_retryable

    @pytest.mark.parametrize(
        "answer",
        [b"", b"<html>", b"[1]", b"null", b"\xff", b'{"kind":"Pod","message":"x"}', {}, b'"a"'],
    )
    def test_an_answer_that_is_no_status_has_no_words(self, answer):
        """A proxy's page, or an object, is never repeated."""
        assert str(error_of(502, answer, what="get pods")) == "get pods: 502"

    def test_bytes_and_objects_read_the_same(self):
        """Errors come as bodies and as events of watches."""
        said = status(403, "Forbidden", "no")
        expected = str(error_of(403, said, what="x"))
        assert expected == str(error_of(403, json.dumps(said).encode(), what="x"))

    def test_words_about_a_secret_are_left_out(self):
        """Validation quotes values; only the names of fields are told."""
        causes = [{"field": "data[tls.key]", "message": 'Invalid value: "c2VjcmV0"'}]
        said = status(422, "Invalid", 'Invalid value: "c2VjcmV0"', details={"causes": causes})
        error = error_of(422, said, what="PUT secrets shop/x", quiet=True)
        assert str(error) == "PUT secrets shop/x: 422 Invalid: data[tls.key]"

    def test_control_characters_do_not_reach_a_log(self):
        """One message is one line."""
        error = error_of(403, status(403, message="a\r\nlevel=error\x1b[2J"), what="x")
        assert str(error).isprintable()

    def test_a_long_message_is_cut(self):
        """An answer of megabytes is no message."""
        assert len(str(error_of(400, status(400, message="x" * 10**6), what="x"))) < 700

    def test_the_wait_stands_in_the_status_too(self):
        """`retryAfterSeconds` counts where there is no header."""
        error = error_of(504, status(504, details={"retryAfterSeconds": 3}), what="x")
        assert error.retry_after == 3
