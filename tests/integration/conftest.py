# SPDX-License-Identifier: Apache-2.0
"""The web, as the tests of those who call it know it: one authority, and its root in a file."""

from __future__ import annotations

import pytest
import trustme


@pytest.fixture(scope="module")
def web_ca():
    return trustme.CA()


@pytest.fixture(scope="module")
def roots(web_ca, tmp_path_factory):
    path = tmp_path_factory.mktemp("roots") / "roots.pem"
    web_ca.cert_pem.write_to_path(path)
    return path
