# SPDX-License-Identifier: Apache-2.0
"""What the external API of the edge example tells browsers with its answers."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from examples.edge.external import app


class TestGuards:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/", 200),
            ("/page/index.html", 200),
            ("/page/page.js", 200),
            ("/page/nothing", 404),
            ("/checks/headers", 200),
            ("/nothing", 404),
        ],
    )
    def test_each_answer(self, path, status):
        """Nothing is framed, sniffed or kept, and scripts are the page's own files alone."""
        answer = TestClient(app).get(path)
        assert answer.status_code == status
        assert "default-src 'none'; script-src 'self';" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers.get_list("cache-control") == ["no-store"]
